# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera frames with the axes of a body, by their transform to the base and by their name."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

from scipy.spatial.transform import Rotation

from evict3r_ros import geometry
from evict3r_ros.ros.perception.optical_frame import doubt_about_axes


def turned(yaw: float, pitch: float = 0.0, roll: float = 0.0, optical: bool = False) -> np.ndarray:
    """Return base_from_camera of a camera whose body is turned by these degrees (pitch: nose down)."""
    body = geometry.transform(Rotation.from_euler('ZYX', [yaw, pitch, roll], degrees=True).as_matrix(), np.ones(3))
    return body @ geometry.BODY_FROM_OPTICAL if optical else body


@pytest.mark.parametrize('yaw', [0, 90, 180, -60])
@pytest.mark.parametrize('pitch', [-40, -10, 0, 25, 50])
@pytest.mark.parametrize('roll', [-10, 0, 15])
def test_a_body_frame_is_doubted_and_the_optical_one_beside_it_is_not(yaw, pitch, roll):
    told = doubt_about_axes('camera', turned(yaw, pitch, roll))
    assert 'z axis, points up' in told and "'camera'" in told
    assert doubt_about_axes('camera', turned(yaw, pitch, roll, optical=True)) == ''


@pytest.mark.parametrize('pitch', [85, 90, 60, 30, -30, -60])
def test_an_optical_camera_may_look_down_or_up(pitch):
    """But straight up at a ceiling the name has to say that it is optical."""
    assert doubt_about_axes('cam', turned(30, pitch, optical=True)) == ''


def test_a_ceiling_camera_is_believed_by_its_name():
    up = turned(30, -90, optical=True)
    assert doubt_about_axes('ceiling_optical_frame', up) == ''
    assert doubt_about_axes('ceiling', up)


def test_an_optical_name_on_a_frame_that_is_not_turned_at_all_is_doubted():
    """A static transform that was published without its rotation."""
    assert doubt_about_axes('camera_optical_frame', turned(0))
    assert doubt_about_axes('robot/camera_color_optical_frame', turned(3, 2))


@pytest.mark.parametrize(
    ('frame', 'doubted'),
    [
        ('camera_link', True),
        ('robot1/base_link', True),
        ('base_footprint', True),
        ('cam0', False),
        ('', False),
        ('camera_optical_frame', False),
        ('zed_left_camera_frame_optical', False),
        ('default_cam', False),
    ],
)
def test_without_a_transform_the_name_speaks(frame, doubted):
    assert bool(doubt_about_axes(frame, None)) == doubted
