# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frame-causal attention fast enough to train with: a block-sparse kernel that skips what the mask hides."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from evict3r_ros.network.memory import CausalMemory
from evict3r_ros.training.compiled import compiled


@cache
def _compiled_flex() -> Callable[..., torch.Tensor]:
    # A tensor alone, since nothing else is asked of it.
    return cast(Callable[..., torch.Tensor], compiled('attention', flex_attention))


class FlexMemory(CausalMemory):
    """``network.CausalMemory`` for CUDA. Tokens of the camera trunk, one a frame, are causal as they are."""

    def __init__(self, frames: int):
        super().__init__(frames)
        self._blocks: dict[int, BlockMask] = {}

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See network.Memory.attend."""
        tokens = query.shape[2]
        if tokens == self.frames:
            return F.scaled_dot_product_attention(query, key, value, is_causal=True)
        if tokens not in self._blocks:
            a_frame = tokens // self.frames

            def earlier(
                batch: torch.Tensor, head: torch.Tensor, asking: torch.Tensor, asked: torch.Tensor
            ) -> torch.Tensor:
                return asking // a_frame >= asked // a_frame

            self._blocks[tokens] = create_block_mask(earlier, None, None, tokens, tokens, device=query.device)
        return _compiled_flex()(query, key, value, block_mask=self._blocks[tokens])
