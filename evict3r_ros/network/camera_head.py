# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The camera head: four rounds of refining a pose from the camera token."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from evict3r_ros.network.layers import Block, Mlp, run_blocks
from evict3r_ros.network.memory import Memory
from evict3r_ros.network.presets import Preset

POSE = 9
"""Translation 3, quaternion xyzw 4, vertical and horizontal field of view 2."""
NORM_EPS = 1e-5
MODULATION_EPS = 1e-6


class CameraHead(nn.Module):
    """Camera tokens to pose encodings; the trunk looks across time through a memory of its own."""

    def __init__(self, preset: Preset):
        super().__init__()
        width = 2 * preset.width
        self.rounds = preset.camera_rounds
        self.rounds_apart = preset.camera_rounds_apart
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, POSE))
        self.embed_pose = nn.Linear(POSE, width)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))
        self.trunk = nn.ModuleList(Block(width, preset.camera_heads, NORM_EPS) for _ in range(preset.camera_blocks))
        self.token_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.trunk_norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.pose_branch = Mlp(width, width // 2, POSE)

    def forward(self, tokens: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Return pose encodings (batch, frames, 9) in float32 of tokens (batch, frames, 2C).

        No field of view is negative.

        The memory's attend is called ``rounds`` times a frame for each trunk block. Published, a streaming memory keeps
        what every round brought in one place, so that a round sees the earlier rounds of its own frame too; with
        ``rounds_apart`` each round has layers of its own.
        """
        pose = self.estimates(tokens, memory)[-1]
        return torch.cat((pose[..., :7], pose[..., 7:].relu()), dim=-1)

    def estimates(self, tokens: torch.Tensor, memory: Memory) -> list[torch.Tensor]:
        """Return the raw estimate after each round, which the loss of training is computed from."""
        token = self.token_norm(tokens)
        normed = F.layer_norm(token, token.shape[-1:], eps=MODULATION_EPS)
        # The estimate begins at zero and stays in float32: half precision would round a translation at every round.
        # The first round sees a learned token in its place.
        pose = token.new_zeros(*token.shape[:2], POSE, dtype=torch.float32)
        previous = self.empty_pose_tokens
        estimates = []
        for number_of_round in range(self.rounds):
            first = number_of_round * len(self.trunk) if self.rounds_apart else 0
            shift, scale, gate = self.poseLN_modulation(self.embed_pose(previous)).chunk(3, dim=-1)
            x = token + gate * (normed * (1 + scale) + shift)
            attend = [partial(memory.attend, first + number) for number in range(len(self.trunk))]
            x = run_blocks(self.trunk, x, self.trunk_norm, attend)
            pose = pose + self.pose_branch(x).float()
            previous = pose.to(token.dtype)
            estimates.append(pose)
        return estimates
