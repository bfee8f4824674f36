# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Matrices and kernels as int8, one scale an output channel: how the package's own weights lie in their file.

The file is .safetensors. Beside a tensor ``x`` of int8 lies ``x.scale`` (rows,) float32; a row is what ``x`` holds
along its first axis, for a transposed convolution an input channel. All other tensors are as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

SCALE = '.scale'
_LEVELS = 127
_LEAST_NUMBERS = 4096


def is_packed(key: str, tensor: torch.Tensor) -> bool:
    """Return whether a weight is worth packing: a large matrix or kernel, not a table or a vector."""
    return key.endswith('.weight') and tensor.ndim >= 2 and tensor.numel() >= _LEAST_NUMBERS


def pack(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights as they go into the file: int8 with scales, or float16."""
    packed = {}
    for key, tensor in weights.items():
        if is_packed(key, tensor):
            rows = tensor.float().flatten(1)
            scale = rows.abs().amax(1).clamp(min=1e-12) / _LEVELS
            packed[key] = (rows / scale[:, None]).round().to(torch.int8).view(tensor.shape)
            packed[key + SCALE] = scale
        else:
            packed[key] = tensor.half()
    return packed


def unpacking(keys: Iterable[str], read: Callable[[str], torch.Tensor]) -> Callable[[str], torch.Tensor]:
    """Return a reader of tensors as float32 from a reader of a file that ``pack`` made; keys: all of that file."""
    scaled = {key.removesuffix(SCALE) for key in keys if key.endswith(SCALE)}

    def unpacked(key: str) -> torch.Tensor:
        tensor = read(key)
        if key not in scaled:
            return tensor
        return tensor.float() * read(key + SCALE).view(-1, *[1] * (tensor.ndim - 1))

    return unpacked
