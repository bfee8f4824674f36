# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A 3-D view of a node's outputs in rerun, without rviz."""

from __future__ import annotations
