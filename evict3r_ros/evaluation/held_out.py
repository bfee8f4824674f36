# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Worlds that no training has seen: seeds of the same generator that training leaves alone.

Demonstrations and tests take small seeds; training takes those from ``training.batches.FIRST_TRAINING_SEED`` (2^32) on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from evict3r_ros.errors import UserError

SPLITS = {'dev': range(1_000_000_000, 2_000_000_000), 'test': range(2_000_000_000, 3_000_000_000)}
"""``dev``: to choose by. ``test``: to look at once, when the choice is made."""


@dataclass(frozen=True)
class HeldOut:
    """A set of streams. The first clips of a larger set are those of a smaller one."""

    seed: int = 0
    """Any whole number; each names other worlds."""
    split: str = 'dev'
    clips: int = 8
    frames: int = 12
    stride: int = 4
    """Of a camera at rest speed: 1 is video, 4 is every fourth frame of it."""
    effects: bool = True
    """Camera effects: noise, blur, exposure, lens."""
    loop: bool = False
    """A path that comes back to where it began."""
    height: int = 168
    width: int = 224
    laps: int = 1
    """How many times a loop is gone round, ``frames`` each."""

    def __post_init__(self):
        if self.split not in SPLITS:
            raise UserError(f'split {self.split!r} is not one of {", ".join(SPLITS)}')
        for name in ('clips', 'frames', 'stride', 'laps'):
            if getattr(self, name) < 1:
                raise UserError(f'{name} {getattr(self, name)} must be at least 1')
        if self.frames < 2:
            raise UserError('one frame has no trajectory: give at least 2')
        if self.laps > 1 and not self.loop:
            raise UserError(f'{self.laps} laps: only a loop is gone round again')

    def world_seeds(self) -> list[int]:
        """A seed for each clip, in the split's range."""
        entropy = [abs(self.seed), int(self.seed < 0)]
        drawn = np.random.SeedSequence(entropy).generate_state(self.clips, np.uint64)
        low, high = SPLITS[self.split].start, SPLITS[self.split].stop
        return [low + int(number) % (high - low) for number in drawn]

    def streams(self) -> Iterator[StreamSpec]:
        """Each clip on its own."""
        for seed in self.world_seeds():
            yield StreamSpec(
                seed, self.frames, self.stride, self.effects, self.loop, self.height, self.width, self.laps
            )


@dataclass(frozen=True)
class StreamSpec:
    """All that decides a clip's images and truth."""

    seed: int
    frames: int
    stride: int
    effects: bool
    loop: bool
    height: int
    width: int
    laps: int = 1

    @property
    def all_frames(self) -> int:
        """Frames of all laps."""
        return self.frames * self.laps

    def as_dict(self) -> dict:
        """Return plain values, to be written down; without ``laps`` where there is one, as older records are."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ('laps', 1)}
