# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether an image is one at all: not black, not white, and not the same bytes again and again."""

from __future__ import annotations

import zlib

import numpy as np

SAMPLES = 128
"""Rows and columns that are looked at, at most: enough to tell, and quick for any size."""
LEAST_CONTRAST = 2.0
"""Standard deviation, of 255, under which nothing can be seen; the noise of a covered sensor is below it."""
LEAST_SIDE = 14
"""Pixels: a patch of the network."""
MOST_ELONGATED = 16
"""Longer side to shorter one. A line of pixels is a broken message, and resizing it would take gigabytes."""


def _sample(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    return image[:: -(-height // SAMPLES), :: -(-width // SAMPLES)]


def contrast(image: np.ndarray) -> float:
    """Return the standard deviation of a grid of pixels of an image (h, w, 3) uint8, of the strongest channel."""
    return float(_sample(image).reshape(-1, image.shape[2]).std(axis=0).max())


def has_usable_shape(height: int, width: int) -> bool:
    """Return whether an image of this size has anything to see in it."""
    shorter, longer = sorted((height, width))
    return shorter >= LEAST_SIDE and longer <= MOST_ELONGATED * shorter


class FrozenWatch:
    """Counts images in a row with the same pixels: a real sensor's noise makes each one different."""

    def __init__(self) -> None:
        self.repeats = 0
        """How many images in a row were like the one before them."""
        self._last: int | None = None

    def update(self, image: np.ndarray) -> int:
        """Take in the next image (h, w, 3); returns ``repeats``."""
        checksum = zlib.crc32(np.ascontiguousarray(_sample(image)).data)
        self.repeats = self.repeats + 1 if checksum == self._last else 0
        self._last = checksum
        return self.repeats
