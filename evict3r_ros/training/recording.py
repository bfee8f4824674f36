# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A step's passes forward and backward as one CUDA graph.

Its 4000 small kernels take a CPU longer to ask for than to do.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from evict3r_ros.kernels.device_errors import is_out_of_memory
from evict3r_ros.stream.recorded import FrameGraph
from evict3r_ros.training.compiled import RECORDING, PartFailed
from evict3r_ros.training.rendered_clips import RenderedClips

_TOLERANCE = 0.05
"""Of the gradient's norm, against the step as it was before it was recorded; atomic sums in bfloat16 differ by less."""


class RecordedStep:
    """Clips in, gradients in the weights out; for clips of one shape, and only while weights stay where they lie."""

    def __init__(
        self,
        learn: Callable[[RenderedClips], dict[str, torch.Tensor]],
        rendered: RenderedClips,
        network: torch.nn.Module,
        beside: RecordedStep | None = None,
    ):
        """Record the step.

        learn: must have run on that shape before; network: whose gradients it leaves; beside: another step, whose
        memory this one may use again.

        Gradients are None afterwards. Raises PartFailed where a step cannot be recorded or goes wrong then.
        """
        self._parameters = list(network.parameters())
        self._inputs = RenderedClips(*(tensor.clone() for tensor in rendered.tensors()))
        network.zero_grad()
        try:
            plain = learn(self._inputs)
            expected = self._norm()
            network.zero_grad()
            self._graph: FrameGraph[dict[str, torch.Tensor]] = FrameGraph(
                lambda: learn(self._inputs), None if beside is None else beside._graph
            )
            self._gradients = [parameter.grad for parameter in self._parameters]
            found = self.repeat(rendered)
            pairs = ((plain['loss'], found['loss']), (expected, self._norm()))
            wrong = [
                f'{float(now):.6g} for {float(before):.6g}'
                for before, now in pairs
                if not abs(now - before) <= _TOLERANCE * abs(before)
            ]
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise PartFailed(RECORDING) from error
        finally:
            network.zero_grad()
        if wrong:
            raise PartFailed(RECORDING) from RuntimeError(f'what was recorded says {", ".join(wrong)}')

    def repeat(self, rendered: RenderedClips) -> dict[str, torch.Tensor]:
        """Do the step on other clips. What it returns, and the gradients, hold until the next call."""
        for place, tensor in zip(self._inputs.tensors(), rendered.tensors(), strict=True):
            place.copy_(tensor, non_blocking=True)
        parts = self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return parts

    def _norm(self) -> torch.Tensor:
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm: torch.Tensor = torch.stack(torch._foreach_norm(gradients)).norm()
        return norm
