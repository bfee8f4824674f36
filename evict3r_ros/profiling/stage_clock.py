# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A clock for the stages of a frame: it listens to ``stages.on_stage``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

_Span = tuple[str, torch.cuda.Event, torch.cuda.Event]
"""A stage, its begin and its end."""


class StageClock:
    """Times stages: by the wall on a CPU, by events on a GPU, so that nothing waits inside a frame.

    Stages inside others count in both. Stages marked while a CUDA graph is recorded are timed in each of its replays.
    """

    def __init__(self, device: torch.device):
        self._cuda = device.type == 'cuda'
        self._sums: dict[str, float] = {}
        self._launched: list[_Span] = []
        self._recorded: list[_Span] = []
        self.frames: dict[str, list[float]] = {}
        """Milliseconds of each stage, frame by frame."""

    def __call__(self, stage: str) -> AbstractContextManager[None]:
        """Time what runs inside the returned context as part of a stage."""
        return self._on_device(stage) if self._cuda else self._on_host(stage)

    def end_frame(self) -> None:
        """Add the stages of a frame up; on a GPU only once all that was launched is done."""
        for stage, start, end in self._launched + self._recorded:
            self._add(stage, start.elapsed_time(end))
        for stage, total in self._sums.items():
            self.frames.setdefault(stage, []).append(total)
        self._sums.clear()
        self._launched.clear()

    @contextmanager
    def _on_host(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._add(stage, 1e3 * (time.perf_counter() - start))

    @contextmanager
    def _on_device(self, stage: str) -> Iterator[None]:
        start = _event()
        yield
        spans = self._recorded if torch.cuda.is_current_stream_capturing() else self._launched
        spans.append((stage, start, _event()))

    def _add(self, stage: str, milliseconds: float) -> None:
        self._sums[stage] = self._sums.get(stage, 0.0) + milliseconds


def _event() -> torch.cuda.Event:
    """Record an event in the current stream; inside a CUDA graph every replay records it anew."""
    event = torch.cuda.Event(enable_timing=True, external=torch.cuda.is_current_stream_capturing())
    event.record()
    return event
