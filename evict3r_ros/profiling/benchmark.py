# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How long a frame takes and where the time goes, on random images that differ from each other."""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evict3r_ros.cache import CacheConfig
from evict3r_ros.io.figures import new_figure, save
from evict3r_ros.network import StreamVGGT
from evict3r_ros.profiling.stage_clock import StageClock
from evict3r_ros.stages import on_stage
from evict3r_ros.stream import Stream

GIB = 2**30
EARLY = 500
LATE = 100
STAGE_FRAMES = 30
"""Frames over which stages are timed, apart from the rest: clocks between kernels cost a little themselves."""


@dataclass
class Measurement:
    """Times of a run, in milliseconds."""

    frames_ms: list[float]
    """Each measured frame, from image to prediction."""
    memory: list[int]
    """Bytes after each frame: on CUDA what torch has allocated, on a CPU the most that was ever resident."""
    stages_ms: dict[str, float]
    """Median of each stage's sum over a frame. Stages inside others count in both; some run side by side."""
    peak_gib: float
    """CUDA: the most that torch ever had allocated. CPU: the most that the process ever had resident."""
    first_ms: float
    """The stream's first frame, with whatever had to be compiled or loaded."""
    tokens: int
    """The budget a layer, resolved."""
    extra: dict[str, Any] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """Return the figures, by the names that scripts rely on."""
        times = self.frames_ms
        return {
            'median_ms': statistics.median(times),
            'p99_ms': float(np.percentile(times, 99)),
            'first_500_median_ms': statistics.median(times[:EARLY]),
            'last_100_median_ms': statistics.median(times[-LATE:]),
            **{
                f'frame_{number}_median_ms': statistics.median(times[number - LATE : number])
                for number in (500, 5000)
                if len(times) >= number
            },
            'peak_gib': self.peak_gib,
            'steady_gib': self.memory[-1] / GIB,
            'first_frame_ms': self.first_ms,
            'tokens_per_layer': self.tokens,
            'frames': len(times),
            'stages': self.stages_ms,
            **self.extra,
        }


def random_images(size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield images of noise (h, w, 3) uint8 without end, no two alike; rolling a few dozen makes them cheap."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, *size, 3), dtype=np.uint8)
    while True:
        for image in images:
            yield np.roll(image, int(rng.integers(image.size)))


def measure(
    network: StreamVGGT,
    config: CacheConfig,
    size: tuple[int, int],
    frames: int,
    warm_up: int = 4,
    progress: Callable[[], object] = lambda: None,
) -> Measurement:
    """Run a stream over ``warm_up`` + ``frames`` random images of ``size`` (height, width), the network's.

    Then, with a cache as full as it was, a few more with clocks between the stages.
    """
    device = network.device
    # What a run before this one left in cycles must not count as this one's memory.
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    times, memory = [], []
    images = random_images(size)
    with Stream(network, config, camera_size=size, image_width=size[1]) as stream:
        for index in range(warm_up + frames):
            image = next(images)
            start = time.perf_counter()
            stream.step(image)
            times.append(1e3 * (time.perf_counter() - start))
            memory.append(_memory(device))
            if index >= warm_up:
                progress()
        tokens = stream.config.tokens
        peak = torch.cuda.max_memory_allocated(device) if device.type == 'cuda' else memory[-1]
        clock = StageClock(device)
        with on_stage(clock):
            stream.forget_graph()
            for _ in range(min(STAGE_FRAMES, frames)):
                stream.step(next(images))
                clock.end_frame()
    stages = {stage: statistics.median(values) for stage, values in clock.frames.items()}
    return Measurement(times[warm_up:], memory[warm_up:], stages, peak / GIB, times[0], tokens)


def _memory(device: torch.device) -> int:
    if device.type == 'cuda':
        return torch.cuda.memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def plot(runs: dict[str, Measurement], path: Path) -> None:
    """Draw latency and memory against the frame number, a line for each run, as PNG."""
    figure = new_figure(9, 6)
    above, below = figure.subplots(2, sharex=True)
    for name, run in runs.items():
        above.plot(run.frames_ms, label=f'{name} ({statistics.median(run.frames_ms):.1f} ms)', linewidth=0.8)
        below.plot([size / GIB for size in run.memory], label=name)
    above.set(ylabel='ms a frame', yscale='log')
    below.set(ylabel='GiB', xlabel='frame', ylim=(0, None))
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.legend()
    save(figure, path)
