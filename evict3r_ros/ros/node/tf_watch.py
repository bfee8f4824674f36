# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Watch /tf for somebody else who moves the frame that the node moves: a frame has one parent only."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable

from geometry_msgs.msg import TransformStamped
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from tf2_msgs.msg import TFMessage

from evict3r_ros.io.frame_tree import bare
from evict3r_ros.ros.node import qos

FORGET_S = 10.0, 15.0  # after how long a silence the other is taken to be gone
_MOST_SENT = 256  # of our own stamps, to know our own transforms by


class ParentWatch:
    """Know whether another publisher gives `child` a parent.

    child: the frame to watch, '' for none. found(parent): is called once when another publisher appears.
    """

    def __init__(self, node: Node, found: Callable[[str], None], group: CallbackGroup) -> None:
        self._found = found
        # Each of its own length: two of these nodes, each holding back for the other, would begin again together.
        self._forget_s = random.uniform(*FORGET_S)
        self._lock = threading.Lock()
        self._child = ''
        self._needle = b''
        self._sent: deque[tuple[int, int]] = deque(maxlen=_MOST_SENT)
        self._heard_at = float('-inf')
        self._parent = ''
        # Raw, because /tf is full of what is no concern of ours, and a look for the name costs microseconds.
        self._subscription = node.create_subscription(
            TFMessage, '/tf', self._on_tf, qos.transforms(), callback_group=group, raw=True
        )

    def watch(self, child: str) -> None:
        """Watch another frame."""
        with self._lock:
            if child != self._child:
                self._child, self._needle = child, child.encode()
                self._heard_at, self._parent = float('-inf'), ''

    def other_parent(self) -> str:
        """Return the parent that another publisher gives the frame, '' if nobody does."""
        with self._lock:
            return self._parent if time.monotonic() - self._heard_at < self._forget_s else ''

    def sending(self, transform: TransformStamped) -> None:
        """Note one of our own, before it is published."""
        stamp = transform.header.stamp
        with self._lock:
            self._sent.append((stamp.sec, stamp.nanosec))

    def _on_tf(self, raw: bytes) -> None:
        if not self._needle or self._needle not in raw:
            return
        for transform in deserialize_message(raw, TFMessage).transforms:
            if bare(transform.child_frame_id) == self._child:
                self._note_other(transform)

    def _note_other(self, transform: TransformStamped) -> None:
        stamp = transform.header.stamp
        with self._lock:
            if (stamp.sec, stamp.nanosec) in self._sent:
                return
            is_new = time.monotonic() - self._heard_at >= self._forget_s
            self._heard_at, self._parent = time.monotonic(), bare(transform.header.frame_id)
        if is_new:
            self._found(self._parent)
