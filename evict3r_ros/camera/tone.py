# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Eight bits of sixteen: sensors fill 10 to 14 of them, thermal cameras a few hundred counts somewhere in between.

What stays the same in the world has to stay the same in the picture, so nothing here follows a single image.
"""

from __future__ import annotations

import cv2
import numpy as np

GAIN = 0.03
"""Weight of each later image in the range of grey."""
MARGIN = 0.1
"""Of the range, on each side: room for what comes into view."""
LEAST_RANGE = 256.0
"""Counts. Below it a count would be more than a shade, and the noise of a covered sensor a picture."""
_SHARES = 1.0, 99.0  # percentiles: hot and dead pixels are outside
_SAMPLES = 128  # rows and columns that are looked at, at most
_EMPTY = 1.0 / 8.0  # an image that fills no more of the range shows nothing: a shutter in front of the sensor
_BITS = (10, 12, 14, 16)


class SteadyTone:
    """Turn the 16-bit pixels of one camera into 8 bits, image after image, without flicker."""

    def __init__(self) -> None:
        self._range: tuple[float, float] | None = None
        self._bits = _BITS[0]

    def grey(self, pixels: np.ndarray) -> np.ndarray:
        """Return (h, w) uint16 of one kind of light as uint8, the range of what was seen lately stretched to all of it.

        The range follows the images slowly, and at once where an image lies for its larger part outside it.
        """
        self._range = low, high = self._follow(_sample(pixels))
        return _stretched(pixels, *_shown(low, high))

    def colour(self, pixels: np.ndarray) -> np.ndarray:
        """Return uint16 pixels of several colours as uint8: white is the fewest bits that held all images so far."""
        largest = int(_sample(pixels).max())
        self._bits = max(self._bits, next(bits for bits in _BITS if largest < 2**bits))
        return _stretched(pixels, 0.0, 2.0**self._bits - 1.0)

    def _follow(self, sample: np.ndarray) -> tuple[float, float]:
        low, high = (float(value) for value in np.percentile(sample, _SHARES))
        if self._range is None:
            return low, high
        before, after = self._range
        darkest, brightest = _shown(before, after)
        if ((sample < darkest) | (sample > brightest)).mean() > 0.5:
            return low, high
        if high - low < _EMPTY * (after - before):
            return before, after
        return before + GAIN * (low - before), after + GAIN * (high - after)


def whole_range(pixels: np.ndarray) -> np.ndarray:
    """Return uint16 pixels as uint8: the whole range of 16 bits is white, as in cv_bridge."""
    return np.asarray(cv2.convertScaleAbs(pixels, alpha=255.0 / 65535.0))


def _shown(low: float, high: float) -> tuple[float, float]:
    """Return the counts that become black and white for a range of grey."""
    room = (max((1.0 + 2.0 * MARGIN) * (high - low), LEAST_RANGE) - (high - low)) / 2.0
    return low - room, high + room


def _sample(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    return pixels[:: -(-height // _SAMPLES), :: -(-width // _SAMPLES)]


def _stretched(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    scale = 255.0 / (high - low)
    # Clipped before: below 0, OpenCV would take the absolute value.
    clipped = pixels.clip(int(max(np.ceil(low), 0.0)), int(min(high, 65535.0)))
    return np.asarray(cv2.convertScaleAbs(clipped, alpha=scale, beta=-low * scale))
