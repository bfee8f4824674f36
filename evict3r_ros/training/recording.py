# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A step's passes forward and backward as one CUDA graph: its 4000 small kernels take a CPU longer to ask for than to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from evict3r_ros.stream.recorded import FrameGraph
from evict3r_ros.training.pieces import RECORDING, PieceFailed, is_out_of_memory

if TYPE_CHECKING:
    from evict3r_ros.training.model import Seen

_TOLERANCE = 0.05
"""Of the gradient's norm, against the step as it was before it was recorded; atomic sums in bfloat16 differ by less."""


class RecordedStep:
    """Clips in, gradients in the weights out; for clips of one shape, and only while the weights stay where they lie."""

    def __init__(
        self,
        learn: Callable[[Seen], dict[str, torch.Tensor]],
        seen: Seen,
        network: torch.nn.Module,
        beside: RecordedStep | None = None,
    ):
        """learn: must have run on that shape before; network: whose gradients it leaves; beside: another step, whose memory
        this one may use again.

        Gradients are None afterwards. Raises PieceFailed where a step cannot be recorded or goes wrong then.
        """
        self._parameters = list(network.parameters())
        self._seen = type(seen)(*(tensor.clone() for tensor in seen.tensors()))
        network.zero_grad()
        try:
            plain = learn(self._seen)
            expected = self._norm()
            network.zero_grad()
            self._graph = FrameGraph(lambda: learn(self._seen), beside and beside._graph)
            self._gradients = [parameter.grad for parameter in self._parameters]
            found = self.repeat(seen)
            pairs = ((plain['loss'], found['loss']), (expected, self._norm()))
            wrong = [
                f'{float(now):.6g} for {float(before):.6g}'
                for before, now in pairs
                if not abs(now - before) <= _TOLERANCE * abs(before)
            ]
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise PieceFailed(RECORDING) from error
        finally:
            network.zero_grad()
        if wrong:
            raise PieceFailed(RECORDING) from RuntimeError(f'what was recorded says {", ".join(wrong)}')

    def repeat(self, seen: Seen) -> dict[str, torch.Tensor]:
        """The step on other clips. What it returns, and the gradients, hold until the next call."""
        for place, tensor in zip(self._seen.tensors(), seen.tensors(), strict=True):
            place.copy_(tensor, non_blocking=True)
        parts = self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return parts

    def _norm(self) -> torch.Tensor:
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        return torch.stack(torch._foreach_norm(gradients)).norm()
