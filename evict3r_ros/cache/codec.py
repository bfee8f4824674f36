# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How a token's key and value become bytes, once, when the token enters.

Asymmetric uniform quantization with a float minimum (KIVI, arXiv 2402.02750): s = (max - min) / (2^b - 1),
q = round((x - min) / s), x' = q s + min. A token's numbers share one range a head, so that no neighbour's eviction can
disturb it. What the published grouping (one range a channel for 64 tokens) gets from the channels' differences is learnt
here, once, from the first frames: each channel is centred, and scaled by the square root of its spread. Keys are
LayerNormed and hold still, so this lasts; where it does not fit, the token's own range still does.

Special tokens are much alike from frame to frame. One whose error repeats in every frame would shift every attention
output, so each has a centre of its own: one for a stream's first frame, whose specials differ, and one for all others.

A token is one row of bytes: key codes, value codes, then in half precision each head's key minimum and step, and value
minimum and step.
"""

import torch
import torch.nn.functional as F

from evict3r_ros.cache.config import CacheShape

ALIGNMENT = 16
"""Bytes: rows begin where a wide load may."""
QUIETEST = 0.1
"""Of a head's mean spread: a channel that stood still in the first frame may move in the next."""
SMALLEST_SPREAD = 1e-4
HALF = torch.float16
"""Minimum and step: ten bits of mantissa for ranges of at most a few hundred."""
PATCH_CENTRE = 0


def centre_of(frame: torch.Tensor, token: torch.Tensor, special_tokens: int) -> torch.Tensor:
    """Which centre a token has, int64: 0 for patches, 1 ... S for the first frame's specials, S + 1 ... 2 S for others."""
    special = (token >= 0) & (token < special_tokens)
    return torch.where(special, 1 + token + (frame > 0) * special_tokens, PATCH_CENTRE).long()


class FloatCodec:
    """Rows of 16 or 32 bit floating point: bfloat16 for a bfloat16 network, else float16, or float32."""

    def __init__(self, shape: CacheShape, bits: int):
        half = torch.bfloat16 if shape.dtype == torch.bfloat16 else torch.float16
        self.bits, self.dtype = bits, torch.float32 if bits == 32 else half
        self._row = (2, shape.heads, shape.head_dim)
        self.row_bytes = 2 * shape.heads * shape.head_dim * self.dtype.itemsize

    def calibrate(self, layer: int, frame: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """See PackedCodec.calibrate: nothing to learn."""

    def encode(self, layer: int, centres: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See PackedCodec.encode."""
        return torch.stack((key, value), dim=1).to(self.dtype).flatten(1).view(torch.uint8)

    def decode(self, layer: int, centres: torch.Tensor, rows: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
               ) -> None:
        """See PackedCodec.decode."""
        both = rows.view(self.dtype).unflatten(1, self._row)
        key.copy_(both[:, 0])
        value.copy_(both[:, 1])


class PackedCodec:
    """Rows of 8, 4 or 2 bit integers with their ranges."""

    def __init__(self, shape: CacheShape, bits: int):
        heads, width = shape.heads, shape.head_dim
        self.bits, self.levels = bits, 2 ** bits - 1
        codes, ranges = heads * width * bits // 8, heads * 2 * HALF.itemsize
        self._ends = (codes, 2 * codes, 2 * codes + ranges, 2 * codes + 2 * ranges)
        self.row_bytes = -(-self._ends[-1] // ALIGNMENT) * ALIGNMENT
        self._heads, self._specials = heads, shape.special_tokens
        self.centre = torch.zeros(2, shape.layers, 1 + 2 * self._specials, heads, width, device=shape.device)
        """(key and value, L, centres, heads, head_dim): see ``centre_of``."""
        self.scale = torch.ones(2, shape.layers, heads, width, device=shape.device)
        """(key and value, L, heads, head_dim): square root of each channel's spread."""

    def calibrate(self, layer: int, frame: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """
        Learn a layer's channels from the whole first frame of a stream, and its later specials from the second.

        frame: 0 or 1, others change nothing; key and value: (N, heads, head_dim).
        """
        if frame > 1:
            return
        first = 1 + frame * self._specials
        for kind, x in enumerate((key.float(), value.float())):
            self.centre[kind, layer, first:first + self._specials] = x[:self._specials]
            if frame == 0:
                patches = x[self._specials:]
                spread = patches.std(0, correction=0)
                spread = spread.maximum(QUIETEST * spread.mean(-1, keepdim=True)).clamp(min=SMALLEST_SPREAD)
                self.centre[kind, layer, PATCH_CENTRE] = patches.mean(0)
                self.scale[kind, layer] = spread.sqrt()

    def _quantize(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x (n, heads, w) -> codes (n, heads, w) uint8, and ranges (n, heads, 2) of minimum and step as stored."""
        low, high = x.aminmax(dim=-1, keepdim=True)
        limit = torch.finfo(HALF).max
        low = low.clamp(-limit, limit).to(HALF)
        step = ((high - low.float()) / self.levels).clamp(max=limit).to(HALF)
        # Where all numbers are the same the step is zero, and so is every code.
        steps = torch.where(step > 0.0, (x - low.float()) / step.float(), 0.0)
        return steps.round().clamp(0, self.levels).to(torch.uint8), torch.cat((low, step), dim=-1)

    def _pack(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes (n, heads, w) -> bytes (n, heads * w * bits / 8); a byte's codes lie w * bits / 8 channels apart."""
        parts = codes.chunk(8 // self.bits, dim=-1)
        packed = parts[0].clone()
        for number, part in enumerate(parts[1:], start=1):
            packed |= part << (self.bits * number)
        return packed.flatten(1)

    def _unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """The inverse of ``_pack``: codes (n, heads, w) in float."""
        packed = packed.unflatten(1, (self._heads, -1))
        parts = [(packed >> (self.bits * number)) & self.levels for number in range(8 // self.bits)]
        return torch.cat(parts, dim=-1).float()

    def encode(self, layer: int, centres: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Key and value (n, heads, head_dim) of a layer, with their centres (n,) -> rows (n, row_bytes) uint8."""
        codes, ranges = [], []
        for kind, x in enumerate((key, value)):
            code, extent = self._quantize((x.float() - self.centre[kind, layer][centres]) / self.scale[kind, layer])
            codes.append(self._pack(code))
            ranges.append(extent.flatten(1).view(torch.uint8))
        return F.pad(torch.cat((*codes, *ranges), dim=1), (0, self.row_bytes - self._ends[-1]))

    def decode(self, layer: int, centres: torch.Tensor, rows: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
               ) -> None:
        """Rows (n, row_bytes) of a layer, with their centres (n,), into key and value (n, heads, head_dim)."""
        a, b, c, d = self._ends
        for kind, (codes, extent, out) in enumerate(((slice(0, a), slice(b, c), key), (slice(a, b), slice(c, d), value))):
            low, step = rows[:, extent].view(HALF).unflatten(1, (self._heads, 2)).float().split(1, dim=-1)
            x = self._unpack(rows[:, codes]) * step + low
            out.copy_(x * self.scale[kind, layer] + self.centre[kind, layer][centres])


def make_codec(shape: CacheShape, bits: int) -> FloatCodec | PackedCodec:
    """The codec for that many bits a number."""
    return FloatCodec(shape, bits) if bits >= 16 else PackedCodec(shape, bits)
