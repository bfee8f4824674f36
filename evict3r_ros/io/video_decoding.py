# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What decoded frames need to become images at times: stamps that rise, square pixels, the right way up."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np

from evict3r_ros.io.stamps import NANOSECONDS

_ODD_ASPECT = 8.0
"""Pixels are not this much wider than high, nor higher than wide: a file that says so is not believed."""
_DEFAULT_RATE = 30.0
_DISORDER = 3
"""Periods by which a stamp may be too early and yet be of the same stream."""
_NUDGE = 16
"""Parts of a period by which it then follows the one before."""


class StampClock:
    """Gives frames stamps that rise, in nanoseconds since the first.

    Stamps are the container's. Where it has none (raw H.264), or they go back (streams put one behind the other), a
    frame comes one period after the one before, and later ones keep their distances.
    """

    def __init__(self, rate: float | None) -> None:
        """rate: frames a second of what has no stamps; None if that is not known."""
        self.restarts = self.unstamped = 0
        self._period = round(NANOSECONDS / (rate or _DEFAULT_RATE))
        self._last: int | None = None
        self._offset = 0

    def stamp(self, frame: av.VideoFrame) -> int:
        """Return the stamp of the next frame."""
        time = None
        if frame.pts is not None and frame.time_base is not None:
            time = round(Fraction(frame.pts) * frame.time_base * NANOSECONDS)
        if self._last is None:
            self._offset = -time if time is not None else 0
            self.unstamped += time is None
            self._last = 0
            return 0
        following = self._last + self._period
        if time is None:
            self.unstamped += 1
            stamp = following
        else:
            stamp = time + self._offset
            if self._last - _DISORDER * self._period < stamp <= self._last:
                # Rounded to the one before, or told out of order: no restart, or time would pass more slowly.
                stamp = self._last + max(1, self._period // _NUDGE)
            elif stamp <= self._last:
                self.restarts += 1
                self._offset += following - stamp
                stamp = following
            else:
                self._period = stamp - self._last
        self._last = stamp
        return stamp

    def notes(self, origin: str) -> list[str]:
        """Return what a user should know of the stamps."""
        found = []
        if self.unstamped:
            found.append(
                f'{origin}: {self.unstamped} frames have no stamps and are taken at {NANOSECONDS / self._period:g} a '
                'second (--input-fps says another rate)'
            )
        if self.restarts:
            found.append(f'{origin}: stamps went back {self.restarts} times; what follows is joined to what was before')
        return found


def rgb_of(frame: av.VideoFrame, aspect: float) -> np.ndarray:
    """Return a frame as (h, w, 3) uint8 RGB with square pixels, turned as a player turns it.

    aspect: width of a pixel over its height. The shorter side of the pixel is stretched, so that nothing is lost.
    """
    image: np.ndarray = frame.to_ndarray(format='rgb24')
    if aspect != 1.0 and 1.0 / _ODD_ASPECT < aspect < _ODD_ASPECT:
        height, width = image.shape[:2]
        size = (round(width * max(aspect, 1.0)), round(height * max(1.0 / aspect, 1.0)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    if frame.rotation:
        # Counter-clockwise degrees by which a player rotates the frame.
        image = np.rot90(image, round(frame.rotation / 90) % 4)
    return np.ascontiguousarray(image)


def why(error: Exception) -> str:
    """Return the reason of an error of FFmpeg in words."""
    return getattr(error, 'strerror', None) or str(error)
