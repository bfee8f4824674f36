# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A frame's queries, fewer: XStreamVGGT's pooling (arXiv 2601.01204)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

RUN = 16
"""Patch queries that become one."""


def pool_queries(query: torch.Tensor, special_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Average patch queries in raster runs of 16, the last run over its own length; special queries stay as they are.

    query: (heads, N, head_dim) -> (heads, n, head_dim) float32, and how many queries each stands for, (n,) float32.
    """
    special, patches = query[:, :special_tokens].float(), query[:, special_tokens:].float()
    runs = -(-patches.shape[1] // RUN)
    counts = (patches.shape[1] - RUN * torch.arange(runs, device=query.device)).clamp(max=RUN).float()
    padded = F.pad(patches, (0, 0, 0, runs * RUN - patches.shape[1])).unflatten(1, (runs, RUN))
    pooled = torch.cat((special, padded.sum(2) / counts[:, None]), dim=1)
    return pooled, torch.cat((counts.new_ones(special_tokens), counts))
