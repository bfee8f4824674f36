# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Stamps as whole nanoseconds, never through a float: exact-time synchronizers compare every digit."""

from __future__ import annotations

from typing import Any

NANOSECONDS = 10**9


def nanoseconds(stamp: Any) -> int:
    """Return a builtin_interfaces/Time, of ROS or of rosbags, in nanoseconds."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)
