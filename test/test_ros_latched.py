# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What was said once, before anybody listened: heard from publishers that latch it, and those that do not as well."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

from rclpy.node import PublisherEventCallbacks
from ros_bench import DEFAULTS, MOUNT, info
from ros_robot import BEST_EFFORT, LATCHED, RELIABLE, Robot
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from evict3r_ros.ros.messages.conversions import transform_from_pose
from evict3r_ros.ros.node import qos
from evict3r_ros.ros.node.inputs import Inputs
from evict3r_ros.ros.perception.transforms import StaticTransforms, listen
from evict3r_ros.ros.tools.session import Session

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]


@pytest.fixture(scope='module')
def robot() -> Iterator[Robot]:
    with Robot(points=False) as robot:
        yield robot


def test_a_camera_info_that_was_latched_before_the_start_is_heard(robot):
    once = robot.node.create_publisher(CameraInfo, 'lens', LATCHED)
    once.publish(info(focal=71.0))
    with Session('listener') as listener:
        heard: list[float] = []

        def hear(message: CameraInfo) -> None:
            heard.append(message.k[0])

        qos.subscribe_to(listener.node, CameraInfo, 'lens', hear, qos.sensor())
        qos.subscribe_to_latched(listener.node, CameraInfo, 'lens', hear)
        robot.until(lambda: heard == [71.0], 'the latched one, once')
        again = robot.node.create_publisher(CameraInfo, 'lens', BEST_EFFORT)
        robot.until(
            lambda: again.get_subscription_count() == 1, 'a publisher that does not latch is heard by one of both'
        )
        again.publish(info(focal=72.0))
        robot.until(lambda: 72.0 in heard, 'the one that is not latched')


def test_only_where_a_camera_info_is_latched_one_of_before_is_asked_for(robot):
    """A driver that does not latch would log that what is asked of it does not match."""
    asked = threading.Event()
    driver = robot.node.create_publisher(
        CameraInfo,
        'camera_info',
        RELIABLE,
        event_callbacks=PublisherEventCallbacks(incompatible_qos=lambda _: asked.set()),
    )
    with Session('listener') as listener:
        heard: list[float] = []
        camera = SimpleNamespace(on_camera_info=lambda message: heard.append(message.k[0]))
        inputs = Inputs(
            listener.node,
            DEFAULTS,
            SimpleNamespace(stamps=None, scale=None, camera=camera),
            StaticTransforms(),
            None,
            lambda message, moment: None,
            lambda error: None,
        )

        def subscriptions() -> int:
            inputs.follow_latched()
            return robot.node.count_subscribers('camera_info')

        robot.until(
            lambda: driver.get_subscription_count() == 1 and listener.node.count_publishers('camera_info') >= 1,
            'the driver and the node',
        )
        assert subscriptions() == 1 and not asked.is_set()
        once = robot.node.create_publisher(CameraInfo, 'camera_info', LATCHED)
        once.publish(info(focal=71.0))
        robot.until(lambda: subscriptions() == 2 and 71.0 in heard, 'the latched one')
        robot.until(asked.is_set, 'the driver, which is asked as well, notices')
        robot.node.destroy_publisher(once)
        robot.until(lambda: subscriptions() == 1, 'nobody latches any more')
        inputs.close()
        robot.until(lambda: subscriptions() == 0, 'nothing is left behind')
    robot.node.destroy_publisher(driver)


def test_static_transforms_are_heard_in_either_quality(robot):
    def told(camera: str) -> TFMessage:
        return TFMessage(transforms=[transform_from_pose(MOUNT, Header(frame_id='base_link'), camera)])

    robot.tf_static.publish(told('before'))
    with Session('listener') as listener:
        static = StaticTransforms()
        listen(listener.node, static, listener.node.default_callback_group)
        robot.until(lambda: static.find('base_link', 'before') is not None, 'the latched one')
        played = robot.node.create_publisher(TFMessage, '/tf_static', RELIABLE)
        robot.until(lambda: played.get_subscription_count() == 1, 'a bag that is played without that quality')
        played.publish(told('later'))
        robot.until(lambda: static.find('base_link', 'later') is not None, 'the one that is not latched')
        np.testing.assert_allclose(static.find('base_link', 'later'), MOUNT, atol=1e-12)
