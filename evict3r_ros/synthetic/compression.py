# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Blocks as in a JPEG: a cosine transform of 8 x 8 pixels, rounded, the more coarsely the finer the pattern."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

BLOCK = 8


def cosine_matrix(device: torch.device) -> torch.Tensor:
    """Return the (8, 8) orthonormal discrete cosine transform of type II: a row a frequency."""
    number = torch.arange(BLOCK, device=device, dtype=torch.float32)
    matrix = torch.cos(math.pi / BLOCK * (number[None] + 0.5) * number[:, None]) * (2 / BLOCK) ** 0.5
    return torch.cat((matrix[:1] * 0.5**0.5, matrix[1:]))


def compress_blocks(image: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """Round the waves in image (N, 3, H, W), 0 … 1, to multiples of a step (N,); 0 leaves an image alone."""
    height, width = image.shape[-2:]
    padded = F.pad(image, (0, -width % BLOCK, 0, -height % BLOCK), mode='replicate')
    transform = cosine_matrix(image.device)
    rows, columns = padded.shape[-2] // BLOCK, padded.shape[-1] // BLOCK
    blocks = padded.view(-1, 3, rows, BLOCK, columns, BLOCK)
    waves = torch.einsum('ka,ncrasb,lb->ncrksl', transform, blocks, transform)
    frequency = torch.arange(BLOCK, device=image.device, dtype=image.dtype)
    coarse = 1 + 0.5 * (frequency[:, None, None] + frequency)
    size = step.view(-1, 1, 1, 1, 1, 1).clamp(min=1e-6) * coarse
    blocks = torch.einsum('ka,ncrksl,lb->ncrasb', transform, (waves / size).round() * size, transform)
    rounded = blocks.reshape(padded.shape)[..., :height, :width].clamp(0, 1)
    return torch.where(step.view(-1, 1, 1, 1) > 0, rounded, image)
