# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The order of images by their stamps: one that is wrong, a clock that was set back or forward, and a gap.

One stamp alone proves nothing: it is refused where it does not follow from those before it. Stamps that agree with each
other, in a row, are the clock's new time. Stamps are judged as images arrive, all of them and not only those that the
network has time for, and against when they arrive.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

from evict3r_ros.io.stamps import NANOSECONDS
from evict3r_ros.ros.perception.faults import Faults, FrameRefused

AGREE = 3  # images in a row that make a new time
CLOCK_JUMP_NS = NANOSECONDS  # stamps that lie back by less may be overtaken again, unless they come from the beginning
GAP_NS = 3 * NANOSECONDS
_SLACK_NS = NANOSECONDS // 2  # how much later than it came an image may say it is: others of its burst were lost
_UNKNOWN_NS = NANOSECONDS  # the same, before two images have shown how far apart they are
_SILENT_NS = NANOSECONDS  # without an image, and longer than usual: then none comes
_RATE = 2  # how much faster than real time a bag may be played and its gaps be known for gaps at once
_FEW, _STEPS = 3, 5  # usual intervals that an image may be late; intervals that say what is usual
_TOLD_FOR = 30  # images of before that may still come after /clock was set back


@dataclass(frozen=True)
class Moment:
    """When an image was taken."""

    stamp_ns: int
    era: int
    """Counts the times that the clock was set back: stamps of two eras cannot be compared."""
    shift_ns: int
    """By how much the clock was set forward within all eras so far, beyond the time that passed."""
    after_gap: bool = False
    """Whether the camera was silent just before it."""


class _Line:
    """Stamps that follow from each other."""

    def __init__(self, stamp_ns: int, arrived_ns: int, unknown_ns: int = _UNKNOWN_NS) -> None:
        self.first_ns = self.last_ns = stamp_ns
        self.first_arrived_ns = self.arrived_ns = arrived_ns
        self.count = 1
        self._unknown_ns = unknown_ns
        self._steps: deque[int] = deque(maxlen=_STEPS)

    @property
    def slack_ns(self) -> int:
        """How much later than it came an image may say it is."""
        if not self._steps:
            return self._unknown_ns
        return max(_SLACK_NS, round(_FEW * median(self._steps)))

    def fits(self, stamp_ns: int, arrived_ns: int) -> bool:
        """Return whether a stamp follows from the last one."""
        step, elapsed = stamp_ns - self.last_ns, max(0, arrived_ns - self.arrived_ns)
        return 0 < step <= self.slack_ns + _RATE * elapsed

    def add(self, stamp_ns: int, arrived_ns: int) -> int:
        """Take in a stamp that follows; returns the time since the last one if that is a gap, or else 0."""
        step = stamp_ns - self.last_ns
        gap = step if step > max(GAP_NS, self.slack_ns) else 0
        self.last_ns, self.arrived_ns = stamp_ns, arrived_ns
        self.count += 1
        if not gap or not self._steps:
            self._steps.append(step)
        return gap


