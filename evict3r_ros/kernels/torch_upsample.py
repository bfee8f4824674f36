# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bilinear upsampling whose gradient is two matrix products instead of sums scattered by atomic additions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F


def _weights(before: int, after: int, like: torch.Tensor) -> torch.Tensor:
    """Return how much of each input sample is in each output sample, (after, before), corners aligned."""
    place = torch.arange(after, device=like.device, dtype=torch.float32) * ((before - 1) / max(after - 1, 1))
    sample = torch.arange(before, device=like.device, dtype=torch.float32)
    return (1 - (place[:, None] - sample).abs()).clamp(min=0).to(like.dtype)


class _BilinearUpsample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        ctx.before = tuple(x.shape[-2:])
        return F.interpolate(x, size, mode='bilinear', align_corners=True)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        rows = _weights(ctx.before[0], gradient.shape[-2], gradient)
        columns = _weights(ctx.before[1], gradient.shape[-1], gradient)
        # Channels last, as the convolutions leave their gradients: rows first, since that needs no copy.
        channels_last = gradient.permute(0, 2, 3, 1)
        batch, height, width, channels = channels_last.shape
        by_row = rows.T @ channels_last.reshape(batch, height, width * channels)
        by_row = by_row.view(batch * ctx.before[0], width, channels)
        return (columns.T @ by_row).view(batch, *ctx.before, channels).permute(0, 3, 1, 2), None


def bilinear_upsample(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Upsample x (batch, channels, h, w) to (batch, channels, *size), bilinear, corners aligned."""
    if torch.is_grad_enabled() and x.requires_grad:
        upsampled: torch.Tensor = _BilinearUpsample.apply(x, size)  # type: ignore[no-untyped-call]  # torch's
        return upsampled
    return F.interpolate(x, size, mode='bilinear', align_corners=True)
