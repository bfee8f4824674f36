# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Who else moves a frame: heard, told once, forgotten after a silence. Our own transforms and other frames are not."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

from ros_robot import RELIABLE
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from evict3r_ros.ros.messages.conversions import transform_from_pose
from evict3r_ros.ros.node import tf_watch
from evict3r_ros.ros.tools.session import Session

pytestmark = pytest.mark.ros


def edge(parent: str, child: str, seconds: int):
    header = Header(frame_id=parent)
    header.stamp.sec = seconds
    return transform_from_pose(np.eye(4), header, child)


def test_another_parent_is_found_told_once_and_forgotten(monkeypatch):
    monkeypatch.setattr(tf_watch, 'FORGET_S', (0.4, 0.4))
    found: list[str] = []
    with Session('watching') as ours, Session('other') as other:
        watch = tf_watch.ParentWatch(ours.node, found.append, ours.node.default_callback_group)
        watch.watch('base_link')
        publisher = other.node.create_publisher(TFMessage, '/tf', RELIABLE)

        def send(*transforms) -> None:
            publisher.publish(TFMessage(transforms=transforms))

        def until(condition) -> None:
            deadline = time.monotonic() + 20.0
            while not condition():
                assert time.monotonic() < deadline
                time.sleep(0.01)

        until(lambda: publisher.get_subscription_count() == 1)
        mine = edge('odom', 'base_link', 1)
        watch.sending(mine)
        send(mine, edge('base_link', 'wheel', 1), edge('odom', 'base_link_2', 1))
        send(edge('map', 'base_link', 2), edge('map', 'base_link', 3))
        until(lambda: watch.other_parent())
        assert (watch.other_parent(), found) == ('map', ['map'])
        until(lambda: not watch.other_parent())
        send(edge('/odom', '/base_link', 4))  # the same frames as ours, but not ours; with a slash of ROS 1
        until(lambda: watch.other_parent())
        assert (watch.other_parent(), found) == ('odom', ['map', 'odom'])
        watch.watch('camera')
        assert watch.other_parent() == ''
