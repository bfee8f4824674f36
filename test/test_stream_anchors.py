# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the stream tells the cache of the camera, on poses and depths whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from evict3r_ros import geometry
from evict3r_ros.stream.anchors import AnchorChooser, motion

SIZE = (98, 154)
K = np.array([[77.0, 0.0, 77.0], [0.0, 77.0, 49.0], [0.0, 0.0, 1.0]])  # 90 degrees wide
WALL = np.full(SIZE, 4.0, dtype=np.float32)


def pose(yaw_degrees=0.0, position=(0.0, 0.0, 0.0)) -> np.ndarray:
    """World from a camera turned about its vertical axis, y."""
    return geometry.transform(Rotation.from_euler('y', yaw_degrees, degrees=True).as_matrix(), np.array(position))


def test_motion_is_angle_plus_share_of_depth():
    assert motion(pose(), pose(), 4.0) == 0.0
    assert motion(pose(10.0), pose(40.0), 4.0) == pytest.approx(math.radians(30.0))
    assert motion(pose(50.0), pose(50.0, (0.0, 3.0, 4.0)), 10.0) == pytest.approx(0.5)
    assert motion(pose(0.0), pose(180.0, (1.0, 0.0, 0.0)), 2.0) == pytest.approx(math.pi + 0.5)
    assert math.isfinite(motion(pose(), pose(0.0, (1.0, 0.0, 0.0)), 0.0))


def test_a_turn_brings_an_anchor_when_a_fifth_is_left():
    """A camera 90 degrees wide before a wall turns: tan of the angles says what share of the first view is left."""
    chooser = AnchorChooser()
    assert not chooser.is_anchor(WALL, K, pose())  # the first frame is pinned anyway
    chosen = [yaw for yaw in range(2, 181, 2) if chooser.is_anchor(WALL, K, pose(yaw))]
    # Turned by a, the wall's points from tan(a - 45) to 1 are inside: 40 % of tan's range from -1 to 1 at 56 degrees
    # across, of which perspective cuts off rows as well.
    assert 50 <= chosen[0] <= 80
    gaps = np.diff(chosen)
    assert (np.abs(gaps - chosen[0]) <= 4).all()


def test_standing_still_brings_none_and_reset_forgets():
    chooser = AnchorChooser()
    assert not any(chooser.is_anchor(WALL, K, pose()) for _ in range(20))
    assert chooser.is_anchor(WALL, K, pose(180.0))
    chooser.reset()
    assert not chooser.is_anchor(WALL, K, pose(90.0))


def test_points_behind_the_camera_are_not_seen():
    chooser = AnchorChooser()
    chooser.is_anchor(WALL, K, pose())
    assert chooser.is_anchor(WALL, K, pose(0.0, (0.0, 0.0, 9.0)))
