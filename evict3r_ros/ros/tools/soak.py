# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A camera in front of a live node for minutes: what is answered, what is dropped, how late, and what it costs."""

from __future__ import annotations

import math
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from evict3r_ros.errors import UserError
from evict3r_ros.io.answer import AnswerTopics
from evict3r_ros.io.bag import header_stamp_ns
from evict3r_ros.io.stamps import NANOSECONDS
from evict3r_ros.msg import StreamStatus
from evict3r_ros.profiling.process import cpu_seconds, resident_bytes
from evict3r_ros.ros.messages.conversions import image_from_rgb
from evict3r_ros.ros.messages.message_types import message_class
from evict3r_ros.ros.tools.node_process import NodeProcess
from evict3r_ros.ros.tools.session import Session
from evict3r_ros.ros.tools.soak_report import Arrivals, LiveSoak, Looks
from evict3r_ros.ros.tools.waiting import wait_until

LOOK_S = 1.0
_CONNECT_S = 30.0
_LAST_ANSWER_S = 3.0
_JPEG_QUALITY = 90
_STAMP = struct.Struct('<iI')
_STAMP_AT = 4
"""Of the header's stamp in a message in CDR, little-endian: behind the encapsulation."""


@dataclass(frozen=True)
class SimulatedCamera:
    """What the node is to see."""

    images: Sequence[np.ndarray]
    """(h, w, 3) uint8 RGB each, shown there and back again."""
    rate: float
    """Images a second."""
    compressed: bool = False
    """Whether as JPEG on image/compressed."""

    def messages(self) -> list[bytearray]:
        """Return the images in CDR, so that to send one costs nothing but its stamp."""
        kind = self._jpeg if self.compressed else image_from_rgb
        header = Header(frame_id='camera')
        return [bytearray(serialize_message(kind(image, header))) for image in (*self.images, *self.images[-2:0:-1])]

    @staticmethod
    def _jpeg(image: np.ndarray, header: Header) -> CompressedImage:
        data = cv2.imencode('.jpg', image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))[1]
        return CompressedImage(header=header, format='rgb8; jpeg compressed bgr8', data=data.tobytes())


@dataclass
class _Listener:
    """Hears the node's outputs; called from the session's thread."""

    topics: AnswerTopics
    everything: bool
    lock: threading.Lock = field(default_factory=threading.Lock)
    heard: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """(arrival, stamp) in nanoseconds, of odometry and clouds."""
    status: StreamStatus | None = None

    def subscribe(self, session: Session) -> None:
        reliable = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
        session.node.create_subscription(StreamStatus, self.topics.status, self._take, reliable)
        for topic, kind in self.topics.types().items():
            if topic == self.topics.odometry or (self.everything and topic != self.topics.status):
                session.node.create_subscription(message_class(kind), topic, self._hearing(topic), reliable, raw=True)

    def arrivals(self, topic: str, sent_ns: np.ndarray) -> Arrivals:
        with self.lock:
            heard = np.array(self.heard.get(topic, []), np.int64).reshape(-1, 2)
        # Odometry goes on when images end, with stamps of its own.
        heard = heard[np.isin(heard[:, 1], sent_ns)]
        return Arrivals(heard[:, 0], heard[:, 1])

    def _take(self, status: StreamStatus) -> None:
        self.status = status

    def _hearing(self, topic: str) -> Callable[[bytes], None]:
        if topic not in (self.topics.odometry, self.topics.points):
            return lambda _: None
        heard = self.heard.setdefault(topic, [])

        def hear(raw: bytes) -> None:
            now = time.time_ns()
            with self.lock:
                heard.append((now, header_stamp_ns(raw)))

        return hear


def run(
    session: Session,
    process: NodeProcess,
    node: str,
    camera: SimulatedCamera,
    seconds: float,
    everything: bool,
    start_to_active_s: float,
    progress: Callable[[], object],
) -> LiveSoak:
    """Show the camera's images to an active node of this name for some time.

    everything: whether all outputs are subscribed to, or odometry and status alone. start_to_active_s: how long the
    node took, for the report. Raises UserError if the node ends or is not found.
    """
    listener = _Listener(AnswerTopics.of_node(node), everything)
    best_effort = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    kind, topic = (CompressedImage, 'image/compressed') if camera.compressed else (Image, 'image')
    publisher = session.node.create_publisher(kind, topic, best_effort)
    listener.subscribe(session)
    if not wait_until(
        lambda: publisher.get_subscription_count() > 0 and listener.status is not None, _CONNECT_S, process.check
    ):
        raise UserError(f'the node and this program did not find each other in {_CONNECT_S:g} s')
    messages = camera.messages()
    sent: list[int] = []
    looks: list[tuple[float, int, float]] = []
    started = time.time()
    tick, last, longest = 0, started, 0.0
    while time.time() - started < seconds:
        if time.time() - started >= len(looks) * LOOK_S:
            looks.append((time.time() - started, resident_bytes(process.pid), cpu_seconds(process.pid)))
            process.check()
            session.check()
        message = messages[len(sent) % len(messages)]
        sent.append(time.time_ns())
        _STAMP.pack_into(message, _STAMP_AT, *divmod(sent[-1], NANOSECONDS))
        publisher.publish(bytes(message))
        longest, last = max(longest, time.time() - last), time.time()
        progress()
        # A camera that was held up does not hurry afterwards: ticks that are over are left out.
        tick = max(tick + 1, math.ceil((time.time() - started) * camera.rate))
        time.sleep(max(0.0, started + tick / camera.rate - time.time()))
    time.sleep(_LAST_ANSWER_S)
    session.check()
    assert listener.status is not None
    topics, sent_ns = listener.topics, np.array(sent, np.int64)
    return LiveSoak(
        sent_ns,
        longest,
        listener.status,
        listener.arrivals(topics.odometry, sent_ns),
        listener.arrivals(topics.points, sent_ns) if everything else None,
        Looks(*np.array(looks).T),
        start_to_active_s,
    )
