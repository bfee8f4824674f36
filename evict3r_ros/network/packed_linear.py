# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A network's linear layers with their weights in 8 or 4 bits, and which layers these are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from evict3r_ros import kernels
from evict3r_ros.kernels import torch_linear
from evict3r_ros.network.precision import check_weight_bits

SENSITIVE = 'camera_head.'
"""Layers that have 8 bits at least: in 4 they alone make most of the poses' error, which the rounds of refinement feed
back (docs/performance.md has the measurement)."""


class PackedLinear(nn.Module):
    """A linear layer whose matrix lies packed; there is no other copy of it. Made by ``pack_layers``; forward only."""

    codes: torch.Tensor
    ranges: torch.Tensor
    bias: torch.Tensor

    def __init__(self, codes: torch.Tensor, ranges: torch.Tensor, bias: torch.Tensor):
        super().__init__()
        self.register_buffer('codes', codes)
        self.register_buffer('ranges', ranges)
        self.register_buffer('bias', bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to x (..., in) -> (..., out)."""
        product: torch.Tensor = kernels.packed_linear(x, self.codes, self.ranges, self.bias)
        return product


def packed_layers(network: nn.Module, bits: int) -> dict[str, int]:
    """Return the names of the linear layers to be packed, and each one's bits; none for 16 bits.

    Left as they are: what embeds a pose and what answers one, which are a thousandth of the weights. Raises UserError
    for other bits than WEIGHT_BITS.
    """
    check_weight_bits(bits)
    return {
        name: max(bits, 8) if name.startswith(SENSITIVE) else bits
        for name, layer in network.named_modules()
        if bits < 16 and isinstance(layer, nn.Linear) and torch_linear.can_pack(layer.out_features, layer.in_features)
    }


def pack_layers(network: nn.Module, bits: int, weight: Callable[[str], torch.Tensor]) -> None:
    """Put packed layers in the place of a network's own, one after the other.

    weight: returns a parameter by its name, so that the whole network need never be there in 16 bits.
    """
    for name, its_bits in packed_layers(network, bits).items():
        codes, ranges = torch_linear.pack_weight(weight(f'{name}.weight'), its_bits)
        parent, _, child = name.rpartition('.')
        setattr(network.get_submodule(parent), child, PackedLinear(codes, ranges, weight(f'{name}.bias')))


def weight_bytes(network: nn.Module) -> int:
    """Return the bytes of a network's weights, packed or not."""
    return sum(tensor.nbytes for tensor in network.state_dict().values())
