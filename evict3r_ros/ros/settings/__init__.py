# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node's parameters, and the stream that they describe."""

from __future__ import annotations
