# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Work beside the main line: what nobody waits for fills the gaps that small matrix products leave on a large card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Aside:
    """A second CUDA stream that begins where the main one is, and is joined before anything depends on it.

    On other devices, and while gradients are recorded, the work simply runs where it stands.
    """

    def __init__(self, device: torch.device):
        self._stream = torch.cuda.Stream(device) if device.type == 'cuda' else None
        self._busy = False
        self._held: list[torch.Tensor] = []

    @contextmanager
    def beside(self, *used: torch.Tensor) -> Iterator[None]:
        """Run what is inside beside the main stream; used: tensors of the main stream that it must not free before."""
        if self._stream is None or torch.is_grad_enabled():
            yield
            return
        self._held.extend(used)
        self._busy = True
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """The main stream waits for what runs beside it; inside ``beside`` that is in order anyway."""
        if self._busy and torch.cuda.current_stream() != self._stream:
            torch.cuda.current_stream().wait_stream(self._stream)
            self._held.clear()
            self._busy = False
