# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How long a frame takes and where the time goes, on random images that differ from each other."""

import functools
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from evict3r_ros.cache import CacheConfig
from evict3r_ros.network import StreamVGGT
from evict3r_ros.stream import Stream

GIB = 2 ** 30
EARLY = 500
LATE = 100


@dataclass
class Measurement:
    """Times of a run, in milliseconds."""

    frames_ms: list[float]
    """Each measured frame, from image to prediction."""
    stages_ms: dict[str, float]
    """Median of each stage's sum over a frame."""
    peak_gib: float
    """CUDA: the most that torch ever had allocated. CPU: the most that the process ever had resident."""
    tokens: int
    """The budget a layer, resolved."""
    extra: dict = field(default_factory=dict)

    def report(self) -> dict:
        """The figures, by the names that scripts rely on."""
        times = self.frames_ms
        return {
            'median_ms': statistics.median(times), 'p99_ms': float(np.percentile(times, 99)),
            'first_500_median_ms': statistics.median(times[:EARLY]),
            'last_100_median_ms': statistics.median(times[-LATE:]), 'peak_gib': self.peak_gib,
            'tokens_per_layer': self.tokens, 'frames': len(times), 'stages': self.stages_ms, **self.extra}


class StageClock:
    """Times calls by stage: wall time on a CPU, events on a GPU, so that nothing waits inside a frame."""

    def __init__(self, device: torch.device):
        self._cuda = device.type == 'cuda'
        self._spans: list[tuple[str, object, object]] = []
        self.frames: dict[str, list[float]] = {}

    def now(self):
        """A moment."""
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start, end) -> float:
        """Milliseconds; on a GPU only once both have passed."""
        return start.elapsed_time(end) if self._cuda else 1e3 * (end - start)

    def timed(self, stage: str, call: Callable) -> Callable:
        """The call, timed as part of a stage; inner stages count in outer ones too."""
        @functools.wraps(call)
        def wrapper(*args, **kwargs):
            start = self.now()
            answer = call(*args, **kwargs)
            self._spans.append((stage, start, self.now()))
            return answer
        return wrapper

    def end_frame(self) -> None:
        """Add the frame's calls up."""
        sums: dict[str, float] = {}
        for stage, start, end in self._spans:
            sums[stage] = sums.get(stage, 0.0) + self.between(start, end)
        for stage, total in sums.items():
            self.frames.setdefault(stage, []).append(total)
        self._spans.clear()


def _time_stages(clock: StageClock, network: StreamVGGT, stream: Stream) -> Callable[[], None]:
    """Time the parts of a stream; call the answer to take the clocks off the network, which outlives the stream."""
    aggregator, cache = network.aggregator, stream.cache
    modules = {'patch encoder': [aggregator.patch_embed], 'frame blocks': list(aggregator.frame_blocks),
               'global blocks': list(aggregator.global_blocks), 'camera head': [network.camera_head],
               'depth head': [network.depth_head]}
    for stage, parts in modules.items():
        for part in parts:
            part.forward = clock.timed(stage, part.forward)
    cache.attend = clock.timed('attention with cache, in global blocks', cache.attend)
    cache.policy.observe = clock.timed('scoring, in attention', cache.policy.observe)
    cache.pool.write = clock.timed('quantization, in attention', cache.pool.write)
    cache.pool.read = clock.timed('unpacking, in attention', cache.pool.read)
    cache.end_frame = clock.timed('eviction', cache.end_frame)

    def restore() -> None:
        for parts in modules.values():
            for part in parts:
                del part.forward
    return restore


def measure(network: StreamVGGT, config: CacheConfig, size: tuple[int, int], frames: int, warm_up: int = 3,
            progress: Callable[[int], None] = lambda _: None) -> Measurement:
    """
    Run a stream over ``warm_up`` + ``frames`` random images of ``size`` (height, width), the network's.

    The images are made beforehand, a few dozen that take turns, so that making them costs nothing inside.
    """
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(min(32, warm_up + frames))]
    device = network.device
    clock = StageClock(device)
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    times = []
    with Stream(network, config, camera_size=size, image_width=size[1]) as stream:
        restore = _time_stages(clock, network, stream)
        try:
            for index in range(warm_up + frames):
                start = clock.now()
                stream.step(images[index % len(images)])
                end = clock.now()
                if device.type == 'cuda':
                    end.synchronize()
                times.append(clock.between(start, end))
                clock.end_frame()
                progress(index)
        finally:
            restore()
        tokens = stream.config.tokens
    if device.type == 'cuda':
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    stages = {stage: statistics.median(values[warm_up:]) for stage, values in clock.frames.items()}
    return Measurement(times[warm_up:], stages, peak / GIB, tokens)
