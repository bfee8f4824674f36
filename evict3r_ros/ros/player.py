# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Plays a bag into live topics: the recorded bytes as they are, and /clock ahead of the data of each instant."""

import time
from collections.abc import Iterable, Iterator

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from evict3r_ros.errors import UserError
from evict3r_ros.io.bag import NANOSECONDS, BagReader
from evict3r_ros.ros.message_types import message_class

CLOCK = '/clock'
_DEPTH = 10


class Player:
    """Publishes a bag's messages under their own topics, reliably, which best-effort subscribers hear as well."""

    def __init__(self, node: Node, bag: BagReader, topics: Iterable[str] | None = None) -> None:
        """Make the publishers, for all topics of the bag or some. Raises UserError for types not installed here."""
        self.time_ns = 0
        self._bag = bag
        self._publishers: dict[str, Publisher] = {}
        for name in bag.topics if topics is None else topics:
            if name not in bag.topics:
                raise UserError(f'{bag.path}: no topic {name}; it has {", ".join(sorted(bag.topics))}')
            if name == CLOCK:
                continue  # our own is told instead
            topic = bag.topics[name]
            durability = DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE
            quality = QoSProfile(depth=_DEPTH, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
            self._publishers[name] = node.create_publisher(message_class(topic.message_type), name, quality)
        self._clock = node.create_publisher(Clock, CLOCK, QoSProfile(depth=_DEPTH))

    def has_listener(self, topic: str) -> bool:
        """Whether anybody has subscribed to a topic of the bag."""
        return self._publishers[topic].get_subscription_count() > 0

    def due(self, rate: float | None = 1.0) -> Iterator[tuple[str, int, bytes]]:
        """All messages in time order, each when its time has come: (topic, time in ns, CDR bytes), for publish().

        rate: bag seconds a second of real time; None: without waiting. A caller that needs longer between two of them
        delays those that follow, none is left out. Raises ValueError for a rate that isn't over 0.
        """
        if rate is not None and not rate > 0:
            raise ValueError(f'rate must be over 0, got {rate}')
        start_ns: int | None = None
        started = time.monotonic()
        for topic, time_ns, raw in self._bag.raw(self._publishers):
            if start_ns is None:
                start_ns = time_ns
            if rate is not None:
                due = started + (time_ns - start_ns) / NANOSECONDS / rate
                time.sleep(max(0.0, due - time.monotonic()))
            yield topic, time_ns, raw

    def publish(self, topic: str, time_ns: int, raw: bytes) -> None:
        """Publish a message, and before it the time, if that is a new one."""
        if time_ns != self.time_ns:
            self.time_ns = time_ns
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(time_ns, NANOSECONDS)
            self._clock.publish(message)
        self._publishers[topic].publish(raw)
