# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How a token's key and value become bytes, once, when the token enters.

Asymmetric uniform quantization with a float minimum (KIVI, arXiv 2402.02750): s = (max - min) / (2^b - 1),
q = round((x - min) / s), x' = q s + min. A token's numbers share one range a head, so that no neighbour's eviction can
disturb it. The published grouping (one range a channel for 64 tokens) follows the channels' differences; here they are
learnt once, from the first frames: each channel is centred, and scaled by the square root of its spread. Keys are
LayerNormed and change little, so this lasts; where it does not fit, the token's own range still does.

Special tokens are much alike from frame to frame. One whose error repeats in every frame would shift every attention
output, so each has a centre of its own: one for a stream's first frame, whose specials differ, and one for all others.

A token is one row of bytes: key codes, value codes, then in half precision each head's key minimum and step, and value
minimum and step.
"""

from __future__ import annotations

import torch

from evict3r_ros import kernels
from evict3r_ros.cache.config import CacheShape

ALIGNMENT = 16
"""Bytes: rows begin where a wide load may."""
QUIETEST = 0.1
"""Of a head's mean spread: a channel that stood still in the first frame may move in the next."""
SMALLEST_SPREAD = 1e-4
PATCH_CENTRE = 0


def centre_of(frame: torch.Tensor, token: torch.Tensor, special_tokens: int) -> torch.Tensor:
    """Return the centre of each token, int64.

    0: patches; 1 ... S: special tokens of the first frame; S + 1 ... 2 S: those of all other frames.
    """
    special = (token >= 0) & (token < special_tokens)
    return torch.where(special, 1 + token + (frame > 0) * special_tokens, PATCH_CENTRE).long()


class FloatCodec:
    """Rows of 16 or 32 bit floating point: bfloat16 for a bfloat16 network, else float16, or float32."""

    def __init__(self, shape: CacheShape, bits: int, first_slot: int = 0, alone: bool = True):
        half = torch.bfloat16 if shape.dtype == torch.bfloat16 else torch.float16
        self.bits, self.dtype = bits, torch.float32 if bits == 32 else half
        self._first_slot, self._alone = first_slot, alone
        self._row = (2, shape.heads, shape.head_dim)
        self.row_bytes = 2 * shape.heads * shape.head_dim * self.dtype.itemsize

    def calibrate(self, layer: int, frame: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """See PackedCodec.calibrate: nothing to learn."""

    def write(
        self,
        layer: int,
        rows: torch.Tensor,
        slots: torch.Tensor,
        centres: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
    ) -> None:
        """See PackedCodec.write."""
        both = torch.stack((key, value), dim=1).to(self.dtype).flatten(1).view(torch.uint8)
        last = rows.shape[0] - 1
        rows.index_copy_(0, (slots - self._first_slot).clamp(max=last), both)
        if not self._alone:
            rows[last].zero_()

    def read(
        self,
        layer: int,
        rows: torch.Tensor,
        slots: torch.Tensor,
        centres: torch.Tensor,
        count: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
    ) -> None:
        """See PackedCodec.read."""
        last = rows.shape[0] - 1
        local = slots - self._first_slot
        inside = (local >= 0) & (local < last)
        if not self._alone:
            local = torch.where(inside, local, last)
        both = rows.index_select(0, local).view(self.dtype).unflatten(1, self._row)
        for number, out in enumerate((key, value)):
            x = both[:, number]
            out.copy_(x if self._alone else torch.where(inside[:, None, None], x, out))


class PackedCodec:
    """Rows of 8, 4 or 2 bit integers with their ranges."""

    def __init__(self, shape: CacheShape, bits: int, first_slot: int = 0, alone: bool = True):
        heads, width = shape.heads, shape.head_dim
        self.bits = bits
        codes, ranges = heads * width * bits // 8, heads * 2 * kernels.RANGE_DTYPE.itemsize
        self._layout = kernels.PackedLayout(bits, codes, first_slot, alone)
        self.row_bytes = -(-(2 * codes + 2 * ranges) // ALIGNMENT) * ALIGNMENT
        self._specials = shape.special_tokens
        self.centre = torch.zeros(2, shape.layers, 1 + 2 * self._specials, heads, width, device=shape.device)
        """(key and value, L, centres, heads, head_dim): see ``centre_of``."""
        self.scale = torch.ones(2, shape.layers, heads, width, device=shape.device)
        """(key and value, L, heads, head_dim): square root of each channel's spread."""

    def calibrate(self, layer: int, frame: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Learn a layer's channels from the whole first frame of a stream, and its later specials from the second.

        frame: 0 or 1, others change nothing; key and value: (N, heads, head_dim).
        """
        if frame > 1:
            return
        first = 1 + frame * self._specials
        for kind, x in enumerate((key.float(), value.float())):
            self.centre[kind, layer, first : first + self._specials] = x[: self._specials]
            if frame == 0:
                patches = x[self._specials :]
                spread = patches.std(0, correction=0)
                spread = spread.maximum(QUIETEST * spread.mean(-1, keepdim=True)).clamp(min=SMALLEST_SPREAD)
                self.centre[kind, layer, PATCH_CENTRE] = patches.mean(0)
                self.scale[kind, layer] = spread.sqrt()

    def write(
        self,
        layer: int,
        rows: torch.Tensor,
        slots: torch.Tensor,
        centres: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
    ) -> None:
        """Write key and value (n, heads, head_dim) of a layer into slots (n,); slots of other tiers are skipped.

        rows: (slots + 1, row_bytes) uint8, the last row standing for tokens that are not there;
        centres: (n,) of ``centre_of``, here and in ``read``.
        """
        kernels.write_packed(
            rows, key, value, slots, centres, self.centre[:, layer], self.scale[:, layer], self._layout
        )

    def read(
        self,
        layer: int,
        rows: torch.Tensor,
        slots: torch.Tensor,
        centres: torch.Tensor,
        count: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
    ) -> None:
        """Read slots (n,) of the tier into key and value (n, heads, head_dim); rows of other tiers stay as they are.

        The first ``count`` (,) int64 slots hold tokens; what the rest becomes is finite, and of no interest.
        """
        kernels.read_packed(
            rows, key, value, slots, centres, count, self.centre[:, layer], self.scale[:, layer], self._layout
        )


def make_codec(shape: CacheShape, bits: int, first_slot: int = 0, alone: bool = True) -> FloatCodec | PackedCodec:
    """Return the codec of a tier with that many bits a number; alone: there is no other tier."""
    return (FloatCodec if bits >= 16 else PackedCodec)(shape, bits, first_slot, alone)
