# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A frame's work, the same for every frame, recorded once as a CUDA graph and launched as one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from evict3r_ros.stages import stage

Answer = TypeVar('Answer')


class FrameGraph(Generic[Answer]):
    """A piece of a frame's work; every replay reads and writes the same tensors.

    The work must have run before, so that libraries and kernels are ready, must not ask the device anything, and must
    keep its state in tensors that it changes in place. What it allocates stays its own until the graph is dropped.
    """

    def __init__(self, work: Callable[[], Answer], after: FrameGraph[Any] | None = None):
        """Record the work; after: a graph always replayed before this one, whose memory it may use again."""
        self._graph = torch.cuda.CUDAGraph()
        pool = None if after is None else after._graph.pool()
        # Other threads of a node may use CUDA meanwhile.
        with torch.cuda.graph(self._graph, pool=pool, stream=_main_stream(), capture_error_mode='thread_local'):
            self.answer = work()
            """What the work returned; its tensors hold the latest replay's numbers."""

    def replay(self) -> Answer:
        """Do the work once more; returns before the device is done."""
        self._graph.replay()
        return self.answer


@functools.cache
def _main_stream() -> torch.cuda.Stream:
    # Ahead of side streams, where both want the same multiprocessor.
    return torch.cuda.Stream(priority=-1)


class Transfer:
    """Fixed places for what crosses between host and device in a frame: the image there, a few numbers back."""

    def __init__(self, image_shape: tuple[int, ...], numbers: int, device: torch.device):
        self._staged = torch.empty(image_shape, dtype=torch.uint8, pin_memory=True)
        self.image = torch.empty(image_shape, dtype=torch.uint8, device=device)
        """On the device."""
        self.numbers = torch.empty(numbers, dtype=torch.float32, pin_memory=True)
        """On the host; valid after ``wait``."""
        self._arrived = torch.cuda.Event()

    def send(self, image: torch.Tensor) -> None:
        """Copy an image to the device, from wherever it lies; the last frame must be done."""
        with stage('copy of the image'):
            if image.is_cuda:
                self.image.copy_(image)
            else:
                self._staged.copy_(image)
                self.image.copy_(self._staged, non_blocking=True)

    def wait(self) -> np.ndarray:
        """Wait for all that was launched, and return the numbers in float64."""
        self._arrived.record()
        self._arrived.synchronize()
        return self.numbers.numpy().astype(np.float64)
