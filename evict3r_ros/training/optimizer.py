# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a step does with gradients: averaged over ranks, clipped, into weights, and these into their running mean."""

from __future__ import annotations

import torch

from evict3r_ros.network import StreamVGGT
from evict3r_ros.training.muon import make_optimizers
from evict3r_ros.training.ranks import Ranks, views_of

_EMA = 0.998
_EQUAL_EVERY = 100
_LARGEST_NORM = 1.0


class AveragedOptimizer:
    """The optimizers of a network and the running mean of its weights, which is what is validated and shipped."""

    def __init__(self, network: StreamVGGT, learning_rate: float, ranks: Ranks):
        self._network, self.ranks = network, ranks
        self.parameters: list[torch.Tensor] = list(network.parameters())
        self.optimizers = make_optimizers(network, learning_rate)
        self.mean = [parameter.detach().clone() for parameter in self.parameters]

    def step(self, step: int, rate: float) -> torch.Tensor:
        """Take one step from the gradients that lie in the weights. Returns their norm before clipping."""
        used = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in used])
        self.ranks.average(flat)
        norm: torch.Tensor = flat.norm()
        # A gradient that is no number is left out; looking whether it is one would wait for the device.
        flat.mul_((_LARGEST_NORM / (norm + 1e-6)).clamp(max=1.0)).nan_to_num_(0.0, 0.0, 0.0)
        torch._foreach_copy_(used, views_of(flat, used))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group['lr'] = rate
            optimizer.step()
        self._network.zero_grad()
        if step % _EQUAL_EVERY == 0:
            self.ranks.make_equal([parameter.data for parameter in self.parameters])
        kept = min(_EMA, (step + 1) / (step + 10))
        torch._foreach_lerp_(self.mean, self.parameters, 1 - kept)
        return norm

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the weights and their running mean."""
        weights = [parameter.detach().clone() for parameter in self.parameters]
        torch._foreach_copy_(self.parameters, self.mean)
        torch._foreach_copy_(self.mean, weights)
