# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where attention over time meets the past: the network asks, a memory answers."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F


class Memory(Protocol):
    """What global blocks and the camera trunk attend to.

    One object serves all layers of a stack. While streaming it is a cache; in a pass over many frames at once it is a
    frame-causal mask.
    """

    wants_residual: bool
    """Whether ``observe_residual`` is to be called."""

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Return the attention of the frames' own queries to the past and to themselves.

        query, key, value: (batch, heads, tokens, head_dim), after norm and RoPE. Returns (batch, heads, tokens,
        head_dim).
        """
        ...

    def observe_residual(self, layer: int, residual: torch.Tensor) -> None:
        """Take in what a block's MLP added to the tokens, (batch, tokens, C), after LayerScale."""
        ...


class CausalMemory:
    """Frame-causal attention inside one pass over ``frames`` frames: a token sees its own frame and those before."""

    wants_residual = False

    def __init__(self, frames: int):
        self.frames = frames
        self._masks: dict[tuple[int, torch.device], torch.Tensor] = {}

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See Memory.attend; the tokens are those of all frames, in order of time."""
        tokens = query.shape[2]
        mask = self._masks.get((tokens, query.device))
        if mask is None:
            frame = torch.arange(self.frames, device=query.device).repeat_interleave(tokens // self.frames)
            mask = frame[:, None] >= frame[None, :]
            self._masks[tokens, query.device] = mask
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    def observe_residual(self, layer: int, residual: torch.Tensor) -> None:
        """See Memory.observe_residual: a mask has nothing to choose."""
