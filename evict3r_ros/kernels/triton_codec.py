# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Triton kernels between numbers and packed rows: see cache/codec.py for what a row is."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from evict3r_ros.kernels.layout import PackedLayout

ROUNDER = tl.constexpr(12582912.0)
"""1.5 * 2^23: adding and taking it away rounds a small float32 to the nearest integer, ties to even."""
HALF_MAX = tl.constexpr(65504.0)
TOKENS_WRITTEN, TOKENS_READ = 2, 8
"""Tokens that one program packs, and unpacks."""


@triton.jit
def _normed(x_ptr, centre_ptr, scale_ptr, places, centres, scales, mask):
    x = tl.load(x_ptr + places, mask=mask, other=0.0).to(tl.float32)
    return tl.div_rn(
        x - tl.load(centre_ptr + centres, mask=mask, other=0.0), tl.load(scale_ptr + scales, mask=mask, other=1.0)
    )


@triton.jit
def _pack(
    key_ptr,
    value_ptr,
    row_ptr,
    slot_ptr,
    centre_of_ptr,
    centre_ptr,
    scale_ptr,
    key_row,
    key_head,
    value_row,
    value_head,
    centre_kind,
    scale_kind,
    tokens,
    slots,
    first_slot,
    ROW: tl.constexpr,
    CODES: tl.constexpr,
    HEADS: tl.constexpr,
    D: tl.constexpr,
    BITS: tl.constexpr,
    TOKENS: tl.constexpr,
    LINES: tl.constexpr,
):
    """Pack TOKENS tokens, keys where program axis 1 is 0, else values; a line is one head of one token."""
    PARTS: tl.constexpr = 8 // BITS
    CHUNK: tl.constexpr = D // PARTS
    LEVELS: tl.constexpr = (1 << BITS) - 1
    kind = tl.program_id(1)
    if kind == 0:
        x_ptr, stride_row, stride_head = key_ptr, key_row, key_head
    else:
        x_ptr, stride_row, stride_head = value_ptr, value_row, value_head
    centre_ptr += kind * centre_kind
    scale_ptr += kind * scale_kind
    lines = tl.arange(0, LINES)
    token = tl.program_id(0) * TOKENS + lines // HEADS
    head = lines % HEADS
    inside = (lines < TOKENS * HEADS) & (token < tokens)
    slot = tl.load(slot_ptr + token, mask=inside, other=0) - first_slot
    inside = inside & (slot >= 0) & (slot < slots)
    mask = inside[:, None]
    centre = tl.load(centre_of_ptr + token, mask=inside, other=0)
    channels = tl.arange(0, CHUNK)
    places = token[:, None] * stride_row + head[:, None] * stride_head + channels[None, :]
    centres = (centre * HEADS + head)[:, None] * D + channels[None, :]
    scales = head[:, None] * D + channels[None, :]
    low = tl.full((LINES,), float('inf'), tl.float32)
    high = tl.full((LINES,), float('-inf'), tl.float32)
    for part in tl.static_range(PARTS):
        x = _normed(
            x_ptr, centre_ptr, scale_ptr, places + part * CHUNK, centres + part * CHUNK, scales + part * CHUNK, mask
        )
        low = tl.minimum(low, tl.min(x, 1))
        high = tl.maximum(high, tl.max(x, 1))
    low = tl.minimum(tl.maximum(low, -HALF_MAX), HALF_MAX).to(tl.float16)
    step = tl.minimum(tl.div_rn(high - low.to(tl.float32), tl.full((LINES,), LEVELS, tl.float32)), HALF_MAX)
    step = step.to(tl.float16)
    wide = step.to(tl.float32)[:, None]
    divisor = tl.where(wide > 0.0, wide, 1.0)
    packed = tl.zeros((LINES, CHUNK), tl.int32)
    for part in tl.static_range(PARTS):
        x = _normed(
            x_ptr, centre_ptr, scale_ptr, places + part * CHUNK, centres + part * CHUNK, scales + part * CHUNK, mask
        )
        steps = tl.div_rn(x - low.to(tl.float32)[:, None], divisor.broadcast_to(LINES, CHUNK))
        steps = tl.minimum(tl.maximum(tl.where(wide > 0.0, steps, 0.0), 0.0), LEVELS)
        packed |= ((steps + ROUNDER) - ROUNDER).to(tl.int32) << (BITS * part)
    rows = row_ptr + slot.to(tl.int64) * ROW
    codes = kind * (HEADS * CHUNK) + head * CHUNK
    tl.store(rows[:, None] + codes[:, None] + channels[None, :], packed.to(tl.uint8), mask=mask)
    ranges = (rows + CODES).to(tl.pointer_type(tl.float16)) + 2 * (kind * HEADS + head)
    tl.store(ranges, low, mask=inside)
    tl.store(ranges + 1, step, mask=inside)


