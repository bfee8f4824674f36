# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A long run: memory and latency against the frame number."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evict3r_ros.cache import CacheConfig
from evict3r_ros.io.figures import new_figure, save
from evict3r_ros.network import StreamVGGT
from evict3r_ros.profiling.process import resident_bytes
from evict3r_ros.stream import Stream

EVERY = 50
"""Frames between two looks at memory."""
WARM_UP = 100


@dataclass(frozen=True)
class Soak:
    """What a long run showed."""

    latency_ms: np.ndarray
    """(frames,): wall time."""
    cpu_ms: np.ndarray
    """(frames,): time on processors, all threads; unlike wall time it does not tell what else the machine did."""
    looked_at: np.ndarray
    """(looks,): the frame numbers of the next two."""
    resident: np.ndarray
    """(looks,): bytes of the process in memory."""
    tensors: np.ndarray
    """(looks,): bytes of all living tensors' storages."""

    def summary(self) -> dict[str, Any]:
        """Return the figures that say whether anything grows, and by how much, after the warm-up.

        Times are quartiles of frames 100 to 200 (early) and of the last 100 (late).
        """
        steady = self.looked_at >= WARM_UP
        spans = {'early': slice(WARM_UP, 2 * WARM_UP), 'late': slice(-100, None)}
        times = {
            f'{when}_{kind}_ms': [round(float(x), 2) for x in np.percentile(values[span], [25, 50, 75])]
            for kind, values in (('latency', self.latency_ms), ('cpu', self.cpu_ms))
            for when, span in spans.items()
        }
        return {
            'frames': len(self.latency_ms),
            'tensor_bytes_first': int(self.tensors[steady][0]),
            'tensor_bytes_last': int(self.tensors[steady][-1]),
            'tensor_bytes_distinct': len(set(self.tensors[steady].tolist())),
            'resident_mib_first': float(self.resident[steady][0] / 2**20),
            'resident_mib_last': float(self.resident[steady][-1] / 2**20),
            'resident_bytes_a_frame': float(np.polyfit(self.looked_at[steady], self.resident[steady], 1)[0]),
            **times,
        }


def living_tensor_bytes() -> int:
    """Return the bytes of all storages that any living tensor has, each counted once."""
    storages = {}
    for thing in gc.get_objects():
        # The type, not isinstance: that would ask objects for their class, and wake lazy ones.
        if issubclass(type(thing), torch.Tensor) and thing.layout == torch.strided:
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def run(
    network: StreamVGGT,
    config: CacheConfig,
    size: tuple[int, int],
    frames: int,
    progress: Callable[[int], object] = lambda _: None,
) -> Soak:
    """Run a stream over random images of ``size`` (height, width), the network's, each made when it is needed."""
    rng = np.random.default_rng(0)
    latency, cpu = np.empty(frames), np.empty(frames)
    looked_at, resident, tensors = [], [], []
    with Stream(network, config, size, image_width=size[1]) as stream:
        for index in range(frames):
            image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            start, cpu_start = time.perf_counter(), time.process_time()
            stream.step(image)
            latency[index] = 1e3 * (time.perf_counter() - start)
            cpu[index] = 1e3 * (time.process_time() - cpu_start)
            if index % EVERY == 0:
                gc.collect()
                looked_at.append(index)
                resident.append(resident_bytes())
                tensors.append(living_tensor_bytes())
            progress(index)
    return Soak(latency, cpu, np.array(looked_at), np.array(resident), np.array(tensors))


def plot(soak: Soak, path: Path, title: str) -> None:
    """Draw latency and memory against the frame number, as PNG."""
    figure = new_figure(9, 6)
    above, below = figure.subplots(2, sharex=True)
    above.plot(soak.latency_ms, '.', markersize=1.5, color='0.6', label='each frame')
    window = 50
    for values, label, colour in ((soak.latency_ms, 'wall time', 'C0'), (soak.cpu_ms, 'processor time', 'C3')):
        smooth = [statistics.median(values[i : i + window]) for i in range(0, len(values) - window, window)]
        above.plot(
            np.arange(len(smooth)) * window + window / 2, smooth, color=colour, label=f'{label}, median of {window}'
        )
    above.set(ylabel='a frame [ms]', ylim=(0, float(np.percentile(soak.latency_ms, 99.5)) * 1.2), title=title)
    above.legend(loc='upper right')
    below.plot(soak.looked_at, soak.resident / 2**20, label='resident', color='C1')
    below.plot(soak.looked_at, soak.tensors / 2**20, label='tensors', color='C2')
    below.set(xlabel='frame', ylabel='memory [MiB]', ylim=(0, None))
    below.legend(loc='lower right')
    save(figure, path)
