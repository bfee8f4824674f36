# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A robust mean over the last observations of a scale.

Scales are averaged as logarithms: half of it and twice it are errors of one size.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

MAD_TO_DEVIATION = 1.4826  # of a normal distribution
_OUTLIER = 3.0  # standard deviations
_LEAST_SPREAD = 0.01  # so that a window of nearly equal values does not call the next one an outlier


@dataclass(frozen=True)
class Estimate:
    """A scale, as a logarithm."""

    log_scale: float
    """Natural logarithm of metres for one unit of the network."""
    deviation: float
    """Standard deviation of that logarithm."""


def robust_mean(values: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Return mean and standard deviation of the values (n,) near their median, and which these are (n,) bool."""
    median = np.median(values)
    spread = max(MAD_TO_DEVIATION * float(np.median(np.abs(values - median))), _LEAST_SPREAD)
    near = np.abs(values - median) <= _OUTLIER * spread
    return float(values[near].mean()), spread, near


class Window:
    """The last ``size`` observations, which make an estimate once ``least`` of them agree.

    deviation: the largest standard deviation of the logarithm with which an estimate is given.
    """

    def __init__(self, size: int, least: int, deviation: float = 0.1) -> None:
        self._seen: deque[Estimate] = deque(maxlen=size)
        self._least, self._limit = least, deviation

    def add(self, observation: Estimate) -> None:
        """Take in an observation; one that is not finite is passed over."""
        if np.isfinite(observation.log_scale) and np.isfinite(observation.deviation):
            self._seen.append(observation)

    def clear(self) -> None:
        """Forget all observations."""
        self._seen.clear()

    def estimate(self) -> Estimate | None:
        """Return the scale that most observations agree on, or None.

        What observations differ by averages out over them. What each says of itself does not: consecutive frames
        show the same scene and err the same way.
        """
        if len(self._seen) < self._least:
            return None
        mean, spread, near = robust_mean(np.array([seen.log_scale for seen in self._seen]))
        if near.sum() < max(self._least, 0.5 * len(self._seen)):
            return None
        own = float(np.median([seen.deviation for seen in self._seen]))
        deviation = float(np.hypot(spread / np.sqrt(near.sum()), own))
        return Estimate(mean, deviation) if deviation <= self._limit else None
