# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The pieces that all stacks of the network share: attention, MLP, LayerScale, the block, and 2-D RoPE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from evict3r_ros import kernels

ROPE_BASE = 100.0

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(query, key, value), each (batch, heads, tokens, head_dim) -> (batch, heads, tokens, head_dim)."""


class RotaryTable:
    """Cosines and sines that rotate queries and keys by a patch's row and column.

    The first half of a head's channels rotates with the row, the second with the column; inside a half, channel i pairs
    with i + quarter and rotates by position * 100^(-i / quarter). Special tokens sit at (0, 0), patch (r, c) at
    (r + 1, c + 1).
    """

    def __init__(self, patches: tuple[int, int], special_tokens: int, head_dim: int, device: torch.device):
        rows, columns = patches
        quarter = head_dim // 4
        frequency = ROPE_BASE ** (-torch.arange(quarter, dtype=torch.float32, device=device) / quarter)
        row = torch.arange(1, rows + 1, dtype=torch.float32, device=device).repeat_interleave(columns)
        column = torch.arange(1, columns + 1, dtype=torch.float32, device=device).repeat(rows)
        position = F.pad(torch.stack((row, column)), (special_tokens, 0))
        row_angle, column_angle = position[0, :, None] * frequency, position[1, :, None] * frequency
        angle = torch.cat((row_angle, row_angle, column_angle, column_angle), dim=-1)
        self.cos = angle.cos()
        """(tokens, head_dim)"""
        self.sin = angle.sin()
        """(tokens, head_dim)"""


class Attention(nn.Module):
    """Multi-head attention; whom the queries attend to is the caller's ``attend``.

    With ``norm_eps`` queries and keys are LayerNormed head by head (QK norm), and rotated by a RotaryTable.
    """

    def __init__(self, width: int, heads: int, norm_eps: float | None = None):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        if norm_eps is not None:
            self.q_norm = nn.LayerNorm(width // heads, eps=norm_eps)
            self.k_norm = nn.LayerNorm(width // heads, eps=norm_eps)
        self.proj = nn.Linear(width, width)

    def project_qkv(self, x: torch.Tensor, rotary: RotaryTable | None = None) -> tuple[torch.Tensor, ...]:
        """Return query, key and value of x (batch, tokens, width): (batch, heads, tokens, head_dim) each.

        With ``rotary`` queries and keys are normed and rotated.
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        if rotary is None:
            return tuple(qkv.permute(2, 0, 3, 1, 4))
        return kernels.qk_norm_rotary_embedding(
            qkv,
            self.q_norm.weight,
            self.q_norm.bias,
            self.k_norm.weight,
            self.k_norm.bias,
            self.q_norm.eps,
            rotary.cos,
            rotary.sin,
        )

    def project_output(self, answers: torch.Tensor) -> torch.Tensor:
        """Project what attention answered, (batch, heads, tokens, head_dim) -> (batch, tokens, width)."""
        projected: torch.Tensor = self.proj(answers.transpose(1, 2).flatten(-2))
        return projected


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, width: int, hidden: int, out: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layers to x (..., width) -> (..., out)."""
        x = self.fc2(F.gelu(self.fc1(x)))
        return x


class LayerScale(nn.Module):
    """A learned factor a channel; the block applies it."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))


class Block(nn.Module):
    """Pre-norm transformer block with LayerScale on both branches."""

    def __init__(self, width: int, heads: int, eps: float, qk_norm: bool = False):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, eps if qk_norm else None)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, 4 * width, width)
        self.ls2 = LayerScale(width)

    def forward(
        self,
        x: torch.Tensor,
        attend: Attend = kernels.self_attention,
        rotary: RotaryTable | None = None,
        observe_residual: Callable[[torch.Tensor], None] | None = None,
        normed: torch.Tensor | None = None,
        next_norm: nn.LayerNorm | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Apply the block to x (batch, tokens, width); without ``attend`` the tokens attend to each other.

        A sum and the norm of it that comes next are one kernel, also across blocks: normed is ``norm1(x)``, where the
        block before has made it, and next_norm is the norm that the next one wants, the second part of the answer.
        observe_residual: called with what the MLP adds, (batch, tokens, width).
        """
        answers = attend(*self.before(self.norm1(x) if normed is None else normed, rotary))
        x, normed, added = self.after(x, answers, next_norm)
        if observe_residual is not None:
            observe_residual(added * self.ls2.gamma)
        return x, normed

    def before(self, normed: torch.Tensor, rotary: RotaryTable | None = None) -> tuple[torch.Tensor, ...]:
        """Return the query, key and value that the block attends with."""
        return self.attn.project_qkv(normed, rotary)

    def after(
        self, x: torch.Tensor, answers: torch.Tensor, next_norm: nn.LayerNorm | None
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """Return the tokens that leave the block, their norm, and what the MLP added, before its LayerScale."""
        x, normed = add_and_norm(x, self.attn.project_output(answers), self.ls1, self.norm2)
        added = self.mlp(normed)
        return *add_and_norm(x, added, self.ls2, next_norm), added


def add_and_norm(
    x: torch.Tensor, added: torch.Tensor, scale: LayerScale, norm: nn.LayerNorm | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return x + scale * added, and its norm, if one is given; (batch, tokens, width)."""
    if norm is None:
        return torch.addcmul(x, added, scale.gamma), None
    return kernels.add_norm(x, added, scale.gamma, norm.weight, norm.bias, norm.eps)


def run_blocks(
    blocks: nn.ModuleList, x: torch.Tensor, next_norm: nn.LayerNorm, attend: Sequence[Attend] | None = None
) -> torch.Tensor:
    """Run a stack of blocks over x (batch, tokens, width); return the norm of what comes out.

    attend: of each block; by default tokens attend to each other.
    """
    stack = cast('Sequence[Block]', blocks)
    norms = [*(block.norm1 for block in stack), next_norm]
    normed: torch.Tensor = norms[0](x)
    for number, block in enumerate(stack):
        how = kernels.self_attention if attend is None else attend[number]
        x, normed = block(x, how, normed=normed, next_norm=norms[number + 1])
    return normed
