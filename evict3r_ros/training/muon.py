# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Muon: momentum made orthogonal, for the blocks' matrices; all matrices of a shape in one batch of products."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Return the nearest orthogonal matrices, about: (n, rows, columns) -> the same shape.

    In bfloat16 but on a CPU, which is slow at it.
    Newton-Schulz with a polynomial of fifth degree (Jordan et al. 2024, kellerjordan.github.io/posts/muon).
    """
    x: torch.Tensor = matrices.to(torch.float32 if matrices.device.type == 'cpu' else torch.bfloat16)
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True) * 1.01 + 1e-7).to(x.dtype)
    a, b, c = _COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + torch.baddbmm(b * gram, gram, gram, beta=1, alpha=c) @ x
    found: torch.Tensor = x if wide else x.mT
    return found


class Muon(torch.optim.Optimizer):
    """For matrices only.

    The step is scaled by 0.2 sqrt(longer side), so that one learning rate serves here and in AdamW (arXiv 2502.16982,
    eq. 4). A ``qkv`` matrix is three.
    """

    def __init__(
        self, matrices: list[tuple[str, nn.Parameter]], lr: float, momentum: float = 0.95, weight_decay: float = 0.02
    ):
        super().__init__(
            [parameter for _, parameter in matrices], {'lr': lr, 'momentum': momentum, 'weight_decay': weight_decay}
        )
        self._parts = {parameter: 3 if name.endswith('qkv.weight') else 1 for name, parameter in matrices}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no step is evaluated again by a closure
        """Take one step; every parameter must have its gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[torch.Size, int], list[torch.Tensor]] = defaultdict(list)
            for parameter in group['params']:
                by_shape[parameter.shape, self._parts[parameter]].append(parameter)
            for (shape, parts), parameters in by_shape.items():
                self._step(group, parameters, (parts, shape[0] // parts, shape[1]))

    def _step(self, group: dict[str, Any], parameters: list[torch.Tensor], shape: tuple[int, int, int]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]['momentum'] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]['momentum'] for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        torch._foreach_lerp_(momenta, gradients, 1 - group['momentum'])
        ahead = torch._foreach_lerp(gradients, momenta, group['momentum'])  # Nesterov's
        update = orthogonal(torch.stack([one.view(shape) for one in ahead]).flatten(0, 1))
        update = update.float().view(len(parameters), *parameters[0].shape)
        torch._foreach_mul_(parameters, 1 - group['lr'] * group['weight_decay'])
        torch._foreach_add_(parameters, list(update.unbind(0)), alpha=-group['lr'] * 0.2 * max(shape[1:]) ** 0.5)


def make_optimizers(network: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Make Muon for the matrices inside blocks, and AdamW for all else.

    All else: tokens, tables, norms, convolutions, first and last layers.
    """
    matrices: list[tuple[str, nn.Parameter]] = []
    others: list[tuple[str, nn.Parameter]] = []
    for name, parameter in network.named_parameters():
        inside = parameter.ndim == 2 and ('blocks.' in name or '.trunk.' in name or 'poseLN_modulation' in name)
        (matrices if inside else others).append((name, parameter))
    kernels = [parameter for _, parameter in others if parameter.ndim == 4]
    rest = [parameter for _, parameter in others if parameter.ndim != 4]
    adam = torch.optim.AdamW(
        [{'params': kernels, 'weight_decay': 0.02}, {'params': rest, 'weight_decay': 0.0}],
        lr=lr,
        betas=(0.9, 0.98),
        fused=parameter_device(network).type == 'cuda',
    )
    return [Muon(matrices, lr), adam]


def parameter_device(network: nn.Module) -> torch.device:
    """Where the weights lie."""
    return next(network.parameters()).device
