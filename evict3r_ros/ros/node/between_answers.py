# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the node says of the robot's place between two answers: a predicted transform, and a pose that gets old.

A controller wants odom -> base at 30 to 50 Hz and of now, and a camera gives it at its own rate and late. A filter
wants to hear that a pose gets old.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from geometry_msgs.msg import TransformStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]  # Humble has no rclpy.clock_type
from rclpy.node import Node
from std_msgs.msg import Header

from evict3r_ros import geometry
from evict3r_ros.io.stamps import NANOSECONDS
from evict3r_ros.ros.messages.conversions import transform_from_pose
from evict3r_ros.ros.node.inputs import arrival_ns
from evict3r_ros.ros.node.outputs import Outputs
from evict3r_ros.ros.perception.perception import Answer, Perception

HORIZON_NS = NANOSECONDS  # how far from its image a pose is predicted
COASTING_NS = 10 * NANOSECONDS  # how long the last pose is said again without an image
COASTING_HZ = 5.0
_LATE_NS = NANOSECONDS // 5  # how much longer than the last image the next may be on its way, and be no step back
_OWN_CLOCK_NS = NANOSECONDS // 2  # how far stamps of this machine's clock are from it


class BetweenAnswers:
    """Timers from activate to deactivate.

    publish_transform(transform): where predictions go, if this node may publish them. idle(): whether no image is in
    work.
    """

    def __init__(
        self,
        node: Node,
        perception: Perception,
        outputs: Outputs,
        publish_transform: Callable[[TransformStamped], None],
        idle: Callable[[], bool],
    ) -> None:
        self._node, self._perception, self._outputs = node, perception, outputs
        self._publish_transform, self._idle = publish_transform, idle
        self._answer: Answer | None = None
        self._predicted = 0, 0  # era and stamp
        rate = perception.settings.tf_prediction_rate
        group, clock = MutuallyExclusiveCallbackGroup(), Clock(clock_type=ClockType.STEADY_TIME)
        self._lock = threading.Lock()  # what a transition ends is not in the middle of a publication
        self._timers = [node.create_timer(1.0 / COASTING_HZ, self._coast, callback_group=group, clock=clock)]
        if rate > 0.0:
            self._timers.append(node.create_timer(1.0 / rate, self._predict, callback_group=group, clock=clock))

    def answered(self, answer: Answer) -> None:
        """Know the latest answer, once it is published; from any thread."""
        self._answer = answer

    def close(self) -> None:
        """Say nothing more."""
        with self._lock:
            for timer in self._timers:
                self._node.destroy_timer(timer)
            self._timers = []

    def _coast(self) -> None:
        """Publish the last pose again while no image comes."""
        stamps, now_ns = self._perception.stamps, arrival_ns(self._node)
        moment = stamps.now(now_ns)
        if moment is None or not 0 < stamps.silence_ns(now_ns) <= COASTING_NS or not self._idle():
            return
        odometry = self._perception.coast(replace(moment, stamp_ns=moment.stamp_ns - _LATE_NS))
        with self._lock:
            if odometry is not None and self._timers:
                self._outputs.publish_odometry(odometry)

    def _predict(self) -> None:
        """Publish where the robot is by now if it went on as it moved."""
        answer, moment = self._answer, self._perception.stamps.now(arrival_ns(self._node))
        if answer is None or answer.transform is None or moment is None:
            return
        if (moment.era, moment.shift_ns) != (answer.moment.era, answer.moment.shift_ns):
            return
        stamp_ns = moment.stamp_ns
        own_ns = self._node.get_clock().now().nanoseconds
        if abs(own_ns - stamp_ns) < _OWN_CLOCK_NS:
            stamp_ns = own_ns  # then an image's way to this node is known as well
        # Of two transforms with one stamp tf2 answers with either, and it has to be the measured one: no simulation's
        # clock, which images and this node may share, shows a time that ends so.
        stamp_ns += 1 - stamp_ns % 1000
        ahead_ns = stamp_ns - answer.state.stamp_ns
        if not 0 < ahead_ns <= HORIZON_NS or (moment.era, stamp_ns) <= self._predicted:
            return
        self._predicted = moment.era, stamp_ns
        motion = geometry.motion_of_twist(answer.state.twist * (ahead_ns / NANOSECONDS))
        header = Header(frame_id=answer.transform.header.frame_id)
        header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, NANOSECONDS)
        pose = answer.state.odom_from_child @ motion
        with self._lock:
            if self._timers:
                self._publish_transform(transform_from_pose(pose, header, answer.transform.child_frame_id))
