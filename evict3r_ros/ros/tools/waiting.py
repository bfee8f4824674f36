# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Waiting for what happens in other threads and processes, without waiting for those that have ended."""

from __future__ import annotations

import time
from collections.abc import Callable

PERIOD_S = 0.05
# Each end of a connection learns of the other by itself: what is published before both have is lost.
SETTLE_S = 0.5


def wait_until(
    condition: Callable[[], bool],
    timeout_s: float,
    check: Callable[[], None],
    stopped: Callable[[], bool] = lambda: False,
    period_s: float = PERIOD_S,
) -> bool:
    """Wait for a condition; return whether it came about in time.

    check(): called each time before the condition; may end the wait by raising. stopped(): ends it with False.
    period_s: time between two looks; 0 for a condition that waits itself.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        check()
        if condition():
            return True
        if stopped() or time.monotonic() >= deadline:
            return False
        time.sleep(period_s)


def wait_for_connections(
    connected: Callable[[], bool],
    timeout_s: float,
    check: Callable[[], None],
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Wait until publishers and subscribers know of each other, on both sides; return whether they do in time."""
    if not wait_until(connected, timeout_s, check, stopped):
        return False
    time.sleep(SETTLE_S)
    return True
