# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Compare quantization schemes by the error of keys, values and attention output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from evict3r_ros import kernels
from evict3r_ros.cache import CacheShape
from evict3r_ros.cache.codec import centre_of
from evict3r_ros.cache.pool import Pool
from evict3r_ros.evaluation.studies.activations import LayerActivations, record, with_outlier_channels
from evict3r_ros.network import StreamVGGT

GROUP = 64
"""Consecutive tokens that share the range of a key channel, as published."""
SPECIAL_TOKENS = 5
OUTLIER_COUNT, OUTLIER_FACTOR, OUTLIER_OFFSET = 3, 6.0, 12.0
"""Outlier channels of each head, and what is done to their keys."""
Scheme = Callable[[LayerActivations, int, int], tuple[torch.Tensor, torch.Tensor]]
"""(layer, tokens of the first frame, bits) -> dequantized keys and values."""


def _uniform(x: torch.Tensor, bits: int, dim: int, clamped: bool = False) -> torch.Tensor:
    """Quantize and dequantize x asymmetrically with one range along ``dim``.

    clamped: use the published integer zero point.
    """
    low, high = x.amin(dim, keepdim=True), x.amax(dim, keepdim=True)
    restored: torch.Tensor
    step = ((high - low) / (2**bits - 1)).clamp(min=1e-8)
    if clamped:
        zero = (-low / step).round().clamp(0, 2**bits - 1)
        restored = ((x / step).round() + zero).clamp(0, 2**bits - 1).sub(zero) * step
    else:
        restored = ((x - low) / step).round() * step + low
    return restored


def _grouped_keys(keys: torch.Tensor, bits: int, clamped: bool) -> torch.Tensor:
    return torch.cat([_uniform(group, bits, 0, clamped) for group in keys.split(GROUP)])


def published(layer: LayerActivations, first: int, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply XStreamVGGT's scheme: keys per channel in groups of 64 tokens, values per token, zero point clamped."""
    return _grouped_keys(layer.keys, bits, True), _uniform(layer.values, bits, -1, True)


def published_float(layer: LayerActivations, first: int, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply the same grouping with a float minimum: the reference. It requantizes groups whose members leave."""
    return _grouped_keys(layer.keys, bits, False), _uniform(layer.values, bits, -1)


def plain(layer: LayerActivations, first: int, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize keys per token and head, like values, without calibration."""
    return _uniform(layer.keys, bits, -1), _uniform(layer.values, bits, -1)


def fixed_ranges(layer: LayerActivations, first: int, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize all keys in the channel ranges of the first frame; values outside are clamped."""
    low, high = layer.keys[:first].amin(0), layer.keys[:first].amax(0)
    step = ((high - low) / (2**bits - 1)).clamp(min=1e-8)
    keys = ((layer.keys - low) / step).round().clamp(0, 2**bits - 1) * step + low
    return keys, _uniform(layer.values, bits, -1)


def _frames_and_tokens(layer: LayerActivations, first: int) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.arange(len(layer.keys), device=layer.keys.device)
    return numbers // first, numbers % first


def ours(
    layer: LayerActivations, first: int, bits: int, special_tokens: int = SPECIAL_TOKENS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply the cache's codec, through its bytes; special_tokens 0: special tokens have no centres of their own."""
    heads, head_dim = layer.keys.shape[1:]
    count = len(layer.keys)
    pool = Pool(
        CacheShape(1, heads, head_dim, special_tokens, (1, first - special_tokens), torch.float32, layer.keys.device),
        [(count, bits)],
    )
    frames, tokens = _frames_and_tokens(layer, first)
    for frame in (0, 1):
        pool.calibrate(0, frame, layer.keys[frames == frame], layer.values[frames == frame])
    keys, values = torch.empty_like(layer.keys), torch.empty_like(layer.values)
    centres, slots = centre_of(frames, tokens, special_tokens), torch.arange(count, device=keys.device)
    pool.write(0, 0, slots, centres, layer.keys, layer.values)
    pool.read(0, slots, centres, slots[-1] + 1, keys, values)
    return keys, values


def ours_keys_only(layer: LayerActivations, first: int, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply our keys with plain values: this shows what the centres of values add."""
    return ours(layer, first, bits)[0], _uniform(layer.values, bits, -1)


SCHEMES: dict[str, Scheme] = {
    'published, zero point clamped': published,
    'published, float minimum': published_float,
    'per token, no calibration': plain,
    'channel ranges of the first frame': fixed_ranges,
    'ours, specials like patches': lambda layer, first, bits: ours(layer, first, bits, special_tokens=0),
    'ours, keys only': ours_keys_only,
    'ours': ours,
}
REFERENCE = 'published, float minimum'


def _relative(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def errors(layers: list[LayerActivations], first: int, bits: int) -> dict[str, dict[str, float]]:
    """Return for each scheme the relative L2 errors of keys, values and attention output, mean over layers."""
    table = {}
    for name, scheme in SCHEMES.items():
        sums = {'keys': 0.0, 'values': 0.0, 'attention': 0.0}
        for layer in layers:
            keys, values = scheme(layer, first, bits)
            exact = kernels.attention(layer.query, layer.keys.transpose(0, 1), layer.values.transpose(0, 1))
            found = kernels.attention(layer.query, keys.transpose(0, 1), values.transpose(0, 1))
            sums['keys'] += _relative(keys, layer.keys) / len(layers)
            sums['values'] += _relative(values, layer.values) / len(layers)
            sums['attention'] += _relative(found, exact) / len(layers)
        table[name] = sums
    for row in table.values():
        row['ratio'] = row['attention'] / table[REFERENCE]['attention']
    return table


def _shifted(x: torch.Tensor) -> torch.Tensor:
    low, high = x.aminmax()
    return 5.0 + (x - low) / (high - low)


def compare(network: StreamVGGT, frames: int, size: tuple[int, int], seed: int = 0) -> dict[str, Any]:
    """Return errors by case, bits and scheme.

    The cases are activations as they are, with outlier channels and in a shifted range, and random numbers.
    """
    layers = record(network, frames, seed, size)
    first = len(layers[0].keys) // frames
    generator = torch.Generator().manual_seed(seed)
    cases = {
        'as they are': layers,
        'outlier channels': [
            with_outlier_channels(layer, OUTLIER_COUNT, OUTLIER_FACTOR, OUTLIER_OFFSET, generator) for layer in layers
        ],
        'shifted to [5, 6]': [
            replace(layer, keys=_shifted(layer.keys), values=_shifted(layer.values)) for layer in layers
        ],
        'independent in [5, 6]': [
            replace(
                layer,
                keys=5 + torch.rand(layer.keys.shape, generator=generator),
                values=5 + torch.rand(layer.values.shape, generator=generator),
            )
            for layer in layers
        ],
    }
    return {case: {bits: errors(activations, first, bits) for bits in (8, 4, 2)} for case, activations in cases.items()}


def markdown(results: dict[str, Any]) -> str:
    """Return the comparison as tables."""
    lines = []
    for case, by_bits in results.items():
        lines += [
            f'### Activations {case}',
            '',
            '| bits | scheme | keys | values | attention output | against reference |',
            '|---|---|---|---|---|---|',
        ]
        for bits, table in by_bits.items():
            lines += [
                f'| {bits} | {name} | {row["keys"]:.4f} | {row["values"]:.4f} | {row["attention"]:.5f} | '
                f'{row["ratio"]:.2f} |'
                for name, row in table.items()
            ]
        lines.append('')
    return '\n'.join(lines)
