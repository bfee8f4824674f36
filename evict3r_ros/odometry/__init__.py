# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the robot is, in metres: the camera's motion integrated, the path that it leaves, and where metres come from."""

from __future__ import annotations
