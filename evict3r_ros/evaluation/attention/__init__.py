# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Record and draw what the network attends to and what the cache keeps."""

from __future__ import annotations
