# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the time that a picture takes does to it: rows read one after the other, and blur along the camera's turn."""

from __future__ import annotations

import torch

from evict3r_ros.synthetic.effects import READOUT, SHUTTER

_TAPS = 7
_LONGEST = 0.06
"""Of the image's width: what a turn blurs at most."""


def turned_ray(turn: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Say how fast the ray (x, y, 1) (N, R) moves in a camera that turns by ``turn`` (N, 3), radians, a frame."""
    a, b, c = (turn[:, axis, None] for axis in range(3))
    dx, dy, dz = b - c * y, c * x - a, a * y - b * x
    return dx - x * dz, dy - y * dz


def roll_shutter(
    faults: torch.Tensor, turn: torch.Tensor, x: torch.Tensor, y: torch.Tensor, row: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rays x, y (N, R) as the middle row's camera sees them, of pixels read at other times.

    row: (R,) of the pixels, -0.5 to 0.5 of the height. Depth stays exact for what each pixel shows; the pose is that of
    the middle row.
    """
    dx, dy = turned_ray(turn, x, y)
    late = faults[:, READOUT, None] * row
    return x + late * dx, y + late * dy


def motion_blur(
    image: torch.Tensor, faults: torch.Tensor, turn: torch.Tensor, x: torch.Tensor, y: torch.Tensor, edge: torch.Tensor
) -> torch.Tensor:
    """Average image (N, 3, H, W) along the way of each pixel's ray while the shutter is open.

    x, y: (N, H * W) of the rays. edge: (N, 1) tangent at the image's side.
    """
    height, width = image.shape[-2:]
    pixels = width / 2 / edge * faults[:, SHUTTER, None]
    # What the ray moves in the camera, its picture moves the other way; blur is the same both ways.
    dx, dy = (one * pixels for one in turned_ray(turn, x, y))
    shorter = (_LONGEST * width / torch.maximum(dx.abs(), dy.abs()).clamp(min=1e-6)).clamp(max=1.0)
    v, u = torch.meshgrid(
        torch.arange(height, device=image.device, dtype=image.dtype),
        torch.arange(width, device=image.device, dtype=image.dtype),
        indexing='ij',
    )
    u, v, dx, dy = u.reshape(1, -1), v.reshape(1, -1), dx * shorter, dy * shorter
    flat = image.flatten(2)
    total = torch.zeros_like(flat)
    for tap in range(_TAPS):
        along = tap / (_TAPS - 1) - 0.5
        column = (u + along * dx).round().clamp(0, width - 1)
        line = (v + along * dy).round().clamp(0, height - 1)
        index = (line * width + column).long()[:, None].expand(-1, 3, -1)
        total = total + flat.gather(2, index)
    return (total / _TAPS).view(image.shape)
