# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Linear layers whose weights are packed in 8 or 4 bits: the packing, and the reference for the product.

8 bits: codes (out, in) int8 and ranges (out,) float32, a scale an output channel; a weight is code * scale. 4 bits:
codes (out, in / 2) uint8 and ranges (out, in / GROUP, 2) float16, minimum and step of each GROUP inputs; a weight is
code * step + minimum, and a byte holds two inputs of one group, half a group apart. The type of the codes says which.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

GROUP = 64
"""Inputs that share a minimum and a step in 4 bits."""
TILE_BYTES = 4 * 2**20
"""Unpacked weights held at one time."""
SEARCH_BYTES = 16 * 2**20
"""Weights whose 4-bit codes are searched at one time, which takes several times as much."""
_SHRINKS = (1.0, 0.9, 0.8, 0.7)
"""Shares of a group's range at which the search for its minimum and step begins."""
_REFITS = 3
"""How often codes and line are fitted to each other from there."""


def can_pack(outputs: int, inputs: int) -> bool:
    """Return whether a matrix is large enough, and of a width that packs."""
    return outputs >= 16 and inputs % GROUP == 0


def pack_weight(weight: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return codes and ranges of a matrix (out, in), of which ``can_pack`` is true; bits: 8 or 4."""
    if bits == 8:
        scale = weight.float().abs().amax(1).clamp(min=1e-12) / 127
        return (weight.float() / scale[:, None]).round().to(torch.int8), scale
    outputs, inputs = weight.shape
    codes = weight.new_empty(outputs, inputs // 2, dtype=torch.uint8)
    ranges = weight.new_empty(outputs, inputs // GROUP, 2, dtype=torch.float16)
    # A plan wants the shapes alone.
    if not weight.is_meta:
        rows = max(1, SEARCH_BYTES // (4 * inputs))
        for some, its_codes, its_ranges in zip(weight.split(rows), codes.split(rows), ranges.split(rows), strict=True):
            found = _pack_groups(some)
            its_codes.copy_(found[0])
            its_ranges.copy_(found[1])
    return codes, ranges


def _pack_groups(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return 4-bit codes and ranges of a few rows: those of the least squared error that the search finds."""
    x = weight.float().unflatten(1, (-1, GROUP))
    low, high = x.aminmax(dim=-1, keepdim=True)
    best_error = torch.full_like(low, torch.inf)
    best_low, best_step = torch.zeros_like(low), torch.zeros_like(low)
    for shrink in _SHRINKS:
        first, step = low * shrink, (high - low) * shrink / 15
        for refit in range(_REFITS + 1):
            # As they are stored, so that the codes fit what is read.
            first, step = first.half().float(), step.half().float()
            codes = _codes(x, first, step)
            error = (codes * step + first - x).square().sum(-1, keepdim=True)
            better = error < best_error
            best_error = torch.where(better, error, best_error)
            best_low, best_step = torch.where(better, first, best_low), torch.where(better, step, best_step)
            if refit < _REFITS:
                # The line that is nearest to the numbers, given the codes (least squares).
                mean, centre = codes.mean(-1, keepdim=True), x.mean(-1, keepdim=True)
                spread = (codes - mean).square().sum(-1, keepdim=True)
                slope = ((codes - mean) * (x - centre)).sum(-1, keepdim=True) / spread.clamp(min=1e-6)
                first, step = centre - slope * mean, slope
    packed = _codes(x, best_low, best_step).to(torch.uint8)
    near, far = packed.chunk(2, dim=-1)
    return (near | (far << 4)).flatten(1), torch.cat((best_low, best_step), dim=-1).half()


def _codes(x: torch.Tensor, low: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Return the nearest codes 0 … 15; 0 where a step is zero, because all numbers of the group are the same."""
    return torch.where(step > 0.0, (x - low) / step, 0.0).round().clamp(0.0, 15.0)


def unpack_weight(codes: torch.Tensor, ranges: torch.Tensor) -> torch.Tensor:
    """Return the matrix (out, in) float32."""
    if codes.dtype == torch.int8:
        return codes.float() * ranges[:, None]
    packed = codes.unflatten(1, (-1, GROUP // 2))
    both = torch.cat((packed & 15, packed >> 4), dim=-1)
    low, step = ranges.float().split(1, dim=-1)
    weight: torch.Tensor = (both.float() * step + low).flatten(1)
    return weight


def packed_linear(x: torch.Tensor, codes: torch.Tensor, ranges: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Multiply x (..., in) by packed weights: (..., out), in the precision of x. Few rows are unpacked at a time."""
    rows = max(1, TILE_BYTES // (4 * x.shape[-1]))
    parts = [
        F.linear(x, unpack_weight(some, their).to(x.dtype))
        for some, their in zip(codes.split(rows), ranges.split(rows), strict=True)
    ]
    product = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
    return product + bias
