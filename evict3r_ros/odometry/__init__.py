# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the robot is, in metres: integrated camera motion, the path so far, and the sources of the metric scale."""

from __future__ import annotations
