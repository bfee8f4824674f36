# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Weights by rule, for tests, benchmarks and a demo before trained ones: the same for everybody from one seed."""

from __future__ import annotations

import math
import zlib

import torch


def scale_by_rule(key: str, noise: torch.Tensor) -> torch.Tensor:
    """Scale standard normal noise so that activations keep their size through the network.

    LayerScale 0.2 + 0.05 x; matrices and kernels x / sqrt(inputs); norm weights 1 + 0.1 x; biases 0.02 x; tokens and
    positional tables 0.5 x.
    """
    if key.endswith('.gamma'):
        return 0.2 + 0.05 * noise
    if key.endswith('.weight'):
        return noise / math.sqrt(math.prod(noise.shape[1:])) if noise.ndim >= 2 else 1.0 + 0.1 * noise
    return (0.02 if key.endswith('.bias') else 0.5) * noise


def random_tensor(key: str, shape: tuple[int, ...], seed: int, device: torch.device) -> torch.Tensor:
    """Return the float32 weight of that name; numbers differ between kinds of device, not between machines."""
    generator = torch.Generator(device).manual_seed((zlib.crc32(key.encode()) + seed) % 2**63)
    return scale_by_rule(key, torch.randn(shape, generator=generator, device=device))
