# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""When the frames of a clip are taken: evenly, with gaps, or with what befalls a stream on a robot.

A stream goes back to where it was, its views come out of order, it is frozen or covered for a while: a network that has
never seen that has no idea where it is afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_LONG_ENOUGH_FOR_A_LOOP = 32


def draw_times(
    generator: np.random.Generator, clips: int, frames: int, strides: tuple[int, int], loop: float | None = None
) -> np.ndarray:
    """(clips, frames): when each frame was taken; loop: the length of the loop that they are on, if any.

    Half of the clips begin with the world's time, at rest, as a stream does; a third have gaps of changing length, as a
    cache that keeps some frames only has. Long clips on a loop may go all round it, and places of a short way twice: a
    network that has never seen a camera turn its back on the first frame has no idea where it is then.
    """
    low, high = strides
    if loop is not None and frames >= _LONG_ENOUGH_FOR_A_LOOP:
        high = max(high, round(loop / frames))
    stride = generator.integers(low, high + 1, (clips, 1))
    uneven = generator.random((clips, 1)) < 1 / 3
    gaps = np.where(uneven, generator.integers(1, 2 * stride + 1, (clips, frames)), stride)
    gaps[:, 0] = np.where(generator.random(clips) < 0.5, 0, generator.integers(0, 600, clips))
    return np.cumsum(gaps, axis=1).astype(np.float64)


def _unordered(times: np.ndarray, visible: np.ndarray, generator: np.random.Generator) -> None:
    generator.shuffle(times)


def _back(times: np.ndarray, visible: np.ndarray, generator: np.random.Generator) -> None:
    """Go on from an earlier frame's place."""
    cut, earlier = _cut(times, generator)
    times[cut:] += times[earlier] - times[cut] + generator.random() * (times[1] - times[0])


def _there_and_back(times: np.ndarray, visible: np.ndarray, generator: np.random.Generator) -> None:
    cut, _ = _cut(times, generator)
    times[cut:] = np.interp(2.0 * cut - np.arange(cut, len(times)), np.arange(cut + 1), times[: cut + 1])


def _frozen(times: np.ndarray, visible: np.ndarray, generator: np.random.Generator) -> None:
    """Hang the camera's driver: one picture again and again, then the present."""
    start, end = _pause(times, generator)
    times[start:end] = times[start]


def _covered(times: np.ndarray, visible: np.ndarray, generator: np.random.Generator) -> None:
    start, end = _pause(times, generator)
    visible[start:end] = False
    if generator.random() < 0.5:
        times[end:] += times[generator.integers(0, start)] - times[end]


_EVENTS: tuple[tuple[float, Callable[[np.ndarray, np.ndarray, np.random.Generator], None]], ...] = (
    (0.08, _unordered),
    (0.12, _back),
    (0.06, _there_and_back),
    (0.03, _frozen),
    (0.04, _covered),
)
"""Shares of the clips. Each changes times and visible (frames,) of a clip in place; the first frame is always seen."""
SHORTEST = 6
"""Frames of a clip in which something may happen."""


def _cut(times: np.ndarray, generator: np.random.Generator) -> tuple[int, int]:
    """Draw a frame in the second to third quarter, and one before it."""
    cut = int(generator.integers(len(times) // 3, 3 * len(times) // 4))
    return cut, int(generator.integers(0, cut))


def _pause(times: np.ndarray, generator: np.random.Generator) -> tuple[int, int]:
    length = int(generator.integers(1, max(2, len(times) // 4)))
    start = int(generator.integers(2, len(times) - length - 1))
    return start, start + length


def disturb(times: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Let something befall part of the clips: their times and what is visible (clips, frames), bool."""
    times, visible = times.copy(), np.ones(times.shape, dtype=bool)
    if times.shape[1] < SHORTEST:
        return times, visible
    edges = np.cumsum([share for share, _ in _EVENTS])
    for clip, drawn in enumerate(generator.random(len(times))):
        number = int(np.searchsorted(edges, drawn))
        if number < len(_EVENTS):
            _EVENTS[number][1](times[clip], visible[clip], generator)
    return times, visible
