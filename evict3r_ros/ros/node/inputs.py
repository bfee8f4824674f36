# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The topics that an active node listens to, and what is wrong with them from outside."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from nav_msgs.msg import Odometry
from rclpy.clock import JumpHandle, JumpThreshold, ROSClock
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from evict3r_ros.io.stamps import nanoseconds
from evict3r_ros.ros.messages.message_types import message_name
from evict3r_ros.ros.node import qos
from evict3r_ros.ros.node.silence import SilenceWatch
from evict3r_ros.ros.perception.faults import Faults, FrameRefused
from evict3r_ros.ros.perception.perception import Perception
from evict3r_ros.ros.perception.scale_inputs import ScaleInputs
from evict3r_ros.ros.perception.stamps import Moment
from evict3r_ros.ros.perception.transforms import StaticTransforms
from evict3r_ros.ros.settings.parameters import Settings

_SET_BACK = Duration(nanoseconds=-10_000_000)  # of /clock: by less it may come out of order


def arrival_ns(node: Node) -> int:
    """Return the time by a clock that nobody sets: simulated time where it is used, or else a steady clock."""
    clock = node.get_clock()
    if isinstance(clock, ROSClock) and clock.ros_time_is_active:
        return clock.now().nanoseconds
    return time.monotonic_ns()


class Inputs:
    """Subscriptions from activate to deactivate.

    offer(message, moment): takes each image. refuse(error): is told of each whose stamp is wrong. Raises UserError for
    overrides of quality that cannot be.
    """

    def __init__(
        self,
        node: Node,
        settings: Settings,
        perception: Perception,
        transforms: StaticTransforms,
        faults: Faults,
        offer: Callable[[Image | CompressedImage, Moment], None],
        refuse: Callable[[Exception], None],
    ) -> None:
        self._node, self._faults, self._offer, self._refuse = node, faults, offer, refuse
        self._stamps, self._on_info = perception.stamps, perception.camera.on_camera_info
        compressed = settings.image_transport == 'compressed'
        self._image_kind = CompressedImage if compressed else Image
        self.image_topic = node.resolve_topic_name('image/compressed' if compressed else 'image')
        self._images = 0
        self._most_publishers = 1
        self._jumps: JumpHandle | None = None
        self._subscriptions = []
        self._info_topic = node.resolve_topic_name('camera_info')
        self._latched: Subscription[CameraInfo] | None = None
        self._latching = threading.Lock()  # status looks for publishers that latch, which a transition may come across
        scale = ScaleInputs(perception.scale, transforms, settings.frames_base, faults)
        topics = [(CameraInfo, 'camera_info', self._on_info)]
        self._image_silence = SilenceWatch('image', self.image_topic, lambda: self._images)
        self._scale_silence: SilenceWatch | None = None
        scale_inputs = {
            'odometry': (Odometry, 'odom_in', scale.on_odometry),
            'depth': (Image, 'depth_in', scale.on_depth),
        }
        if settings.scale_source in scale_inputs:
            topics.append(scale_inputs[settings.scale_source])
            name = topics[-1][1]
            resolved = node.resolve_topic_name(name)
            self._scale_silence = SilenceWatch(f'usable {name}', resolved, lambda: scale.used)
        topics.append((self._image_kind, self.image_topic, self._on_image))
        try:
            for kind, topic, callback in topics:
                self._subscriptions.append(qos.subscribe_to(node, kind, topic, callback, qos.sensor()))
            self.follow_latched()
        except Exception:
            self.close()
            raise
        self._jumps = node.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=_SET_BACK, on_clock_change=False),
            post_callback=lambda _: self._stamps.clock_set_back(),
        )

    def follow_latched(self) -> None:
        """Ask for a camera_info of before as long as somebody latches one; to be called now and then."""
        with self._latching:
            wanted = bool(self._subscriptions) and qos.is_latched(self._node, self._info_topic)
            if wanted and self._latched is None:
                self._latched = qos.subscribe_to_latched(self._node, CameraInfo, 'camera_info', self._on_info)
            elif not wanted and self._latched is not None:
                self._node.destroy_subscription(self._latched)
                self._latched = None

    def conditions(self) -> list[str]:
        """Return what is wrong at the moment, in words.

        An odom_in or depth_in that is silent is counted when that begins, several publishers when there are more.
        """
        wrong = []
        silence, _ = self._image_silence.update()
        if silence:
            wrong.append(f'{silence}{self._other_types()}')
        if self._scale_silence is not None:
            silence, is_new = self._scale_silence.update()
            if silence:
                wrong.append(f'{silence}: without it nothing becomes metric')
            if is_new:
                self._faults.count('silent_input', wrong[-1])
        publishers = self._node.count_publishers(self.image_topic)
        if publishers > 1:
            text = f'{publishers} publishers on {self.image_topic}: two cameras in one stream make no sense'
            wrong.append(text)
            if publishers > self._most_publishers:
                self._faults.count('two_publishers', text)
        self._most_publishers = max(1, publishers)
        return wrong

    def _other_types(self) -> str:
        """Return, in words, as what the image topic is published that this node does not read there; '' if nothing."""
        offers = self._node.get_publishers_info_by_topic(self.image_topic)
        ours = message_name(self._image_kind)
        others = sorted({offer.topic_type for offer in offers} - {ours})
        if not others:
            return ''
        return f': it is published as {", ".join(others)}, and image_transport asks for {ours}'

    def close(self) -> None:
        """Unsubscribe."""
        if self._jumps is not None:
            self._jumps.unregister()
            self._jumps = None
        with self._latching:
            latched = [] if self._latched is None else [self._latched]
            for subscription in (*self._subscriptions, *latched):
                self._node.destroy_subscription(subscription)
            self._subscriptions, self._latched = [], None

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._images += 1
        try:
            moment = self._stamps.admit(nanoseconds(message.header.stamp), arrival_ns(self._node))
        except FrameRefused as error:
            self._refuse(error)
            return
        self._offer(message, moment)
