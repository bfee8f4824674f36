# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The aggregator: blocks that attend inside a frame alternate with blocks that attend across time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from evict3r_ros.network.layers import Block, RotaryTable
from evict3r_ros.network.memory import Memory
from evict3r_ros.network.patch_encoder import PatchEncoder
from evict3r_ros.network.presets import Preset
from evict3r_ros.stages import stage

NORM_EPS = 1e-5


@dataclass(frozen=True)
class FrameGrid:
    """What depends only on a frame's size, made once for a stream."""

    patches: tuple[int, int]
    positions: torch.Tensor
    """(1, 1 + patches, C): the encoder's positional table at this size."""
    rotary: RotaryTable


class Aggregator(nn.Module):
    """Images to the tokens that the heads read."""

    def __init__(self, preset: Preset):
        super().__init__()
        width, heads = preset.width, preset.heads
        self.preset = preset
        self.patch_embed = PatchEncoder(preset)
        self.camera_token = nn.Parameter(torch.zeros(1, 2, 1, width))
        self.register_token = nn.Parameter(torch.zeros(1, 2, preset.registers, width))
        self.frame_blocks = nn.ModuleList(Block(width, heads, NORM_EPS, qk_norm=True) for _ in range(preset.pairs))
        self.global_blocks = nn.ModuleList(Block(width, heads, NORM_EPS, qk_norm=True) for _ in range(preset.pairs))

    def grid(self, patches: tuple[int, int]) -> FrameGrid:
        """Return the tables for frames of that many rows and columns of patches."""
        rotary = RotaryTable(patches, self.preset.special_tokens, self.preset.head_dim, self.camera_token.device)
        return FrameGrid(patches, self.patch_embed.positions(patches), rotary)

    def forward(
        self, images: torch.Tensor, is_first: torch.Tensor, grid: FrameGrid, memory: Memory
    ) -> list[torch.Tensor]:
        """Return the tokens of the tapped layers and of the last one.

        images: (batch, frames, 3, H, W), normalised; is_first: (frames,) bool, True for a stream's first frame.
        Returns one tensor (batch, frames, N, 2C) for each of ``preset.taps``, then the last layer's: frame block's
        output beside global block's.
        """
        batch, frames = images.shape[:2]
        with stage('patch encoder'):
            patches = self.patch_embed(images.flatten(0, 1), grid.positions).unflatten(0, (batch, frames))
        specials = torch.cat((self.camera_token, self.register_token), dim=2)[0]
        own = torch.where(is_first[:, None, None], specials[0], specials[1])
        x = torch.cat((own.expand(batch, -1, -1, -1), patches), dim=2)
        tapped, normed = [], None
        last = self.preset.pairs - 1
        for layer, (frame_block, global_block) in enumerate(zip(self.frame_blocks, self.global_blocks, strict=True)):
            with stage('frame blocks'):
                inside, normed = frame_block(
                    x.flatten(0, 1), rotary=grid.rotary, normed=normed, next_norm=global_block.norm1
                )
            inside = inside.unflatten(0, (batch, frames))
            observe = partial(memory.observe_residual, layer) if memory.wants_residual else None
            with stage('global blocks'):
                across, normed = global_block(
                    inside.flatten(1, 2),
                    partial(memory.attend, layer),
                    grid.rotary,
                    observe,
                    normed.view(batch, -1, normed.shape[-1]),
                    self.frame_blocks[layer + 1].norm1 if layer < last else None,
                )
            x = across.unflatten(1, (frames, -1))
            normed = normed if normed is None else normed.view(batch * frames, -1, normed.shape[-1])
            if layer in self.preset.taps or layer == last:
                tapped.append(torch.cat((inside, x), dim=-1))
        return tapped if last not in self.preset.taps else [*tapped, tapped[-1]]
