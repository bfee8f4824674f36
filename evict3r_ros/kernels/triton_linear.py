# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Triton kernels that multiply by packed weights: a tile is unpacked in registers, inside the product."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from evict3r_ros.kernels.torch_linear import GROUP

FEW_ROWS = 32
"""Up to so many rows a layer is bound by reading its weights, and takes narrow tiles to have many programs."""


@triton.jit
def _linear_of_8_bits(
    x_ptr,
    codes_ptr,
    scale_ptr,
    bias_ptr,
    out_ptr,
    rows,
    outputs,
    inputs,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
):
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    inner = tl.arange(0, INPUTS)
    has_row, has_output = (row < rows)[None, :], (output < outputs)[:, None]
    x_place = x_ptr + row.to(tl.int64)[None, :] * inputs + inner[:, None]
    code_place = codes_ptr + output.to(tl.int64)[:, None] * inputs + inner[None, :]
    # The weights are the left operand, which tensor cores take from the registers where they are unpacked.
    total = tl.zeros((OUTPUTS, ROWS), dtype=tl.float32)
    for start in range(0, inputs, INPUTS):
        codes = tl.load(code_place + start, mask=has_output, other=0)
        x = tl.load(x_place + start, mask=has_row, other=0.0)
        total = tl.dot(codes.to(x.dtype), x, total, input_precision='ieee')
    total *= tl.load(scale_ptr + output, mask=output < outputs, other=0.0)[:, None]
    total += tl.load(bias_ptr + output, mask=output < outputs, other=0.0).to(tl.float32)[:, None]
    place = out_ptr + row.to(tl.int64)[None, :] * outputs + output[:, None]
    tl.store(place, total.to(out_ptr.dtype.element_ty), mask=has_row & has_output)


@triton.jit
def _linear_of_4_bits(
    x_ptr,
    codes_ptr,
    ranges_ptr,
    bias_ptr,
    out_ptr,
    rows,
    outputs,
    inputs,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    GROUP: tl.constexpr,
):
    HALF: tl.constexpr = GROUP // 2
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    inner = tl.arange(0, HALF)
    has_row, has_output = (row < rows)[None, :], output < outputs
    groups = inputs // GROUP
    x_place = x_ptr + row.to(tl.int64)[None, :] * inputs + inner[:, None]
    code_place = codes_ptr + output.to(tl.int64)[:, None] * (inputs // 2) + inner[None, :]
    range_place = ranges_ptr + output.to(tl.int64) * groups * 2
    total = tl.zeros((OUTPUTS, ROWS), dtype=tl.float32)
    for group in range(0, groups):
        packed = tl.load(code_place + group * HALF, mask=has_output[:, None], other=0)
        low = tl.load(range_place + group * 2, mask=has_output, other=0.0).to(tl.float32)[:, None]
        step = tl.load(range_place + group * 2 + 1, mask=has_output, other=0.0).to(tl.float32)[:, None]
        near_x = tl.load(x_place + group * GROUP, mask=has_row, other=0.0)
        far_x = tl.load(x_place + group * GROUP + HALF, mask=has_row, other=0.0)
        near = (packed & 15).to(tl.float32) * step + low
        far = (packed >> 4).to(tl.float32) * step + low
        total = tl.dot(near.to(near_x.dtype), near_x, total, input_precision='ieee')
        total = tl.dot(far.to(far_x.dtype), far_x, total, input_precision='ieee')
    total += tl.load(bias_ptr + output, mask=has_output, other=0.0).to(tl.float32)[:, None]
    place = out_ptr + row.to(tl.int64)[None, :] * outputs + output[:, None]
    tl.store(place, total.to(out_ptr.dtype.element_ty), mask=has_row & has_output[:, None])


def packed_linear(x: torch.Tensor, codes: torch.Tensor, ranges: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """See torch_linear.packed_linear."""
    flat = x.reshape(-1, x.shape[-1]).contiguous()
    (rows, inputs), outputs = flat.shape, codes.shape[0]
    out = torch.empty(rows, outputs, dtype=x.dtype, device=x.device)
    few = rows <= FEW_ROWS
    tile_rows, tile_outputs = (16, 32) if few else (128, 128)
    shared = (flat, codes, ranges, bias, out, rows, outputs, inputs)
    settings = {'ROWS': tile_rows, 'OUTPUTS': tile_outputs, 'num_warps': 4 if few else 8, 'num_stages': 4 if few else 3}
    grid = (triton.cdiv(outputs, tile_outputs), triton.cdiv(rows, tile_rows))
    if codes.dtype == torch.int8:
        _linear_of_8_bits[grid](*shared, INPUTS=GROUP, **settings)
    else:
        _linear_of_4_bits[grid](*shared, GROUP=GROUP, **settings)
    return out.view(*x.shape[:-1], outputs)
