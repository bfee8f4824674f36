# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Who else moves a frame in /tf: a frame has one parent, and one publisher.

Whoever was heard once counts until `forget`: a transform of ours that came back after a silence of the other would
let the robot jump between two origins.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from geometry_msgs.msg import TransformStamped
from rclpy.serialization import deserialize_message
from tf2_msgs.msg import TFMessage

from evict3r_ros.io.frame_tree import bare

_MOST_SENT = 256  # of our own transforms, to know them by
_MOST_FRAMES = 4096  # that are remembered before it is known which ones matter
_MOST_FOLLOWED = 64


class OtherMovers:
    """Listen to /tf for the frame that this node moves as well; safe to use from several threads.

    Until `follow` says which frame that is, every frame's mover is remembered. clock(): seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began = math.inf
        self._odom = self._child = ''
        self._since: dict[str, float] = {}  # frame that matters -> since when it is listened for; empty: all matter
        self._needles: tuple[bytes, ...] = ()
        self._heard: dict[str, tuple[str, float]] = {}  # child -> its parent, and when that was heard last
        self._sent: deque[tuple[object, ...]] = deque(maxlen=_MOST_SENT)

    def start(self) -> None:
        """Begin to listen, to all frames."""
        with self._lock:
            self._forget_all()
            self._began = self._clock()

    def stop(self) -> None:
        """Listen no more."""
        with self._lock:
            self._forget_all()

    def follow(self, odom: str, child: str, *later: str) -> None:
        """Listen for movers of the frame in what would be odom -> child, and of frames that may be moved later."""
        with self._lock:
            self._odom, self._child = odom, child
            new = [frame for frame in (child, *later) if frame not in self._since]
            if not new:
                return
            since = self._clock() if self._since else self._began
            self._since.update(dict.fromkeys(new, since))
            if len(self._since) > _MOST_FOLLOWED:
                del self._since[next(iter(self._since))]
            self._needles = tuple(frame.encode() for frame in self._since)
            self._heard = {frame: heard for frame, heard in self._heard.items() if self._matters(frame, heard[0])}

    def forget(self, silent_s: float) -> None:
        """Forget those who were silent for so long, so that the frame may be moved again."""
        with self._lock:
            before = self._clock() - silent_s
            self._heard = {frame: heard for frame, heard in self._heard.items() if heard[1] >= before}

    def found(self) -> str:
        """Return 'parent -> child' that somebody else published for the followed frame, '' if nobody did."""
        with self._lock:
            if self._child in self._heard:
                return f'{self._heard[self._child][0]} -> {self._child}'
            upside_down = self._heard.get(self._odom, ('', 0.0))[0] == self._child != ''
            return f'{self._child} -> {self._odom}' if upside_down else ''

    def listened_s(self) -> float:
        """Return for how long the followed frame has been listened for."""
        with self._lock:
            return self._clock() - self._since.get(self._child, self._began)

    def sending(self, transform: TransformStamped) -> None:
        """Note one of our own, before it is published."""
        with self._lock:
            self._sent.append(_identity(transform))

    def hear(self, raw: bytes) -> None:
        """Take in a message of /tf as CDR."""
        # Most of /tf is no concern of ours, and a look for the names costs microseconds.
        needles = self._needles
        if self._began == math.inf or (needles and not any(needle in raw for needle in needles)):
            return
        for transform in deserialize_message(raw, TFMessage).transforms:
            parent, child = bare(transform.header.frame_id), bare(transform.child_frame_id)
            with self._lock:
                if self._matters(child, parent) and _identity(transform) not in self._sent:
                    self._heard[child] = parent, self._clock()

    def _matters(self, child: str, parent: str) -> bool:
        """Return whether parent -> child may contradict our transform: the same child, or ours upside down."""
        if not self._since:
            return child in self._heard or len(self._heard) < _MOST_FRAMES
        return child in self._since or (child == self._odom and parent in self._since)

    def _forget_all(self) -> None:
        self._began, self._odom, self._child = math.inf, '', ''
        self._since, self._needles, self._heard = {}, (), {}


def _identity(transform: TransformStamped) -> tuple[object, ...]:
    """Return all that a transform says: others may send one of the same image's stamp, even between the same frames."""
    stamp, place, turn = transform.header.stamp, transform.transform.translation, transform.transform.rotation
    names = bare(transform.header.frame_id), bare(transform.child_frame_id)
    return *names, stamp.sec, stamp.nanosec, place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w
