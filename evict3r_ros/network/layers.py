# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The pieces that all stacks of the network share: attention, MLP, LayerScale, the block, and 2-D RoPE."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

ROPE_BASE = 100.0

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(query, key, value), each (batch, heads, tokens, head_dim) -> (batch, heads, tokens, head_dim)."""


class RotaryTable:
    """
    Cosines and sines that turn queries and keys by a patch's row and column.

    The first half of a head's channels turns with the row, the second with the column; inside a half, channel i pairs
    with i + quarter and turns by position * 100^(-i / quarter). Special tokens sit at (0, 0), patch (r, c) at
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

    def turn(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., tokens, head_dim) turned; the tokens may be those of several frames in a row."""
        tokens = self.cos.shape[0]
        a, b, c, d = x.unflatten(-2, (-1, tokens)).chunk(4, dim=-1)
        swapped = torch.cat((-b, a, -d, c), dim=-1)
        turned = x.unflatten(-2, (-1, tokens)) * self.cos + swapped * self.sin
        return turned.flatten(-3, -2).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention; whom the queries attend to is the caller's ``attend``."""

    def __init__(self, width: int, heads: int, norm_eps: float | None = None):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        if norm_eps is not None:
            self.q_norm = nn.LayerNorm(width // heads, eps=norm_eps)
            self.k_norm = nn.LayerNorm(width // heads, eps=norm_eps)
        self.normed = norm_eps is not None
        self.proj = nn.Linear(width, width)

    def split(self, x: torch.Tensor, rotary: RotaryTable | None = None) -> tuple[torch.Tensor, ...]:
        """x: (batch, tokens, width) -> query, key and value, normed and turned: (batch, heads, tokens, head_dim) each."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.normed:
            query, key = self.q_norm(query), self.k_norm(key)
        if rotary is not None:
            query, key = rotary.turn(query), rotary.turn(key)
        # Under autocast norms answer in float32, and attention is to run in half precision.
        return query.to(value.dtype), key.to(value.dtype), value

    def join(self, answers: torch.Tensor) -> torch.Tensor:
        """What attention answered, (batch, heads, tokens, head_dim) -> (batch, tokens, width)."""
        return self.proj(answers.transpose(1, 2).flatten(-2))


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, width: int, hidden: int, out: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., width) -> (..., out)."""
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned factor a channel."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., width), scaled."""
        return x * self.gamma


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

    def forward(self, x: torch.Tensor, attend: Attend = F.scaled_dot_product_attention,
                rotary: RotaryTable | None = None,
                observe_residual: Callable[[torch.Tensor], None] | None = None) -> torch.Tensor:
        """
        x: (batch, tokens, width) -> the same shape; without ``attend`` the tokens attend to each other.

        observe_residual: told what the MLP adds, (batch, tokens, width).
        """
        x, residual = self.after(x, attend(*self.before(x, rotary)))
        if observe_residual is not None:
            observe_residual(residual)
        return x + residual

    def before(self, x: torch.Tensor, rotary: RotaryTable | None = None) -> tuple[torch.Tensor, ...]:
        """Query, key and value that the block asks with."""
        return self.attn.split(self.norm1(x), rotary)

    def after(self, x: torch.Tensor, answers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens after attention, and what the MLP adds to them."""
        x = x + self.ls1(self.attn.join(answers))
        return x, self.ls2(self.mlp(self.norm2(x)))
