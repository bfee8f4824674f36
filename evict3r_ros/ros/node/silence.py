# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""An input that is needed and falls silent, told while it lasts and counted once each time."""

from __future__ import annotations

import time
from collections.abc import Callable

SILENCE_S = 3.0  # without messages, before it is told


class SilenceWatch:
    """Watch a counter of messages that only grows.

    what: of the messages, in words. topic: theirs. count(): how many came so far.
    """

    def __init__(
        self, what: str, topic: str, count: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what, self._topic, self._count, self._clock = what, topic, count, clock
        self._first = self._counted = count()
        self._changed_at = clock()
        self._told = False

    def update(self) -> tuple[str, bool]:
        """Return what is wrong, in words, '' if nothing is; and whether that is new since it was last asked for."""
        now, counted = self._clock(), self._count()
        if counted != self._counted:
            self._counted, self._changed_at, self._told = counted, now, False
        silent = now - self._changed_at
        if silent <= SILENCE_S:
            return '', False
        is_new, self._told = not self._told, True
        ever = '' if counted != self._first else ' ever'
        return f'no {self._what}{ever} on {self._topic} for {silent:.0f} s', is_new
