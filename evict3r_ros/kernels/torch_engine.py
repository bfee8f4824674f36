# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The reference engine: plain torch, any device, memory bounded whatever the length of the cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from evict3r_ros.kernels import torch_upsample
from evict3r_ros.kernels.layout import RANGE_DTYPE, PackedLayout

TILE_BYTES = 32 * 2**20
"""Scores held at one time while the attention mass is collected."""


def attention(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, valid: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute softmax attention.

    query: (heads, N, head_dim); keys, values: (heads, M, head_dim). Returns (heads, N, head_dim).

    valid: (M,) bool, False for keys that are not there; what lies under them must be finite.
    """
    mask = None if valid is None else valid[None, None, None, :]
    return F.scaled_dot_product_attention(query[None], keys[None], values[None], attn_mask=mask)[0]


def _valid_mask(keys: torch.Tensor, kept: torch.Tensor, fresh: int) -> torch.Tensor | None:
    """Return a mask (M,) of the first ``kept`` and the last ``fresh`` keys; None for all, where the host can know."""
    width = keys.shape[0] - fresh
    if kept.device.type == 'cpu' and int(kept) == width:
        return None
    number = torch.arange(keys.shape[0], device=keys.device)
    return (number < kept) | (number >= width)


def cache_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    kept: torch.Tensor,
    fresh: int,
    mass: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute the attention of a frame to the cache and itself: query (heads, N, head_dim) -> (heads, N, head_dim).

    keys, values: (M, heads, head_dim), of which the first ``kept`` (,) int64 and the last ``fresh`` are there; the rest
    may be anything finite. mass: (M,) float32 or None, takes each key's attention mass, the mean over heads of the sum
    over queries of the softmax; 0 for keys that are not there.
    """
    valid = _valid_mask(keys, kept, fresh)
    keys, values = keys.transpose(0, 1), values.transpose(0, 1)
    if mass is None:
        return attention(query, keys, values, valid)
    mass.zero_()
    answers = []
    for weights in _softmax_weights(query, keys, valid):
        mass += weights.sum(dim=(0, 1))
        answers.append((weights @ values.float()).to(query.dtype))
    mass /= query.shape[0]
    return torch.cat(answers, dim=1)


def cache_mass(
    query: torch.Tensor, counts: torch.Tensor, keys: torch.Tensor, kept: torch.Tensor, fresh: int, mass: torch.Tensor
) -> None:
    """Compute the mass of ``cache_attention`` alone.

    Query i of (heads, n, head_dim) stands for counts[i] queries; counts: (n,).
    """
    valid = _valid_mask(keys, kept, fresh)
    mass.zero_()
    first = 0
    for weights in _softmax_weights(query, keys.transpose(0, 1), valid):
        last = first + weights.shape[1]
        mass += torch.einsum('hnm,n->m', weights, counts[first:last])
        first = last
    mass /= query.shape[0]


def _softmax_weights(query: torch.Tensor, keys: torch.Tensor, valid: torch.Tensor | None) -> Iterator[torch.Tensor]:
    """Yield softmax weights (heads, tile, M) in float32, a tile of queries at a time.

    A query's weights need its own row of scores alone, so one pass is enough, and the matrix (heads, N, M) is never
    held as a whole.
    """
    heads, _, head_dim = query.shape
    tile = max(16, TILE_BYTES // (4 * heads * keys.shape[1]))
    transposed = keys.float().transpose(1, 2)
    for rows in query.split(tile, dim=1):
        scores = (rows.float() * head_dim**-0.5) @ transposed
        if valid is not None:
            scores.masked_fill_(~valid, -torch.inf)
        yield scores.softmax(dim=-1)


def pack(x: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize x (n, heads, w) float32.

    Returns packed codes (n, heads * w * bits / 8) uint8, and minimum and step (n, heads, 2) in half precision.

    A byte's codes lie w * bits / 8 channels apart.
    """
    levels = 2**bits - 1
    low, high = x.aminmax(dim=-1, keepdim=True)
    limit = torch.finfo(RANGE_DTYPE).max
    low = low.clamp(-limit, limit).to(RANGE_DTYPE)
    step = ((high - low.float()) / levels).clamp(max=limit).to(RANGE_DTYPE)
    # Where all numbers are the same the step is zero, and so is every code.
    steps = torch.where(step > 0.0, (x - low.float()) / step.float(), 0.0)
    parts = steps.round().clamp(0, levels).to(torch.uint8).chunk(8 // bits, dim=-1)
    packed = parts[0].clone()
    for number, part in enumerate(parts[1:], start=1):
        packed |= part << (bits * number)
    return packed.flatten(1), torch.cat((low, step), dim=-1)


def unpack(codes: torch.Tensor, ranges: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the inverse of ``pack``, as far as the bits go: (n, heads, w) float32."""
    codes = codes.unflatten(1, (ranges.shape[1], -1))
    parts = [(codes >> (bits * number)) & (2**bits - 1) for number in range(8 // bits)]
    low, step = ranges[..., :1].float(), ranges[..., 1:].float()
    return torch.cat(parts, dim=-1).float() * step + low


def write_packed(
    rows: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    slots: torch.Tensor,
    centres: torch.Tensor,
    table: torch.Tensor,
    scale: torch.Tensor,
    layout: PackedLayout,
) -> None:
    """Quantize key and value (n, heads, w) into their rows.

    rows: (a tier's slots + 1, row bytes) uint8; slots: (n,) int64, what goes to no slot of the tier is dropped;
    centres: (n,) int64, which of table (2, centres, heads, w) to take off; scale: (2, heads, w), to divide by; both for
    key and value.
    """
    last = rows.shape[0] - 1
    packed = [
        pack((x.float() - table[kind][centres]) / scale[kind], layout.bits) for kind, x in enumerate((key, value))
    ]
    codes = torch.cat([codes for codes, _ in packed], dim=1)
    ranges = torch.cat([ranges.flatten(1) for _, ranges in packed], dim=1).view(torch.uint8)
    local = (slots - layout.first_slot).clamp(max=last)
    rows[:, : codes.shape[1] + ranges.shape[1]].index_copy_(0, local, torch.cat((codes, ranges), dim=1))
    if not layout.alone:
        rows[last].zero_()


def read_packed(
    rows: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    slots: torch.Tensor,
    centres: torch.Tensor,
    count: torch.Tensor,
    table: torch.Tensor,
    scale: torch.Tensor,
    layout: PackedLayout,
) -> None:
    """Read slots (n,) that ``write_packed`` wrote into key and value (n, heads, w).

    The first ``count`` (,) int64 of them hold tokens. A token of another tier is left alone; what has none becomes
    anything finite.
    """
    last = rows.shape[0] - 1
    local = slots - layout.first_slot
    if not layout.alone:
        inside = (local >= 0) & (local < last)
        local = torch.where(inside, local, last)
    found = rows.index_select(0, local)
    size, heads = layout.code_bytes, key.shape[1]
    ranges = (
        found[:, 2 * size : 2 * size + 4 * heads * RANGE_DTYPE.itemsize].view(RANGE_DTYPE).unflatten(1, (2, heads, 2))
    )
    for kind, out in enumerate((key, value)):
        x = unpack(found[:, kind * size : (kind + 1) * size], ranges[:, kind], layout.bits)
        x = x * scale[kind] + table[kind][centres]
        out.copy_(x if layout.alone else torch.where(inside[:, None, None], x, out))


def copy_pair(key: torch.Tensor, value: torch.Tensor, key_out: torch.Tensor, value_out: torch.Tensor) -> None:
    """Copy key and value (n, heads, w), of any strides, into contiguous tensors of the same shape."""
    key_out.copy_(key)
    value_out.copy_(value)


def qk_norm_rotary_embedding(
    qkv: torch.Tensor,
    q_weight: torch.Tensor,
    q_bias: torch.Tensor,
    k_weight: torch.Tensor,
    k_bias: torch.Tensor,
    eps: float,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return query, key and value (batch, heads, tokens, head_dim) of qkv (batch, tokens, 3, heads, head_dim).

    Query and key get a LayerNorm over the head, then the rotary embedding (2-D RoPE): channels of the first half rotate
    by the row's angle, of the second by the column's, and inside a half channel i pairs with i + quarter.
    cos, sin: (grid tokens, head_dim) float32; tokens may be those of several frames in a row.
    """
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    query = F.layer_norm(query, query.shape[-1:], q_weight, q_bias, eps)
    key = F.layer_norm(key, key.shape[-1:], k_weight, k_bias, eps)
    query = apply_rotary_embedding(query, cos, sin).to(qkv.dtype)
    key = apply_rotary_embedding(key, cos, sin).to(qkv.dtype)
    return query, key, value


def apply_rotary_embedding(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate x (batch, heads, tokens, head_dim): see ``qk_norm_rotary_embedding``."""
    frames = x.unflatten(-2, (-1, cos.shape[0]))
    a, b, c, d = frames.chunk(4, dim=-1)
    rotated: torch.Tensor = frames * cos + torch.cat((-b, a, -d, c), dim=-1) * sin
    return rotated.flatten(-3, -2)


def add_norm(
    x: torch.Tensor, added: torch.Tensor, gamma: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x + gamma * added, and its LayerNorm: x, added (..., C); gamma, weight, bias (C,)."""
    x = torch.addcmul(x, added, gamma)
    return x, F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def bilinear_upsample(x: torch.Tensor, size: tuple[int, int], position: torch.Tensor | None = None) -> torch.Tensor:
    """Upsample x (batch, C, h, w) to (batch, C, *size), corners aligned, and add position (1, C, *size)."""
    x = torch_upsample.bilinear_upsample(x, size)
    return x if position is None else x + position
