# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r eval`: errors of depth, poses and points against ground truth."""

from __future__ import annotations
