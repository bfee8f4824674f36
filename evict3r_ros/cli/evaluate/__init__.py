# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r eval`: depth, poses and points against the truth."""

from __future__ import annotations
