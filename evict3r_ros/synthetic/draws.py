# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Random numbers of many worlds at once: each world's own, whatever the others of its batch are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Draws:
    """A table of uniform numbers, one row a seed, read from left to right by every world in step."""

    def __init__(self, seeds: Sequence[int], count: int, stream: int = 0):
        """Draw ``count`` numbers a seed; another ``stream`` of the same seed has other numbers."""
        entropy = [[int(seed), stream] if stream else int(seed) for seed in seeds]
        self._table = np.stack([np.random.Generator(np.random.Philox(one)).random(count) for one in entropy])
        self._next = 0

    def __len__(self) -> int:
        return len(self._table)

    def uniform(self, low: float | np.ndarray, high: float | np.ndarray, *shape: int) -> np.ndarray:
        """Draw (worlds, *shape) uniform between low and high, which broadcast against (worlds, *shape)."""
        count = int(np.prod(shape, dtype=np.int64))
        taken = self._table[:, self._next : self._next + count]
        if taken.shape[1] < count:
            raise IndexError('a world asks for more random numbers than its table holds')
        self._next += count
        drawn: np.ndarray = low + (high - low) * taken.reshape(len(self._table), *shape)
        return drawn

    def log_uniform(self, low: float | np.ndarray, high: float | np.ndarray, *shape: int) -> np.ndarray:
        """Draw as ``uniform`` does, of the logarithm."""
        drawn: np.ndarray = np.exp(self.uniform(np.log(low), np.log(high), *shape))
        return drawn

    def chance(self, probability: float | np.ndarray, *shape: int) -> np.ndarray:
        """Draw (worlds, *shape) bool, True with that probability."""
        happens: np.ndarray = self.uniform(0.0, 1.0, *shape) < probability
        return happens

    def choose(self, weights: Sequence[float], *shape: int) -> np.ndarray:
        """Draw (worlds, *shape) int64: an index into the weights, as often as they say."""
        edges = np.cumsum(weights) / np.sum(weights)
        return np.minimum(np.searchsorted(edges, self.uniform(0.0, 1.0, *shape), side='right'), len(weights) - 1)

    def pick(self, values: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Draw a number a world, uniform in the row (low, high) that ``which`` (worlds,) names in values (kinds, 2)."""
        low, high = np.asarray(values)[which].T
        return self.uniform(low, high)
