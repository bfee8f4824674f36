# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The field of view of a camera that nobody calibrated: the network's answers, steadied over time."""

from __future__ import annotations

import numpy as np

FIRST = 15
"""Answers whose median is the start."""
GAIN = 1.0 / 100.0
"""Weight of each later answer."""
MOST_STEP = 0.1
"""An answer counts as no further away than this share of the focal length, however wrong it is."""


class SteadyFocal:
    """The camera matrix over time, from one prediction a frame.

    A lens does not change, but what a network says of it moves by some percent from frame to frame, and the whole
    cloud with it. Focal lengths are averaged by their logarithms: the median of the first FIRST answers, then a
    running mean in which no answer pulls further than MOST_STEP.
    """

    def __init__(self) -> None:
        self._first: list[np.ndarray] = []
        self._mean: np.ndarray | None = None

    def update(self, camera_matrix: np.ndarray) -> np.ndarray:
        """Take in a prediction K (3, 3) and return the steadied one; the principal point is the prediction's."""
        focal = np.log([camera_matrix[0, 0], camera_matrix[1, 1]])
        if len(self._first) < FIRST:
            self._first.append(focal)
            self._mean = np.median(self._first, axis=0)
        else:
            self._mean = self._mean + GAIN * np.clip(focal - self._mean, -MOST_STEP, MOST_STEP)
        steady = np.array(camera_matrix, dtype=np.float64)
        steady[0, 0], steady[1, 1] = np.exp(self._mean)
        return steady
