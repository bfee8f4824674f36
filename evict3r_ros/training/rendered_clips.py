# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Clips on the device, rendered, with their truth: what one training step takes in."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch


@dataclass(frozen=True)
class RenderedClips:
    """What a step learns from, on the device: always the same tensors where a step is recorded."""

    images: torch.Tensor
    """(clips, frames, H, W, 3) uint8 RGB"""
    depth: torch.Tensor
    """(clips, frames, H, W) float32, metres along optical z, infinite where nothing is to be known."""
    supervised: torch.Tensor
    """(n,) int64: the frames of each clip whose depth is predicted."""
    camera_from_first: torch.Tensor
    """(clips, frames, 7) float32: see ``batches.Batch``."""
    field_of_view: torch.Tensor
    """(clips, 2) float32: vertical, horizontal, radians."""
    visible: torch.Tensor
    """(clips, frames) float32: 0 where the camera is covered, otherwise 1."""

    @classmethod
    def random_clips(
        cls, clips: int, frames: int, supervised: torch.Tensor, size: tuple[int, int], device: torch.device
    ) -> RenderedClips:
        """Numbers of the right shapes and sizes, which cost nothing to draw."""
        images = torch.randint(0, 256, (clips, frames, *size, 3), dtype=torch.uint8, device=device)
        depth = torch.rand((clips, frames, *size), device=device) + 1
        poses = torch.tensor([0, 0, 0, 0, 0, 0, 1.0], device=device).repeat(clips, frames, 1)
        ones = torch.ones((clips, max(frames, 2)), device=device)
        return cls(images, depth, supervised.to(device), poses, ones[:, :2].clone(), ones[:, :frames].clone())

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All of them, in the order of the fields."""
        return tuple(getattr(self, field.name) for field in fields(self))
