# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One door to everything that is worth a kernel; behind it, engines that give the same answers.

``torch``: any device, and the reference. ``triton``: CUDA, where Triton is installed; forward only. Which one runs is
decided for each call by where its tensors are, unless EVICT3R_ENGINE or ``use_engine`` says ``torch``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from contextlib import nullcontext
from types import ModuleType

import torch
import torch.nn.functional as F

from evict3r_ros.errors import UserError
from evict3r_ros.kernels import torch_engine, torch_linear
from evict3r_ros.kernels.layout import RANGE_DTYPE, PackedLayout
from evict3r_ros.kernels.side_stream import SideStream
from evict3r_ros.kernels.torch_engine import attention
from evict3r_ros.stages import stage

__all__ = [
    'ENGINES',
    'RANGE_DTYPE',
    'PackedLayout',
    'SideStream',
    'add_norm',
    'attention',
    'bilinear_upsample',
    'cache_attention',
    'cache_mass',
    'copy_pair',
    'describe_engine',
    'engine_for',
    'packed_linear',
    'qk_norm_rotary_embedding',
    'read_packed',
    'self_attention',
    'use_engine',
    'write_packed',
]

ENGINES = ('auto', 'torch', 'triton')
SCORING = 'scoring by attention'
"""The stage of the kernel that computes attention masses, which on CUDA runs beside the rest."""
HAS_TRITON = importlib.util.find_spec('triton') is not None
_engine = 'auto'


def use_engine(engine: str) -> None:
    """Choose the engine for all that follows in this process: ``auto`` or ``torch``; ``triton`` insists on it."""
    global _engine
    if engine not in ENGINES:
        raise UserError(f'engine {engine!r} is not one of {", ".join(ENGINES)}')
    if engine == 'triton' and not HAS_TRITON:
        raise UserError("engine 'triton': Triton is not installed here")
    _engine = engine


use_engine(os.environ.get('EVICT3R_ENGINE', 'auto'))


def engine_for(device: torch.device) -> str:
    """Return which engine serves tensors of a device: ``torch`` or ``triton``."""
    return 'triton' if device.type == 'cuda' and HAS_TRITON and _engine != 'torch' else 'torch'


def describe_engine(device: torch.device) -> str:
    """Return the engine for a device and the reason, for a line in the log."""
    if engine_for(device) == 'triton':
        return 'triton: a CUDA device, and Triton is installed'
    if device.type != 'cuda':
        return f'torch: the device is {device.type}, and Triton kernels need CUDA'
    return 'torch: asked for' if HAS_TRITON else 'torch: Triton is not installed; its kernels would be faster'


def _fused(tensor: torch.Tensor) -> bool:
    # Kernels have no backward pass.
    return tensor.is_cuda and not torch.is_grad_enabled() and engine_for(tensor.device) == 'triton'


def _engine_of(tensor: torch.Tensor, kernels: str) -> ModuleType:
    """Return Triton's module of that name where it serves a tensor, else the reference engine."""
    return importlib.import_module(f'{__name__}.{kernels}') if _fused(tensor) else torch_engine


def cache_attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    kept: torch.Tensor,
    fresh: int,
    mass: torch.Tensor | None = None,
    side_stream: SideStream | None = None,
) -> torch.Tensor:
    """See torch_engine.cache_attention; the mass is complete only when ``side_stream``, if given, has been joined."""
    if not _fused(query):
        return torch_engine.cache_attention(query, keys, values, kept, fresh, mass)
    from evict3r_ros.kernels import triton_attention

    answer, lse = triton_attention.attention(query, keys, values, kept, fresh)
    if mass is not None:
        with side_stream.fork(query, lse) if side_stream is not None else nullcontext(), stage(SCORING):
            triton_attention.mass(query, keys, kept, fresh, lse, mass)
    return answer


def self_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return the attention of tokens to each other: (batch, heads, tokens, head_dim) each."""
    if _fused(query) and query.shape[0] == 1 and query.shape[3] in (16, 32, 64, 128):
        from evict3r_ros.kernels import triton_attention

        return triton_attention.self_attention(query[0], key[0], value[0])[None]
    return F.scaled_dot_product_attention(query, key, value)


def cache_mass(
    query: torch.Tensor, counts: torch.Tensor, keys: torch.Tensor, kept: torch.Tensor, fresh: int, mass: torch.Tensor
) -> None:
    """See torch_engine.cache_mass."""
    if not _fused(keys):
        torch_engine.cache_mass(query, counts, keys, kept, fresh, mass)
        return
    from evict3r_ros.kernels import triton_attention

    query = query.to(keys.dtype)
    # What the pooled queries would get of the values is not needed, but little: there are few of them.
    _, lse = triton_attention.attention(query, keys, keys, kept, fresh)
    with stage(SCORING):
        triton_attention.mass(query, keys, kept, fresh, lse, mass, counts)


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
    _engine_of(key, 'triton_codec').write_packed(rows, key, value, slots, centres, table, scale, layout)


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
    """See torch_engine.read_packed."""
    _engine_of(key, 'triton_codec').read_packed(rows, key, value, slots, centres, count, table, scale, layout)


def copy_pair(key: torch.Tensor, value: torch.Tensor, key_out: torch.Tensor, value_out: torch.Tensor) -> None:
    """See torch_engine.copy_pair."""
    _engine_of(key, 'triton_codec').copy_pair(key, value, key_out, value_out)


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
    engine = _engine_of(qkv, 'triton_layers')
    answer: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = engine.qk_norm_rotary_embedding(
        qkv, q_weight, q_bias, k_weight, k_bias, eps, cos, sin
    )
    return answer


def add_norm(
    x: torch.Tensor, added: torch.Tensor, gamma: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """See torch_engine.add_norm."""
    engine = _engine_of(x, 'triton_layers')
    answer: tuple[torch.Tensor, torch.Tensor] = engine.add_norm(x, added, gamma, weight, bias, eps)
    return answer


def packed_linear(x: torch.Tensor, codes: torch.Tensor, ranges: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """See torch_linear.packed_linear."""
    if not _fused(x):
        return torch_linear.packed_linear(x, codes, ranges, bias)
    from evict3r_ros.kernels import triton_linear

    return triton_linear.packed_linear(x, codes, ranges, bias)


def bilinear_upsample(x: torch.Tensor, size: tuple[int, int], position: torch.Tensor | None = None) -> torch.Tensor:
    """See torch_engine.bilinear_upsample."""
    # Triton's takes one map: many at a time come only from passes over whole clips.
    engine = _engine_of(x, 'triton_layers') if x.shape[0] == 1 else torch_engine
    upsampled: torch.Tensor = engine.bilinear_upsample(x, size, position)
    return upsampled
