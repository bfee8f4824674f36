# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""OVGGT (arXiv 2603.05959): new tokens compete by their MLP residual, old ones by how different they are."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from evict3r_ros.cache.config import Budget, CacheShape
from evict3r_ros.cache.ledger import Ledger
from evict3r_ros.cache.policies.infinitevggt import InfiniteVGGT

SMOOTHING = ((1.0, 2.0, 1.0), (2.0, 4.0, 2.0), (1.0, 2.0, 1.0))
"""Divided by their sum, 16."""


class OVGGT(InfiniteVGGT):
    """Keep new tokens by their MLP residual, and old ones by their unlikeness to the others.

    Priority of a new token: the L2 norm of its scaled MLP residual, patches half smoothed on their grid. Of an old one:
    1 - InfiniteVGGT's similarity. Each group is scaled to [0, 1] by its own minimum and maximum, and they compete on
    equal terms (the published weights are one half each).

    Pinned: the first frame and part of up to 3 anchors, ``CacheConfig.anchors`` and ``anchor_share`` (published: 3 and
    0.05), which the stream chooses by overlap. Layer budgets as InfiniteVGGT's.
    """

    needs_residual = True

    def __init__(self, budget: Budget, shape: CacheShape, slots: int):
        super().__init__(budget, shape, slots)
        self.importance = self.by_slot()
        self._kernel = torch.tensor(SMOOTHING, device=shape.device)[None, None] / 16.0

    def observe_residual(self, layer: int, ledger: Ledger, residual: torch.Tensor) -> None:
        """See Policy.observe_residual."""
        norm = residual.float().norm(dim=-1)
        special, patches = norm[: ledger.special_tokens], norm[ledger.special_tokens :]
        grid = patches.view(1, 1, *ledger.patches)
        smooth = F.conv2d(F.pad(grid, (1, 1, 1, 1), mode='replicate'), self._kernel).flatten()
        self.importance[ledger.fresh[layer]] = torch.cat((special, 0.5 * patches + 0.5 * smooth))

    def priorities(self, ledger: Ledger) -> torch.Tensor:
        """See Policy.priorities."""
        new = ledger.frame_of[ledger.slots] == ledger.frame
        importance = _to_unit_range(self.importance[ledger.slots], ledger.valid & new)
        difference = _to_unit_range(1.0 - self.similarity[ledger.slots], ledger.valid & ~new)
        return torch.where(new, importance, difference)


def _to_unit_range(values: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    """Scale values (L, M) so that those ``of`` (L, M) span [0, 1] in each row."""
    low = values.masked_fill(~of, torch.inf).amin(1, keepdim=True)
    high = values.masked_fill(~of, -torch.inf).amax(1, keepdim=True)
    return (values - low) / (high - low).clamp(min=1e-12)
