# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Odometry's path as the map has it."""

from __future__ import annotations

import numpy as np

from evict3r_ros import geometry
from evict3r_ros.mapping.sim3 import Sim3


def corrected_path(stamps: np.ndarray, poses: np.ndarray, corrections: list[tuple[int, Sim3]]) -> np.ndarray:
    """Return poses (n, 4, 4) of odometry in the map's world, by the corrections at keyframes and evenly in between.

    stamps: (n,) ascending, of the poses; corrections: see ``Mapper.corrections``.
    """
    if not corrections:
        return poses
    keys = np.array([stamp for stamp, _ in corrections])
    moved = np.empty_like(poses)
    for index, (stamp, pose) in enumerate(zip(stamps, poses, strict=True)):
        after = int(np.clip(np.searchsorted(keys, stamp), 0, len(keys) - 1))
        before = max(after - 1, 0)
        span = keys[after] - keys[before]
        share = float(np.clip((stamp - keys[before]) / span, 0.0, 1.0)) if span else 1.0
        moved[index] = geometry.interpolate_pose(
            corrections[before][1].pose(pose), corrections[after][1].pose(pose), share
        )
    return moved
