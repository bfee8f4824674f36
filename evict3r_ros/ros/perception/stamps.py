# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The order of images by their stamps: what is late, what a clock that was set back, and what a gap."""

from __future__ import annotations

from evict3r_ros.io.stamps import NANOSECONDS
from evict3r_ros.ros.perception.faults import FrameRefused

CLOCK_JUMP_NS = NANOSECONDS  # a stamp older than the last by more is a clock set back; by less, a frame out of order
GAP_NS = 3 * NANOSECONDS


class StampOrder:
    """Judge stamps one after the other."""

    def __init__(self) -> None:
        self._last_ns: int | None = None

    def check(self, stamp_ns: int) -> bool:
        """Return whether the clock was set back; raises FrameRefused for a stamp of zero, repeated or out of order."""
        if stamp_ns == 0:
            raise FrameRefused('bad_stamp', 'an image with a stamp of zero: its driver does not set header.stamp')
        if self._last_ns is None or stamp_ns > self._last_ns:
            return False
        behind = self._last_ns - stamp_ns
        if behind > CLOCK_JUMP_NS:
            return True
        if not behind:
            raise FrameRefused('bad_stamp', f'stamp {stamp_ns} ns came before: it is that of the last image')
        raise FrameRefused('bad_stamp', f'stamp {stamp_ns} ns is {behind / 1e6:g} ms before the last one, not after it')

    def accept(self, stamp_ns: int) -> float:
        """Take a checked stamp as the last one; return the seconds since the one before if that is a gap, or else 0."""
        before, self._last_ns = self._last_ns, stamp_ns
        if before is None or stamp_ns - before <= GAP_NS:
            return 0.0
        return (stamp_ns - before) / 1e9
