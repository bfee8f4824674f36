# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A second CUDA stream: it fills the gaps that small matrix products leave on a large card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class SideStream:
    """A CUDA stream that is forked from the current one and joined before anything depends on its work.

    On other devices, and while gradients are recorded, the work runs in the current stream.
    """

    def __init__(self, device: torch.device):
        self._stream = torch.cuda.Stream(device) if device.type == 'cuda' else None
        self._busy = False
        self._held: list[torch.Tensor] = []

    @contextmanager
    def fork(self, *used: torch.Tensor) -> Iterator[None]:
        """Run what is inside on the side stream.

        used: tensors of the current stream that must not be freed before the work is joined.
        """
        if self._stream is None or torch.is_grad_enabled():
            yield
            return
        self._held.extend(used)
        self._busy = True
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """Let the current stream wait for the side stream. Inside ``fork`` there is nothing to wait for."""
        if self._busy and self._stream is not None and torch.cuda.current_stream() != self._stream:
            torch.cuda.current_stream().wait_stream(self._stream)
            self._held.clear()
            self._busy = False