class StampOrder:
    """Judge the stamps of images one after the other.

    `admit` belongs to one thread; the rest may be called from any. Times of arrival are of a clock that is never set:
    a steady one, the simulation's, or that of whoever recorded a bag. faults: takes gaps and clocks set forward.
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.era = 0
        self._shift_ns = 0
        self._line: _Line | None = None
        self._other: _Line | None = None  # images in a row that do not follow
        self._told = 0  # images for which it holds that /clock was set back
        self._paused = False

    def clock_set_back(self) -> None:
        """Know, from /clock, that the next stamp that lies back is right."""
        self._told = _TOLD_FOR

    def pause(self) -> None:
        """Know that nobody listens until the next image: that none came meanwhile says nothing of the camera."""
        self._paused = True

    def now(self, arrived_ns: int) -> Moment | None:
        """Return when an image would have been taken that arrived at a time; None before the first."""
        line = self._line
        if line is None:
            return None
        return Moment(line.last_ns + arrived_ns - line.arrived_ns, self.era, self._shift_ns)

    def silence_ns(self, arrived_ns: int) -> int:
        """Return how long no image has come, 0 as long as that is no longer than usual."""
        line = self._line
        elapsed = 0 if line is None else arrived_ns - line.arrived_ns
        return elapsed if line is not None and elapsed > max(_SILENT_NS, line.slack_ns) else 0

    def admit(self, stamp_ns: int, arrived_ns: int) -> Moment:
        """Return when an image was taken; raises FrameRefused for a stamp that cannot be, or that is not believed yet.

        arrived_ns: when it came.
        """
        if stamp_ns == 0:
            raise FrameRefused('bad_stamp', 'an image with a stamp of zero: its driver does not set header.stamp')
        if stamp_ns < 0:
            raise FrameRefused('bad_stamp', f'an image with a negative stamp of {stamp_ns} ns')
        line = self._line
        if line is None:
            self._line = _Line(stamp_ns, arrived_ns)
            return Moment(stamp_ns, self.era, self._shift_ns)
        if line.fits(stamp_ns, arrived_ns):
            self._other, self._told = None, max(0, self._told - 1)
            gap_ns = line.add(stamp_ns, arrived_ns)
            paused, self._paused = self._paused, False
            if gap_ns and not paused:
                text = f'no image for {gap_ns / NANOSECONDS:.1f} s by their stamps; the stream goes on'
                self._faults.count('image_gap', text)
            return Moment(stamp_ns, self.era, self._shift_ns, after_gap=gap_ns > 0)
        if stamp_ns < line.last_ns and self._told:
            return self._begin_era(_Line(stamp_ns, arrived_ns))
        return self._doubt(line, stamp_ns, arrived_ns)

    def _doubt(self, line: _Line, stamp_ns: int, arrived_ns: int) -> Moment:
        """Judge a stamp that does not follow from the last one."""
        other, ahead = self._other, stamp_ns - line.last_ns
        if other is not None and other.fits(stamp_ns, arrived_ns):
            other.add(stamp_ns, arrived_ns)
        else:
            # A camera whose images are far apart is as far from the last one as its next will be from this one.
            other = self._other = _Line(stamp_ns, arrived_ns, max(_UNKNOWN_NS, ahead))
        if other.count >= AGREE:
            if other.first_ns > line.last_ns:
                return self._move_forward(line, other)
            if self._is_set_back(line, other):
                return self._begin_era(other)
        if not ahead:
            raise FrameRefused('bad_stamp', f'stamp {stamp_ns} ns came before: it is that of the last image')
        words = 'after the last one, which is more than has passed' if ahead > 0 else 'before the last one'
        row = f' ({other.count} such images in a row)' if other.count > 1 else ''
        raise FrameRefused('bad_stamp', f'stamp {stamp_ns} ns is {abs(ahead) / 1e6:g} ms {words}{row}')

    def _is_set_back(self, line: _Line, other: _Line) -> bool:
        """Return whether stamps that lie back are a new time, and not about to pass the last one as time goes on."""
        # Not that the last one was wrong, and was believed because images are so far apart.
        believed_ns = line.slack_ns * (_FEW + _RATE) // _FEW
        if line.last_ns - other.first_ns > max(CLOCK_JUMP_NS, believed_ns):
            return True
        # A bag shorter than that begins again: its stamps never pass the last one.
        return other.first_ns - line.first_ns <= (line.last_ns - line.first_ns) // 2

    def _begin_era(self, line: _Line) -> Moment:
        self._line, self._other, self._told = line, None, 0
        self.era += 1
        return Moment(line.last_ns, self.era, self._shift_ns)

    def _move_forward(self, line: _Line, other: _Line) -> Moment:
        step = other.first_ns - line.last_ns
        moved = step - max(0, other.first_arrived_ns - line.arrived_ns)
        self._line, self._other = other, None
        self._shift_ns += moved
        if moved >= CLOCK_JUMP_NS:
            text = f'the clock was set forward by {moved / NANOSECONDS:.1f} s; the stream goes on'
            self._faults.count('clock_set_forward', text)
        return Moment(other.last_ns, self.era, self._shift_ns)
