# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of a source, one at a time, and the choice among them by time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.io.stamps import NANOSECONDS

_TOLERANCE_NS = NANOSECONDS // 1000
"""A frame may come this much early: containers round their stamps to milliseconds."""


@dataclass(frozen=True)
class VideoFrame:
    """One chosen frame."""

    stamp_ns: int
    """Since the start of the source, or the image's own stamp if a folder has a table of them."""
    name: str
    """'frame 12' of a video, or an image's file name."""
    image: np.ndarray
    """(h, w, 3) uint8 RGB, upright."""


@dataclass(frozen=True)
class Selection:
    """Which frames to take. Raises UserError for invalid values."""

    interval_s: float = 0.0
    """Seconds between frames; 0: every frame."""
    start_s: float = 0.0
    """Seconds of the source's time."""
    end_s: float | None = None
    """Seconds of the source's time; None: to its end."""
    count: int | None = None
    """Most frames."""

    def identity(self) -> dict[str, Any]:
        """Return what of it identifies a source, as JSON values: all but the end, because a run may be extended."""
        return {'interval_s': self.interval_s, 'start_s': self.start_s}

    def __post_init__(self) -> None:
        if self.interval_s < 0.0 or self.start_s < 0.0:
            raise UserError(f'interval {self.interval_s:g} s and start {self.start_s:g} s must not be negative')
        if self.end_s is not None and self.end_s <= self.start_s:
            raise UserError(f'the end, {self.end_s:g} s, is not after the start, {self.start_s:g} s')
        if self.count is not None and self.count < 1:
            raise UserError(f'{self.count} frames leave nothing to do')


class FramePicker:
    """Decides which frames to take, given their stamps in ascending order.

    It takes the first frame at or after each multiple of the interval since the first one taken, so that jitter of a
    source does not add up.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._interval = round(selection.interval_s * NANOSECONDS)
        self._start = round(selection.start_s * NANOSECONDS)
        self._first: int | None = None
        self._due = self._start
        self.taken = 0

    def takes(self, stamp_ns: int) -> bool:
        """Return whether to take the frame of this stamp, and count it."""
        if stamp_ns < self._due - _TOLERANCE_NS or self.is_over(stamp_ns):
            return False
        if self._first is None:
            self._first = stamp_ns
        if self._interval:
            steps = (stamp_ns - self._first + _TOLERANCE_NS) // self._interval
            self._due = self._first + (steps + 1) * self._interval
        self.taken += 1
        return True

    def is_over(self, stamp_ns: int) -> bool:
        """Return whether neither this frame nor any later one is to be taken."""
        end, count = self._selection.end_s, self._selection.count
        return (end is not None and stamp_ns > round(end * NANOSECONDS)) or (count is not None and self.taken >= count)


class FrameSource(Protocol):
    """A source of frames, and what a run needs to know beforehand."""

    is_live: bool
    """Whether the frames cannot be read again: a camera."""
    damaged: int
    """Number of parts that were skipped because they could not be decoded, in the last pass."""
    notes: list[str]
    """What a user should know of the last pass, a sentence each."""

    def identity(self) -> dict[str, Any]:
        """Return what identifies this source, as JSON values; without the end, because a run may be extended."""
        ...

    def expected(self) -> int | None:
        """Return about how many frames will come, for a progress bar; None if unknown."""
        ...

    def exact_count(self) -> int:
        """Return how many frames will come. This decodes a video once. Raises UserError for a camera without limit."""
        ...

    def frames(self) -> Iterator[VideoFrame]:
        """Yield the chosen frames, from the first at each call. Raises UserError for unreadable input."""
        ...


def count_of_live(selection: Selection) -> int:
    """Return how many frames a source without an end will give. Raises UserError unless their number is limited."""
    if selection.count is None:
        raise UserError('the number of frames of a camera is not known: give --frames, or --tokens instead of --P')
    return selection.count
