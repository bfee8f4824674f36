# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The worker thread between the subscription and the network: the latest frame wins, the rest are counted.

Nothing here knows ROS or the network: items go in, `work` makes results of them, `deliver` hands those on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

_LOG = logging.getLogger(__name__)
Item = TypeVar('Item')
Result = TypeVar('Result')
WINDOW = 512  # frames that rate and latency look back on: bounded, whatever the uptime


@dataclass(frozen=True)
class Counts:
    """What became of the items offered: received = processed + dropped + failed + those still waiting or in work."""

    received: int = 0
    processed: int = 0
    dropped: int = 0
    failed: int = 0


_NONE = Counts()


@dataclass(frozen=True)
class Pace:
    """How fast the worker is."""

    rate_hz: float = 0.0
    """Deliveries a second, over the last seconds."""
    latency_p50_ms: float = float('nan')
    """From offer to delivery, over the last WINDOW deliveries, like the next."""
    latency_p99_ms: float = float('nan')


class Worker(Generic[Item, Result]):
    """One thread behind a mailbox with one slot.

    work(item) -> result runs in the thread. deliver(result) follows in the same thread, unless the worker was
    stopped meanwhile: nothing is delivered after `stop` was called. An exception of either costs only its item: it
    is counted and given to failed(error), or counts as dropped if the worker is being stopped. `before` holds the
    counts to go on from, those of an earlier worker.
    """

    def __init__(
        self,
        work: Callable[[Item], Result],
        deliver: Callable[[Result], None],
        failed: Callable[[Exception], None],
        before: Counts = _NONE,
    ) -> None:
        self.stopping = threading.Event()
        self._work, self._deliver, self._report = work, deliver, failed
        self._lock = threading.Condition()
        self._waiting: tuple[Item, float] | None = None
        self._received, self._processed = before.received, before.processed
        self._dropped, self._failed = before.dropped, before.failed
        self._started = time.monotonic()
        self._done: deque[tuple[float, float]] = deque(maxlen=WINDOW)  # (when, seconds since the offer)
        # A daemon: a network deep in a frame cannot be interrupted, and must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name='inference', daemon=True)

    def start(self) -> None:
        """Begin to take items."""
        self._started = time.monotonic()
        self._thread.start()

    def offer(self, item: Item) -> None:
        """Put an item into the mailbox; the one that still waits there is dropped. Never blocks."""
        with self._lock:
            self._received += 1
            if self.stopping.is_set():
                self._dropped += 1
                return
            self._dropped += self._waiting is not None
            self._waiting = item, time.monotonic()
            self._lock.notify()

    def refuse(self, error: Exception) -> None:
        """Count an item that is of no use before any work, and tell failed(error) of it."""
        with self._lock:
            self._received += 1
            self._failed += 1
        self._report(error)

    def stop(self, timeout_s: float | None = None) -> bool:
        """Deliver nothing more and end the thread; return False if it is still in its item after the timeout."""
        with self._lock:
            self.stopping.set()
            self._dropped += self._waiting is not None
            self._waiting = None
            self._lock.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def is_idle(self) -> bool:
        """Return whether nothing waits and nothing is in work."""
        counts = self.counts()
        return counts.received == counts.processed + counts.dropped + counts.failed

    def counts(self) -> Counts:
        """Return what became of the items so far."""
        with self._lock:
            return Counts(self._received, self._processed, self._dropped, self._failed)

    def pace(self, over_s: float = 5.0) -> Pace:
        """Return the rate over the last `over_s` seconds and the latencies over the last WINDOW deliveries."""
        with self._lock:
            done = list(self._done)
        if not done:
            return Pace()
        now = time.monotonic()
        recent = sum(now - when <= over_s for when, _ in done)
        p50, p99 = np.percentile([latency for _, latency in done], (50, 99)) * 1e3
        return Pace(recent / min(over_s, now - self._started), float(p50), float(p99))

    def _run(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._waiting is not None or self.stopping.is_set())
                if self.stopping.is_set() or self._waiting is None:
                    return
                (item, offered), self._waiting = self._waiting, None
            try:
                self._finish(self._work(item), offered)
            except Exception as error:
                stopped = self.stopping.is_set()
                with self._lock:
                    self._dropped += stopped
                    self._failed += not stopped
                if not stopped:
                    self._tell(error)

    def _tell(self, error: Exception) -> None:
        try:
            self._report(error)
        except Exception:  # or this thread would end, and nothing be worked on any more
            _LOG.exception('a failure could not be reported: %r', error)

    def _finish(self, result: Result, offered: float) -> None:
        if self.stopping.is_set():
            with self._lock:
                self._dropped += 1
            return
        self._deliver(result)
        now = time.monotonic()
        with self._lock:
            self._processed += 1
            self._done.append((now, now - offered))
