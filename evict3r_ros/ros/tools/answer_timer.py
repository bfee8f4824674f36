# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How long a node takes to answer, seen from outside: from just before a frame is published to its last answer."""

from __future__ import annotations

import threading

from evict3r_ros.io.bag import header_stamp_ns

# Frames that were dropped are never answered: the oldest are forgotten.
_MOST_WAITING = 1000


class AnswerTimer:
    """Pair what was sent with its answers by their stamps, and measure how long each took. Safe between threads.

    A frame is answered when a message with its stamp has come on each of the topics.
    """

    def __init__(self, topics: set[str]) -> None:
        self.latencies_s: list[float] = []
        self._topics = frozenset(topics)
        self._arrived = threading.Condition()
        self._waiting: dict[int, tuple[float, set[str]]] = {}

    def sent(self, stamp_ns: int, now_s: float) -> None:
        """Note that a frame goes out now (monotonic seconds): call it before publishing, the answer may be quick."""
        with self._arrived:
            self._waiting[stamp_ns] = now_s, set(self._topics)
            if len(self._waiting) > _MOST_WAITING:
                del self._waiting[next(iter(self._waiting))]

    def received(self, topic: str, raw: bytes, now_s: float) -> None:
        """Note an answer in CDR; topics that nobody waits for, and stamps never sent, are passed over."""
        if topic not in self._topics:
            return
        stamp_ns = header_stamp_ns(raw)
        with self._arrived:
            if stamp_ns not in self._waiting:
                return
            sent_s, missing = self._waiting[stamp_ns]
            missing.discard(topic)
            if not missing:
                del self._waiting[stamp_ns]
                self.latencies_s.append(now_s - sent_s)
                self._arrived.notify_all()

    def wait(self, stamp_ns: int, timeout_s: float) -> bool:
        """Wait for the answer to a frame; False when it did not come in time."""
        with self._arrived:
            return self._arrived.wait_for(lambda: stamp_ns not in self._waiting, timeout_s)
