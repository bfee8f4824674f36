# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Held-out worlds: seeds of the generator that training never uses.

Demos and tests use small seeds; training uses seeds from ``training.batches.FIRST_TRAINING_SEED`` (2^32) on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evict3r_ros.errors import UserError

SPLITS = {'dev': range(1_000_000_000, 2_000_000_000), 'test': range(2_000_000_000, 3_000_000_000)}
"""``dev``: to choose settings. ``test``: to measure once, after the choice."""


@dataclass(frozen=True)
class HeldOut:
    """A set of streams. A larger set begins with the clips of a smaller one."""

    seed: int = 0
    """Any integer; each gives different worlds."""
    split: str = 'dev'
    clips: int = 8
    frames: int = 12
    stride: int = 4
    """1 is video, 4 is every fourth frame of it."""
    effects: bool = True
    """Camera effects: noise, blur, exposure, lens."""
    loop: bool = False
    """Whether the path returns to its start."""
    height: int = 168
    width: int = 224
    laps: int = 1
    """How often a loop is repeated, ``frames`` each."""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise UserError(f'split {self.split!r} is not one of {", ".join(SPLITS)}')
        for name in ('clips', 'frames', 'stride', 'laps'):
            if getattr(self, name) < 1:
                raise UserError(f'{name} {getattr(self, name)} must be at least 1')
        if self.frames < 2:
            raise UserError('one frame is no trajectory: give at least 2')
        if self.laps > 1 and not self.loop:
            raise UserError(f'{self.laps} laps: only a loop can be repeated')

    def world_seeds(self) -> list[int]:
        """Return a seed for each clip, in the split's range."""
        entropy = [abs(self.seed), int(self.seed < 0)]
        drawn = np.random.SeedSequence(entropy).generate_state(self.clips, np.uint64)
        low, high = SPLITS[self.split].start, SPLITS[self.split].stop
        return [low + int(number) % (high - low) for number in drawn]

    def streams(self) -> Iterator[StreamSpec]:
        """Yield the description of each clip."""
        for seed in self.world_seeds():
            yield StreamSpec(
                seed, self.frames, self.stride, self.effects, self.loop, self.height, self.width, self.laps
            )


@dataclass(frozen=True)
class StreamSpec:
    """Everything that determines the images and ground truth of a clip."""

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

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary; without ``laps`` if there is one, as in older records."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ('laps', 1)}
