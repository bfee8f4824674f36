# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Play a bag into live topics: the recorded bytes as they are, and /clock ahead of the data of each instant."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from evict3r_ros.errors import UserError
from evict3r_ros.io.bag import BagReader
from evict3r_ros.io.stamps import NANOSECONDS
from evict3r_ros.ros.messages.message_types import message_class

CLOCK = '/clock'
_DEPTH, _MOST_LATCHED = 10, 1000
_NAP_S = 0.1  # a signal does not end a sleep


class Player:
    """Publish a bag's messages under their own topics, reliably, which best-effort subscribers hear as well."""

    def __init__(self, node: Node, bag: BagReader, topics: Iterable[str] | None = None) -> None:
        """Make the publishers, for all topics of the bag or some. Raises UserError for types not installed here."""
        self.time_ns = 0
        self._bag = bag
        self._publishers: dict[str, Publisher[Any]] = {}
        for name in bag.topics if topics is None else topics:
            if name not in bag.topics:
                raise UserError(f'{bag.path}: no topic {name}; it has {", ".join(sorted(bag.topics))}')
            if name == CLOCK:
                continue  # our own is told instead
            topic = bag.topics[name]
            durability = DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE
            # One publisher stands for all that published static transforms: a late subscriber gets each one's.
            depth = min(max(_DEPTH, topic.count), _MOST_LATCHED) if topic.is_static else _DEPTH
            quality = QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
            self._publishers[name] = node.create_publisher(message_class(topic.message_type), name, quality)
        self._clock = node.create_publisher(Clock, CLOCK, QoSProfile(depth=_DEPTH))

    def has_listener(self, topic: str) -> bool:
        """Return whether anybody has subscribed to a topic of the bag."""
        return self._publishers[topic].get_subscription_count() > 0

    @property
    def topics(self) -> list[str]:
        """The names of the topics that are played."""
        return list(self._publishers)

    def due(
        self,
        rate: float | None = 1.0,
        messages: Iterable[tuple[str, int, bytes]] | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[str, int, bytes]]:
        """Yield all messages in time order, each when its time has come: (topic, time in ns, CDR bytes), for publish().

        rate: bag seconds a second of real time; None: without waiting. messages: to play instead of all. stopped():
        ends it within a tenth of a second. A caller that needs longer between two of them delays those that follow,
        none is left out. Raises ValueError for a rate that isn't over 0.
        """
        if rate is not None and not rate > 0:
            raise ValueError(f'rate must be over 0, got {rate}')
        start_ns: int | None = None
        started = time.monotonic()
        for topic, time_ns, raw in self._bag.raw(self._publishers) if messages is None else messages:
            if start_ns is None:
                start_ns = time_ns
            due = started if rate is None else started + (time_ns - start_ns) / NANOSECONDS / rate
            while (left := due - time.monotonic()) > 0 and rate is not None and not stopped():
                time.sleep(min(left, _NAP_S))
            if stopped():
                return
            yield topic, time_ns, raw

    def publish(self, topic: str, time_ns: int, raw: bytes) -> None:
        """Publish a message, and before it the time, if that is a new one."""
        if time_ns != self.time_ns:
            self.time_ns = time_ns
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(time_ns, NANOSECONDS)
            self._clock.publish(message)
        self._publishers[topic].publish(raw)
