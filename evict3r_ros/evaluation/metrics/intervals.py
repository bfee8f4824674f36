# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bootstrap confidence intervals (Efron and Tibshirani 1993, the percentile method), over sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

DRAWS = 10_000
LEVEL = 0.95

Statistic = Callable[..., np.ndarray]
"""Such as ``np.mean`` and ``np.median``: takes an array and ``axis``."""


@dataclass(frozen=True)
class Interval:
    """A statistic and its confidence interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Return whether the interval excludes zero: a difference is then significant."""
        return self.low > 0.0 or self.high < 0.0


def _draws(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, count, (DRAWS, count))


def _percentiles(value: np.ndarray, drawn: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(drawn, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(value), float(low), float(high))


def interval(values: np.ndarray, statistic: Statistic = np.mean, level: float = LEVEL, seed: int = 0) -> Interval:
    """Return a statistic of values (n,), one per sequence, with its interval. Raises ValueError without values."""
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        raise ValueError('no sequences: an interval needs at least one')
    return _percentiles(statistic(values), statistic(values[_draws(len(values), seed)], axis=1), level)


def paired_difference(
    values: np.ndarray, baseline: np.ndarray, statistic: Statistic = np.mean, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Return statistic(values) - statistic(baseline), both (n,), for the same sequences in the same order.

    Each draw takes the same sequences from both, so that the difficulty of a sequence cancels out.
    """
    values, baseline = np.asarray(values, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if values.shape != baseline.shape or not len(values):
        raise ValueError(f'{values.shape} values beside {baseline.shape}: pairs are needed')
    draws = _draws(len(values), seed)
    drawn = statistic(values[draws], axis=1) - statistic(baseline[draws], axis=1)
    return _percentiles(statistic(values) - statistic(baseline), drawn, level)
