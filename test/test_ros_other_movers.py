# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Who else moves a frame: known by parent, pose and stamp, remembered until it is asked to forget, heard before us."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

from rclpy.serialization import serialize_message
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from evict3r_ros import geometry
from evict3r_ros.ros.messages.conversions import transform_from_pose
from evict3r_ros.ros.perception.other_movers import OtherMovers


def edge(parent: str, child: str, seconds: int = 1, x: float = 0.0):
    header = Header(frame_id=parent)
    header.stamp.sec = seconds
    return transform_from_pose(geometry.transform(np.eye(3), np.array([x, 0.0, 0.0])), header, child)


class Listener:
    """Movers with a clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.movers = OtherMovers(lambda: self.now)

    def hear(self, *edges) -> str:
        """Hear a message of /tf; return who moves the followed frame."""
        self.movers.hear(serialize_message(TFMessage(transforms=edges)))
        return self.movers.found()


@pytest.fixture
def listener() -> Listener:
    listener = Listener()
    listener.movers.start()
    return listener


def test_our_own_and_other_frames_are_no_movers(listener):
    listener.movers.follow('odom', 'base_link')
    ours = edge('odom', 'base_link')
    listener.movers.sending(ours)
    assert listener.hear(ours, edge('base_link', 'wheel'), edge('odom', 'base_link_2'), edge('map', 'odom')) == ''


@pytest.mark.parametrize(
    'other',
    [
        edge('vslam_odom', 'base_link'),  # another visual odometry, with the stamp of the same image
        edge('odom', 'base_link', x=0.01),  # of the same origin, but not ours
        edge('odom', 'base_link', seconds=2),
        edge('base_link', 'odom'),  # upside down, as an odometry that is inverted
    ],
)
def test_another_is_known_by_parent_pose_and_stamp(listener, other):
    listener.movers.follow('odom', 'base_link')
    listener.movers.sending(edge('odom', 'base_link'))
    assert listener.hear(other) == f'{other.header.frame_id} -> {other.child_frame_id}'


def test_a_slash_of_ros_1_is_no_other_frame(listener):
    listener.movers.follow('odom', 'base_link')
    assert listener.hear(edge('/wheel_odom', '/base_link')) == 'wheel_odom -> base_link'


def test_who_spoke_before_the_frame_was_known_is_remembered(listener):
    """From configure on, when nobody knows yet which frame the first image will move."""
    assert listener.hear(edge('odom', 'base_link'), edge('odom', 'other_robot')) == ''
    listener.now += 50.0
    listener.movers.follow('odom', 'base_link')
    assert listener.movers.found() == 'odom -> base_link' and listener.movers.listened_s() == 50.0


def test_once_seen_is_seen_until_it_is_forgotten_in_its_silence(listener):
    listener.movers.follow('odom', 'base_link')
    listener.hear(edge('map', 'base_link'))
    listener.now += 3600.0
    assert listener.movers.found()
    listener.hear(edge('map', 'base_link'))
    listener.now += 1.0
    listener.movers.forget(silent_s=2.0)
    assert listener.movers.found(), 'it still speaks'
    listener.now += 1.5
    listener.movers.forget(silent_s=2.0)
    assert listener.movers.found() == ''


def test_a_frame_that_nobody_foresaw_is_listened_for_anew(listener):
    listener.now += 5.0
    listener.movers.follow('odom', 'camera', 'base_link')
    listener.hear(edge('mast', 'camera'))
    listener.now += 5.0
    listener.movers.follow('odom', 'base_link')
    assert listener.movers.found() == '' and listener.movers.listened_s() == 10.0
    listener.movers.follow('odom', 'base_footprint')
    assert listener.movers.found() == '' and listener.movers.listened_s() == 0.0
    listener.movers.follow('odom', 'camera')
    assert listener.movers.found() == 'mast -> camera', 'what was seen of a frame is not forgotten meanwhile'
    for number in range(100):
        listener.movers.follow('odom', f'camera_{number}')
    assert len(listener.movers._since) == 64


def test_nothing_is_heard_before_the_start_and_after_the_stop():
    listener = Listener()
    assert listener.movers.listened_s() == -math.inf
    listener.hear(edge('map', 'base_link'))
    listener.movers.start()
    listener.movers.follow('odom', 'base_link')
    assert listener.movers.found() == ''
    listener.movers.stop()
    assert listener.hear(edge('map', 'base_link')) == ''


def test_thousands_of_frames_do_not_fill_the_memory(listener):
    for number in range(100):
        listener.hear(*(edge('map', f'tag_{number}_{i}') for i in range(100)))
    assert len(listener.movers._heard) == 4096