@triton.jit
def _unpack(
    row_ptr,
    slot_ptr,
    centre_of_ptr,
    count_ptr,
    centre_ptr,
    scale_ptr,
    key_ptr,
    value_ptr,
    centre_kind,
    scale_kind,
    first_slot,
    slots,
    ROW: tl.constexpr,
    CODES: tl.constexpr,
    HEADS: tl.constexpr,
    D: tl.constexpr,
    BITS: tl.constexpr,
    TOKENS: tl.constexpr,
    LINES: tl.constexpr,
):
    """Unpack TOKENS of the first ``count`` tokens, keys where program axis 1 is 0, else values; a line is one head."""
    PARTS: tl.constexpr = 8 // BITS
    CHUNK: tl.constexpr = D // PARTS
    count = tl.load(count_ptr).to(tl.int32)
    start = tl.program_id(0) * TOKENS
    if start < count:
        kind = tl.program_id(1)
        if kind == 0:  # noqa: SIM108  # a branch of pointers, as Triton compiles it
            out_ptr = key_ptr
        else:
            out_ptr = value_ptr
        centre_ptr += kind * centre_kind
        scale_ptr += kind * scale_kind
        lines = tl.arange(0, LINES)
        token = start + lines // HEADS
        head = lines % HEADS
        there = (lines < TOKENS * HEADS) & (token < count)
        slot = tl.load(slot_ptr + token, mask=there, other=0) - first_slot
        there = there & (slot >= 0) & (slot < slots)
        centre = tl.load(centre_of_ptr + token, mask=there, other=0)
        rows = row_ptr + slot.to(tl.int64) * ROW
        ranges = (rows + CODES).to(tl.pointer_type(tl.float16)) + 2 * (kind * HEADS + head)
        low = tl.load(ranges, mask=there, other=0.0).to(tl.float32)
        step = tl.load(ranges + 1, mask=there, other=0.0).to(tl.float32)
        mask = there[:, None]
        bytes_ = tl.arange(0, CHUNK)
        codes = tl.load((rows + (kind * HEADS + head) * CHUNK)[:, None] + bytes_[None, :], mask=mask, other=0)
        codes = codes.to(tl.int32)
        scales = (head * D)[:, None] + bytes_[None, :]
        centres = ((centre * HEADS + head) * D)[:, None] + bytes_[None, :]
        outs = ((token * HEADS + head) * D)[:, None] + bytes_[None, :]
        for part in tl.static_range(PARTS):
            scale = tl.load(scale_ptr + scales + part * CHUNK)
            middle = tl.load(centre_ptr + centres + part * CHUNK, mask=mask, other=0.0)
            x = ((codes >> (BITS * part)) & ((1 << BITS) - 1)).to(tl.float32) * step[:, None] + low[:, None]
            tl.store(out_ptr + outs + part * CHUNK, (x * scale + middle).to(key_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _copy(
    key_ptr,
    value_ptr,
    key_out_ptr,
    value_out_ptr,
    key_row,
    key_head,
    value_row,
    value_head,
    lines,
    HEADS: tl.constexpr,
    D: tl.constexpr,
    CHANNELS: tl.constexpr,
    LINES: tl.constexpr,
):
    if tl.program_id(1) == 0:
        x_ptr, out_ptr, stride_row, stride_head = key_ptr, key_out_ptr, key_row, key_head
    else:
        x_ptr, out_ptr, stride_row, stride_head = value_ptr, value_out_ptr, value_row, value_head
    line = tl.program_id(0) * LINES + tl.arange(0, LINES)
    channels = tl.arange(0, CHANNELS)
    mask = (line < lines)[:, None] & (channels < D)[None, :]
    places = (line // HEADS) * stride_row + (line % HEADS) * stride_head
    x = tl.load(x_ptr + places[:, None] + channels[None, :], mask=mask)
    tl.store(out_ptr + line[:, None] * D + channels[None, :], x, mask=mask)


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
    """See torch_engine.write_packed."""
    tokens, heads, width = key.shape
    _pack[(triton.cdiv(tokens, TOKENS_WRITTEN), 2)](
        key,
        value,
        rows,
        slots,
        centres,
        table,
        scale,
        key.stride(0),
        key.stride(1),
        value.stride(0),
        value.stride(1),
        table.stride(0),
        scale.stride(0),
        tokens,
        rows.shape[0] - 1,
        layout.first_slot,
        ROW=rows.shape[1],
        CODES=2 * layout.code_bytes,
        HEADS=heads,
        D=width,
        BITS=layout.bits,
        TOKENS=TOKENS_WRITTEN,
        LINES=triton.next_power_of_2(TOKENS_WRITTEN * heads),
        num_warps=4,
    )


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
    """See torch_engine.read_packed; what has no token keeps what it had."""
    tokens, heads, width = key.shape
    if tokens == 0:
        return
    _unpack[(triton.cdiv(tokens, TOKENS_READ), 2)](
        rows,
        slots,
        centres,
        count,
        table,
        scale,
        key,
        value,
        table.stride(0),
        scale.stride(0),
        layout.first_slot,
        rows.shape[0] - 1,
        ROW=rows.shape[1],
        CODES=2 * layout.code_bytes,
        HEADS=heads,
        D=width,
        BITS=layout.bits,
        TOKENS=TOKENS_READ,
        LINES=triton.next_power_of_2(TOKENS_READ * heads),
        num_warps=4,
    )


def copy_pair(key: torch.Tensor, value: torch.Tensor, key_out: torch.Tensor, value_out: torch.Tensor) -> None:
    """See torch_engine.copy_pair."""
    tokens, heads, width = key.shape
    lines = tokens * heads
    _copy[(triton.cdiv(lines, 64), 2)](
        key,
        value,
        key_out,
        value_out,
        key.stride(0),
        key.stride(1),
        value.stride(0),
        value.stride(1),
        lines,
        HEADS=heads,
        D=width,
        CHANNELS=triton.next_power_of_2(width),
        LINES=64,
        num_warps=4,
    )
