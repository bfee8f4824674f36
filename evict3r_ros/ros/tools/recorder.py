# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Record live topics into a bag: the bytes as they come, nothing decoded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from types import TracebackType

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from evict3r_ros.io.bag import BagWriter
from evict3r_ros.io.bag_types import message_types
from evict3r_ros.ros.messages.message_types import definition_text, message_class

# Deep enough for what arrives while a chunk is written to a slow disk.
_DEPTH = 100


def add_live_topic(bag: BagWriter, topic: str, name: str) -> None:
    """Add a topic of a type that is installed here, with its definition where readers of bags may not know it."""
    known = name in message_types().fielddefs
    bag.add_topic(topic, name, definition=None if known else definition_text(message_class(name)))


class Recorder:
    """Subscribe to topics and write each message with the time that clock() tells (context manager)."""

    def __init__(
        self,
        node: Node,
        bag: BagWriter,
        topics: Mapping[str, str],
        clock: Callable[[], int],
        received: Callable[[str, bytes], None] | None = None,
        best_effort: Collection[str] = (),
    ) -> None:
        """Subscribe. topics: name to 'package/msg/Name'; clock: nanoseconds on the bag's clock.

        received(topic, raw) is called in the thread that serves the node, after the message was written. best_effort:
        topics that are published so, which a reliable subscriber would not hear.
        """
        self._node = node
        self._bag = bag
        self._clock = clock
        self._received = received
        self._lock = threading.Lock()
        self._closed = False
        self._subscriptions = []
        for topic, name in topics.items():
            reliability = ReliabilityPolicy.BEST_EFFORT if topic in best_effort else ReliabilityPolicy.RELIABLE
            quality = QoSProfile(depth=_DEPTH, reliability=reliability, durability=DurabilityPolicy.VOLATILE)
            add_live_topic(bag, topic, name)
            self._subscriptions.append(
                node.create_subscription(
                    message_class(name), topic, lambda raw, topic=topic: self._take(topic, raw), quality, raw=True
                )
            )

    def hears_all(self) -> bool:
        """Return whether every topic has a publisher by now."""
        return all(self._node.count_publishers(subscription.topic_name) > 0 for subscription in self._subscriptions)

    def close(self) -> None:
        """Take no more messages. The bag stays open: it is its owner's to close."""
        with self._lock:
            self._closed = True
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, topic: str, raw: bytes) -> None:
        with self._lock:
            if self._closed:
                return
            self._bag.write_raw(topic, self._clock(), raw)
        if self._received is not None:
            self._received(topic, raw)
