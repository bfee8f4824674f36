# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is trained on, and how fast it learns, by the share of the planned time that has gone by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evict3r_ros.training.batches import FIRST_TRAINING_SEED, BatchSpec

SHORT, LONG = 12, 64
"""Frames of a clip. Two lengths, since each is compiled for."""
_WARM_UP, _DECAY_FROM, _LAST_SHARE = 0.02, 0.4, 0.01
_LONG_FROM, _LONG_FULLY, _LONG_SHARE = 0.2, 0.55, 0.7
MOST_RANKS = 63
"""How many ranks have worlds of their own; odd, so that each of them has loops in turn."""


def learning_rate_factor(progress: float) -> float:
    """Rises, stays, and from 0.4 on falls as a cosine does, to nearly nothing at 1."""
    warm = min(1.0, (progress + 1e-3) / _WARM_UP)
    fallen = min(1.0, max(0.0, (progress - _DECAY_FROM) / (1 - _DECAY_FROM)))
    return warm * (_LAST_SHARE + (1 - _LAST_SHARE) * 0.5 * (1 + math.cos(math.pi * fallen)))


def long_share(progress: float) -> float:
    """Share of steps on long clips: none at first, then ever more, so that no step is a shock."""
    return _LONG_SHARE * min(1.0, max(0.0, (progress - _LONG_FROM) / (_LONG_FULLY - _LONG_FROM)))


def strides(progress: float, frames: int) -> tuple[int, int]:
    """Lowest and highest stride: from small motions to the largest within a quarter of the time."""
    grown = min(1.0, progress / 0.25)
    return (1, round(3 + 3 * grown)) if frames == SHORT else (1, round(2 + 2 * min(1.0, progress)))


def clips(frames_a_step: int, frames: int) -> int:
    """How many clips of that many frames a step has."""
    return max(1, frames_a_step // frames)


def batch_spec(
    step: int,
    progress: float,
    frames_a_step: int,
    lengths: tuple[int, int] = (SHORT, LONG),
    rank: int = 0,
    places: float = 0.0,
    disturbed: bool = False,
) -> BatchSpec:
    """Say what a step trains on at one of several ranks: worlds of its own, as many and as long as the others'.

    rank: below MOST_RANKS. places: share of clips in places. disturbed: see ``clip_times``. No two steps have the same
    worlds, whether or not a training goes on with as many ranks as it had.
    """
    drawn = np.random.Generator(np.random.Philox(FIRST_TRAINING_SEED - 1 - step)).random()
    frames = lengths[1] if drawn < long_share(progress) else lengths[0]
    number, count = step * MOST_RANKS + rank, clips(frames_a_step, frames)
    return BatchSpec(number, count, frames, strides(progress, frames), places, disturbed)


@dataclass(frozen=True)
class Share:
    """How much of a schedule has gone by after so many seconds of training."""

    total: float
    """Seconds at which it is over."""
    since: float = 0.0
    """Seconds at which it began; those before belong to an earlier one."""
    begin: float = 0.0
    """The share that it began with: a training that goes on needs no first steps."""

    def at(self, trained: float) -> float:
        """Return a number from ``begin`` to 1."""
        length = self.total - self.since
        gone = (trained - self.since) / length if length > 0 else 1.0
        return min(1.0, max(0.0, self.begin + (1 - self.begin) * gone))
