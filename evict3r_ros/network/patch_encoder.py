# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The patch encoder: DINOv2's ViT-*/14 with registers (arXiv 2304.07193, 2309.16588)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from evict3r_ros.network.layers import Block, run_blocks
from evict3r_ros.network.presets import PATCH, Preset

NORM_EPS = 1e-6


class PatchProjection(nn.Module):
    """A patch's pixels to one token."""

    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=PATCH, stride=PATCH)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return tokens (batch, patches, width), in raster order, of images (batch, 3, H, W)."""
        tokens: torch.Tensor = self.proj(images)
        return tokens.flatten(2).transpose(1, 2)


class PatchEncoder(nn.Module):
    """Images to patch tokens, each frame by itself."""

    def __init__(self, preset: Preset):
        super().__init__()
        width = preset.width
        self.grid = preset.position_grid
        self.skipped_tokens = preset.special_tokens
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, width))
        self.register_tokens = nn.Parameter(torch.zeros(1, preset.registers, width))
        # Used by DINOv2's own training only; it is part of the published weights.
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.patch_embed = PatchProjection(width)
        self.blocks = nn.ModuleList(Block(width, preset.heads, NORM_EPS) for _ in range(preset.encoder_blocks))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    def positions(self, patches: tuple[int, int]) -> torch.Tensor:
        """Return the positional table resized to ``patches`` (rows, columns): (1, 1 + rows * columns, width)."""
        if patches == (self.grid, self.grid):
            return self.pos_embed
        own, table = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        table = table.transpose(1, 2).unflatten(-1, (self.grid, self.grid)).float()
        table = F.interpolate(table, patches, mode='bicubic', antialias=True, align_corners=False)
        return torch.cat((own, table.flatten(2).transpose(1, 2).to(own.dtype)), dim=1)

    def forward(self, images: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return tokens (batch, patches, width) of normalised images (batch, 3, H, W).

        positions: from ``self.positions``, for the images' size.
        """
        x = self.patch_embed(images)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + positions
        x = torch.cat((x[:, :1], self.register_tokens.expand(x.shape[0], -1, -1), x[:, 1:]), dim=1)
        return run_blocks(self.blocks, x, self.norm)[:, self.skipped_tokens :]
