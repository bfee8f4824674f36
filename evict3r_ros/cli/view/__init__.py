# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r view`: the answers in 3-D."""

from __future__ import annotations
