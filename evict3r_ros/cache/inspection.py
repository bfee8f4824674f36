# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a cache shows of itself to status lines, pictures and studies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class CacheUsage:
    """How full a cache is, layer by layer."""

    tokens: list[int]
    """Tokens that each layer keeps."""
    budget: list[int]
    """Tokens that each layer may keep."""


@dataclass(frozen=True)
class AttendedTokens:
    """The M tokens that a layer has just attended to, the current frame's last. Valid until the next layer attends."""

    keys: torch.Tensor
    """(M, heads, head_dim), after norm and RoPE, as stored but for the frame's own."""
    frame: torch.Tensor
    """(M,) int32: the frame that a token came with, counted from the stream's first."""
    token: torch.Tensor
    """(M,) int32: the token's number in its frame."""
    valid: torch.Tensor
    """(M,) bool: False where there is no token; the rest of that row means nothing."""


class CacheObserver(Protocol):
    """Follows a cache from frame to frame, for studies; a frame that is replayed as a CUDA graph does not call it."""

    def attended(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Take in what a layer asked with, (1, heads, N, head_dim) each, once it has its answer."""

    def frame_ended(self) -> None:
        """Take note that a frame's evictions are done."""
