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
"""``np.mean``, ``np.median``: takes an array and ``axis``."""


@dataclass(frozen=True)
class Interval:
    """A figure and its confidence interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """For a difference: whether it is one, at this level."""
        return self.low > 0.0 or self.high < 0.0


def _draws(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, count, (DRAWS, count))


def _percentiles(value: float, drawn: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(drawn, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(value), float(low), float(high))


def interval(values: np.ndarray, statistic: Statistic = np.mean, level: float = LEVEL, seed: int = 0) -> Interval:
    """A statistic of values (n,), one a sequence, with its interval. Raises ValueError without values."""
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        raise ValueError('no sequences, no interval')
    return _percentiles(statistic(values), statistic(values[_draws(len(values), seed)], axis=1), level)


def paired_difference(
    values: np.ndarray, baseline: np.ndarray, statistic: Statistic = np.mean, level: float = LEVEL, seed: int = 0
) -> Interval:
    """statistic(values) - statistic(baseline), both (n,) and over the same sequences in the same order.

    Each draw takes the same sequences of both, so that what makes a sequence hard for both cancels.
    """
    values, baseline = np.asarray(values, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if values.shape != baseline.shape or not len(values):
        raise ValueError(f'{values.shape} values beside {baseline.shape}: pairs are needed')
    draws = _draws(len(values), seed)
    drawn = statistic(values[draws], axis=1) - statistic(baseline[draws], axis=1)
    return _percentiles(statistic(values) - statistic(baseline), drawn, level)
