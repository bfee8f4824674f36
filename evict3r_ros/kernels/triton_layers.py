# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Triton kernels of the small steps between the network's matrix products."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

LINES = 32
"""Heads of tokens that one program norms and rotates."""


@triton.jit
def _quarter(ptr, places, weight_ptr, bias_ptr, quarter, mean, deviation, channels, mask, Q: tl.constexpr):
    x = tl.load(ptr + places + quarter * Q, mask=mask, other=0.0).to(tl.float32)
    weight = tl.load(weight_ptr + quarter * Q + channels).to(tl.float32)
    bias = tl.load(bias_ptr + quarter * Q + channels).to(tl.float32)
    return (x - mean[:, None]) * deviation[:, None] * weight[None, :] + bias[None, :]


@triton.jit
def _qk_norm_rotary_embedding(
    qkv_ptr,
    q_ptr,
    k_ptr,
    q_weight,
    q_bias,
    k_weight,
    k_bias,
    cos_ptr,
    sin_ptr,
    lines,
    grid_tokens,
    eps,
    HEADS: tl.constexpr,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Apply LayerNorm over a head, then the rotary embedding; program axis 1 says query or key."""
    Q: tl.constexpr = D // 4
    line = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = line < lines
    token, head = line // HEADS, line % HEADS
    kind = tl.program_id(1)
    channels = tl.arange(0, Q)
    mask = inside[:, None]
    places = (token * 3 * HEADS + kind * HEADS + head)[:, None] * D + channels[None, :]
    whole = (token * 3 * HEADS + kind * HEADS + head)[:, None] * D + tl.arange(0, D)[None, :]
    x = tl.load(qkv_ptr + whole, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, 1) / D
    centred = x - mean[:, None]
    deviation = tl.rsqrt(tl.sum(centred * centred, 1) / D + eps)
    if kind == 0:
        weight, bias, out = q_weight, q_bias, q_ptr
    else:
        weight, bias, out = k_weight, k_bias, k_ptr
    a = _quarter(qkv_ptr, places, weight, bias, 0, mean, deviation, channels, mask, Q)
    b = _quarter(qkv_ptr, places, weight, bias, 1, mean, deviation, channels, mask, Q)
    c = _quarter(qkv_ptr, places, weight, bias, 2, mean, deviation, channels, mask, Q)
    d = _quarter(qkv_ptr, places, weight, bias, 3, mean, deviation, channels, mask, Q)
    # Both quarters of a half rotate by the same angles.
    angles = (token % grid_tokens)[:, None] * D + channels[None, :]
    row_cos = tl.load(cos_ptr + angles, mask=mask, other=0.0)
    row_sin = tl.load(sin_ptr + angles, mask=mask, other=0.0)
    column_cos = tl.load(cos_ptr + angles + 2 * Q, mask=mask, other=0.0)
    column_sin = tl.load(sin_ptr + angles + 2 * Q, mask=mask, other=0.0)
    target = out + line[:, None] * D + channels[None, :]
    kind_of = q_ptr.dtype.element_ty
    tl.store(target, (a * row_cos - b * row_sin).to(kind_of), mask=mask)
    tl.store(target + Q, (b * row_cos + a * row_sin).to(kind_of), mask=mask)
    tl.store(target + 2 * Q, (c * column_cos - d * column_sin).to(kind_of), mask=mask)
    tl.store(target + 3 * Q, (d * column_cos + c * column_sin).to(kind_of), mask=mask)


@triton.jit
def _add_norm(x_ptr, added_ptr, gamma_ptr, weight_ptr, bias_ptr, sum_ptr, normed_ptr, width, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * width
    channels = tl.arange(0, BLOCK)
    inside = channels < width
    x = tl.load(x_ptr + row + channels, mask=inside, other=0.0).to(tl.float32)
    added = tl.load(added_ptr + row + channels, mask=inside, other=0.0).to(tl.float32)
    x += added * tl.load(gamma_ptr + channels, mask=inside, other=0.0).to(tl.float32)
    # The norm is of what is stored, so that both see the same rounding.
    x = x.to(sum_ptr.dtype.element_ty)
    tl.store(sum_ptr + row + channels, x, mask=inside)
    x = x.to(tl.float32)
    mean = tl.sum(x, 0) / width
    centred = tl.where(inside, x - mean, 0.0)
    deviation = tl.rsqrt(tl.sum(centred * centred, 0) / width + eps)
    weight = tl.load(weight_ptr + channels, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + channels, mask=inside, other=0.0).to(tl.float32)
    tl.store(
        normed_ptr + row + channels, (centred * deviation * weight + bias).to(normed_ptr.dtype.element_ty), mask=inside
    )


@triton.jit
def _bilinear_upsample(
    x_ptr,
    position_ptr,
    out_ptr,
    in_height,
    in_width,
    height,
    width,
    step_y,
    step_x,
    channels,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    POSITION: tl.constexpr,
):
    """Compute COLUMNS pixels of one output row; all maps have their channels innermost."""
    row = tl.program_id(1)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    channel = tl.arange(0, BLOCK)
    mask = (column < width)[:, None] & (channel < channels)[None, :]
    y = row * step_y
    top = tl.minimum(y.to(tl.int32), in_height - 1)
    bottom = tl.minimum(top + 1, in_height - 1)
    down = y - top
    x = column * step_x
    left = tl.minimum(x.to(tl.int32), in_width - 1)
    right = tl.minimum(left + 1, in_width - 1)
    across = (x - left)[:, None]
    top_row, bottom_row = x_ptr + top * in_width * channels, x_ptr + bottom * in_width * channels
    lefts, rights = left[:, None] * channels + channel[None, :], right[:, None] * channels + channel[None, :]
    above = tl.load(top_row + lefts, mask=mask, other=0.0).to(tl.float32) * (1.0 - across)
    above += tl.load(top_row + rights, mask=mask, other=0.0).to(tl.float32) * across
    below = tl.load(bottom_row + lefts, mask=mask, other=0.0).to(tl.float32) * (1.0 - across)
    below += tl.load(bottom_row + rights, mask=mask, other=0.0).to(tl.float32) * across
    value = above * (1.0 - down) + below * down
    places = (row * width + column)[:, None] * channels + channel[None, :]
    if POSITION:
        value += tl.load(position_ptr + places, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_ptr + places, value.to(out_ptr.dtype.element_ty), mask=mask)


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
    """See torch_engine.qk_norm_rotary_embedding."""
    batch, tokens, _, heads, width = qkv.shape
    query = torch.empty(batch, tokens, heads, width, dtype=qkv.dtype, device=qkv.device)
    key = torch.empty_like(query)
    lines = batch * tokens * heads
    _qk_norm_rotary_embedding[(triton.cdiv(lines, LINES), 2)](
        qkv,
        query,
        key,
        q_weight,
        q_bias,
        k_weight,
        k_bias,
        cos,
        sin,
        lines,
        cos.shape[0],
        eps,
        HEADS=heads,
        D=width,
        BLOCK=LINES,
        num_warps=4,
    )
    return query.transpose(1, 2), key.transpose(1, 2), qkv[:, :, 2].transpose(1, 2)


def add_norm(
    x: torch.Tensor, added: torch.Tensor, gamma: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """See torch_engine.add_norm."""
    x, added = x.contiguous(), added.contiguous()
    total, normed = torch.empty_like(x), torch.empty_like(x)
    width = x.shape[-1]
    _add_norm[(x.numel() // width,)](
        x,
        added,
        gamma,
        weight,
        bias,
        total,
        normed,
        width,
        eps,
        BLOCK=triton.next_power_of_2(width),
        num_warps=4 if width <= 1024 else 8,
    )
    return total, normed


def bilinear_upsample(x: torch.Tensor, size: tuple[int, int], position: torch.Tensor | None = None) -> torch.Tensor:
    """See torch_engine.bilinear_upsample; the answer has its channels innermost."""
    x = x.contiguous(memory_format=torch.channels_last)
    (height, width), (_, channels, in_height, in_width) = size, x.shape
    out = torch.empty(1, channels, height, width, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    if position is not None:
        position = position.contiguous(memory_format=torch.channels_last)
    block = triton.next_power_of_2(channels)
    columns = max(1, 4096 // block)
    _bilinear_upsample[(triton.cdiv(width, columns), height)](
        x,
        x if position is None else position,
        out,
        in_height,
        in_width,
        height,
        width,
        (in_height - 1) / max(1, height - 1),
        (in_width - 1) / max(1, width - 1),
        channels,
        COLUMNS=columns,
        BLOCK=block,
        POSITION=position is not None,
        num_warps=4,
    )
    return out
