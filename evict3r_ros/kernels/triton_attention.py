# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Triton kernels of the attention over the cache, and of the attention mass of its keys.

Softmax by running maximum (FlashAttention-2, arXiv 2307.08691), keys split among programs so that one camera's few
queries fill a large card, and how many keys there are read from the device: one CUDA graph serves every length.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

LOG2_E = 1.4426950408889634
QUERIES, KEYS, SPLITS = 64, 64, 3
"""A program's queries, keys at a time, and programs that share a query's keys: measured best on an H200."""
SCORED, ASKING = 128, 64
"""Keys whose mass one program gathers, and queries at a time."""
COMBINED = 32
"""Queries whose parts one program joins."""


@triton.jit
def _step(
    query,
    best,
    total,
    answer,
    key_ptr,
    value_ptr,
    first,
    limit,
    key_stride,
    value_stride,
    scale,
    D: tl.constexpr,
    BN: tl.constexpr,
    MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Attend to BN more keys from row ``first``, those before ``limit`` where MASKED; scores are in powers of two."""
    rows = first + tl.arange(0, BN)
    channels = tl.arange(0, D)
    if MASKED:
        there = rows < limit
        keys = tl.load(key_ptr + rows[None, :] * key_stride + channels[:, None], mask=there[None, :], other=0.0)
        values = tl.load(value_ptr + rows[:, None] * value_stride + channels[None, :], mask=there[:, None], other=0.0)
    else:
        keys = tl.load(key_ptr + rows[None, :] * key_stride + channels[:, None])
        values = tl.load(value_ptr + rows[:, None] * value_stride + channels[None, :])
    scores = tl.dot(query, keys, input_precision=PRECISION)
    if MASKED:
        scores = tl.where(there[None, :], scores, float('-inf'))
    new_best = tl.maximum(best, tl.max(scores, 1) * scale)
    weights = tl.exp2(scores * scale - new_best[:, None])
    shrink = tl.exp2(best - new_best)
    total = total * shrink + tl.sum(weights, 1)
    answer = tl.dot(weights.to(values.dtype), values, answer * shrink[:, None], input_precision=PRECISION)
    return new_best, total, answer


@triton.jit
def _attend(
    query_ptr,
    key_ptr,
    value_ptr,
    kept_ptr,
    part_ptr,
    lse_ptr,
    query_head,
    query_row,
    key_row,
    key_head,
    value_row,
    value_head,
    queries,
    first_fresh,
    fresh,
    scale,
    D: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    SPLITS: tl.constexpr,
    WHOLE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Store a split's softmax-weighted values over its own sum of weights, and that sum's logarithm to base 2.

    WHOLE: all keys are there and one split has them; then the values are the answer, (queries, heads, D).
    """
    head = tl.program_id(1)
    split = tl.program_id(2)
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    channels = tl.arange(0, D)
    inside = rows < queries
    query = tl.load(
        query_ptr + head * query_head + rows[:, None] * query_row + channels[None, :], mask=inside[:, None], other=0.0
    )
    key_ptr += head * key_head
    value_ptr += head * value_head

    if WHOLE:  # noqa: SIM108  # decided where Triton compiles
        kept = 0
    else:
        kept = tl.load(kept_ptr).to(tl.int32)
    kept_full = kept // BN
    full = kept_full + fresh // BN
    share = tl.cdiv(full + 2, SPLITS)
    start = tl.minimum(split * share, full)
    end = tl.minimum(start + share, full)
    best = tl.full((BM,), float('-inf'), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    answer = tl.zeros((BM, D), tl.float32)
    for block in range(start, end):
        first = tl.where(block < kept_full, block * BN, first_fresh + (block - kept_full) * BN)
        best, total, answer = _step(
            query,
            best,
            total,
            answer,
            key_ptr,
            value_ptr,
            first,
            first,
            key_row,
            value_row,
            scale,
            D,
            BN,
            False,
            PRECISION,
        )
    # The last keys of either part fill no block. They fall to the last split, whose share is smaller by two.
    if split == SPLITS - 1:
        if kept_full * BN < kept:
            best, total, answer = _step(
                query,
                best,
                total,
                answer,
                key_ptr,
                value_ptr,
                kept_full * BN,
                kept,
                key_row,
                value_row,
                scale,
                D,
                BN,
                True,
                PRECISION,
            )
        if fresh % BN > 0:
            best, total, answer = _step(
                query,
                best,
                total,
                answer,
                key_ptr,
                value_ptr,
                first_fresh + fresh // BN * BN,
                first_fresh + fresh,
                key_row,
                value_row,
                scale,
                D,
                BN,
                True,
                PRECISION,
            )
    if WHOLE:
        place = rows * tl.num_programs(1) + head
    else:
        place = (split * tl.num_programs(1) + head) * queries + rows
        # A split without keys says zero, and a logarithm of minus infinity.
        tl.store(lse_ptr + place, best + tl.log2(total), mask=inside)
    answer = answer / tl.where(total > 0.0, total, 1.0)[:, None]
    tl.store(
        part_ptr + place[:, None] * D + channels[None, :], answer.to(part_ptr.dtype.element_ty), mask=inside[:, None]
    )


@triton.jit
def _combine(
    part_ptr, part_lse_ptr, answer_ptr, lse_ptr, heads, queries, D: tl.constexpr, BM: tl.constexpr, SPLITS: tl.constexpr
):
    """Join the splits' answers, weighted by their sums, (queries, heads, D), and the logarithm of the whole sum."""
    head = tl.program_id(1)
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    channels = tl.arange(0, D)
    inside = rows < queries
    best = tl.full((BM,), float('-inf'), tl.float32)
    for split in tl.static_range(SPLITS):
        lse = tl.load(part_lse_ptr + (split * heads + head) * queries + rows, mask=inside, other=0.0)
        best = tl.maximum(best, lse)
    total = tl.zeros((BM,), tl.float32)
    answer = tl.zeros((BM, D), tl.float32)
    for split in tl.static_range(SPLITS):
        place = (split * heads + head) * queries + rows
        weight = tl.exp2(tl.load(part_lse_ptr + place, mask=inside, other=0.0) - best)
        total += weight
        answer += weight[:, None] * tl.load(
            part_ptr + place[:, None] * D + channels[None, :], mask=inside[:, None], other=0.0
        ).to(tl.float32)
    answer = answer / total[:, None]
    tl.store(
        answer_ptr + (rows[:, None] * heads + head) * D + channels[None, :],
        answer.to(answer_ptr.dtype.element_ty),
        mask=inside[:, None],
    )
    tl.store(lse_ptr + head * queries + rows, best + tl.log2(total), mask=inside)


@triton.jit
def _mass(
    query_ptr,
    key_ptr,
    kept_ptr,
    lse_ptr,
    counts_ptr,
    mass_ptr,
    query_head,
    query_row,
    key_row,
    key_head,
    queries,
    keys,
    first_fresh,
    fresh,
    scale,
    D: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    COUNTED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Sum what BM keys of one head receive from all queries; zero for keys that are not there."""
    head = tl.program_id(1)
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    channels = tl.arange(0, D)
    kept = tl.load(kept_ptr).to(tl.int32)
    there = (rows < kept) | ((rows >= first_fresh) & (rows < first_fresh + fresh))
    mass = tl.zeros((BM,), tl.float32)
    if tl.max(there.to(tl.int32), 0) > 0:
        key = tl.load(
            key_ptr + head * key_head + rows[:, None] * key_row + channels[None, :], mask=there[:, None], other=0.0
        )
        query_ptr += head * query_head
        received = tl.zeros((BM, BN), tl.float32)
        for first in range(0, queries, BN):
            columns = first + tl.arange(0, BN)
            inside = columns < queries
            query = tl.load(
                query_ptr + columns[None, :] * query_row + channels[:, None], mask=inside[None, :], other=0.0
            )
            lse = tl.load(lse_ptr + head * queries + columns, mask=inside, other=float('inf'))
            weights = tl.exp2(tl.dot(key, query, input_precision=PRECISION) * scale - lse[None, :])
            if COUNTED:
                weights *= tl.load(counts_ptr + columns, mask=inside, other=0.0)[None, :]
            received += weights
        mass = tl.sum(received, 1)
    tl.store(mass_ptr + head * keys + rows, tl.where(there, mass, 0.0), mask=rows < keys)


@triton.jit
def _mean_over_heads(part_ptr, mass_ptr, heads, keys, BLOCK: tl.constexpr):
    columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < keys
    mass = tl.zeros((BLOCK,), tl.float32)
    for head in range(heads):
        mass += tl.load(part_ptr + head * keys + columns, mask=inside, other=0.0)
    tl.store(mass_ptr + columns, mass / heads, mask=inside)


def _precision(tensor: torch.Tensor) -> str:
    # Float32 is there to be compared with, so it is computed as such.
    return 'ieee' if tensor.dtype == torch.float32 else 'tf32'


def attention(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, kept: torch.Tensor, fresh: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """See torch_engine.cache_attention; returns the logarithm to base 2 of each query's sum of weights as well."""
    heads, queries, width = query.shape
    first_fresh = keys.shape[0] - fresh
    answer = torch.empty(queries, heads, width, dtype=query.dtype, device=query.device)
    lse = torch.empty(heads, queries, dtype=torch.float32, device=query.device)
    parts = torch.empty(SPLITS, heads, queries, width, dtype=torch.float32, device=query.device)
    part_lse = torch.empty(SPLITS, heads, queries, dtype=torch.float32, device=query.device)
    _attend[(triton.cdiv(queries, QUERIES), heads, SPLITS)](
        query,
        keys,
        values,
        kept,
        parts,
        part_lse,
        query.stride(0),
        query.stride(1),
        keys.stride(0),
        keys.stride(1),
        values.stride(0),
        values.stride(1),
        queries,
        first_fresh,
        fresh,
        width**-0.5 * LOG2_E,
        D=width,
        BM=QUERIES,
        BN=KEYS,
        SPLITS=SPLITS,
        WHOLE=False,
        PRECISION=_precision(query),
        num_warps=4,
        num_stages=3,
    )
    _combine[(triton.cdiv(queries, COMBINED), heads)](
        parts, part_lse, answer, lse, heads, queries, D=width, BM=COMBINED, SPLITS=SPLITS, num_warps=4
    )
    return answer.transpose(0, 1), lse


def self_attention(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Compute the attention of a frame's tokens to each other: (heads, N, head_dim), of any strides but the last."""
    heads, queries, width = query.shape
    answer = torch.empty(queries, heads, width, dtype=query.dtype, device=query.device)
    _attend[(triton.cdiv(queries, QUERIES), heads, 1)](
        query,
        keys,
        values,
        answer,
        answer,
        answer,
        query.stride(0),
        query.stride(1),
        keys.stride(1),
        keys.stride(0),
        values.stride(1),
        values.stride(0),
        queries,
        0,
        queries,
        width**-0.5 * LOG2_E,
        D=width,
        BM=QUERIES,
        BN=KEYS,
        SPLITS=1,
        WHOLE=True,
        PRECISION=_precision(query),
        num_warps=4,
        num_stages=3,
    )
    return answer.transpose(0, 1)


def mass(
    query: torch.Tensor,
    keys: torch.Tensor,
    kept: torch.Tensor,
    fresh: int,
    lse: torch.Tensor,
    out: torch.Tensor,
    counts: torch.Tensor | None = None,
) -> None:
    """Write each key's attention mass into out (M,) float32, given the ``lse`` of ``attention`` over the same keys."""
    heads, queries, width = query.shape
    count = keys.shape[0]
    part = torch.empty(heads, count, dtype=torch.float32, device=query.device)
    _mass[(triton.cdiv(count, SCORED), heads)](
        query,
        keys,
        kept,
        lse,
        lse if counts is None else counts,
        part,
        query.stride(0),
        query.stride(1),
        keys.stride(0),
        keys.stride(1),
        queries,
        count,
        count - fresh,
        fresh,
        width**-0.5 * LOG2_E,
        D=width,
        BM=SCORED,
        BN=ASKING,
        COUNTED=counts is not None,
        PRECISION=_precision(query),
        num_warps=4,
        num_stages=3,
    )
    _mean_over_heads[(triton.cdiv(count, 256),)](part, out, heads, count, BLOCK=256)
