# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""InfiniteVGGT (arXiv 2601.02281): keys that are like most others go."""

from __future__ import annotations

import torch

from evict3r_ros.cache.config import Budget, CacheShape
from evict3r_ros.cache.ledger import Ledger
from evict3r_ros.cache.policies.key_similarity import similarity_to_mean
from evict3r_ros.cache.policies.policy import Observation, Policy


class InfiniteVGGT(Policy):
    """Priority: unlikeness to the mean key of the layer. Layer budgets: softmax((1 - mean similarity) / temperature).

    Published, eviction comes before the frame's attention and heads keep sets of their own; here it comes at the
    frame's end, as with every policy, and a layer keeps one set, by the mean over heads. Pinned: the first frame.
    """

    moves_budgets = True

    def __init__(self, budget: Budget, shape: CacheShape, slots: int):
        super().__init__(budget, shape, slots)
        self.similarity = self.by_slot()
        self.mean_similarity = torch.zeros(shape.layers, device=shape.device)
        """(L,): over the current candidates."""

    def reset(self) -> None:
        """See Policy.reset."""
        super().reset()
        self.mean_similarity.zero_()

    def observe(self, layer: int, ledger: Ledger, seen: Observation) -> None:
        """See Policy.observe."""
        slots = ledger.attended[layer]
        candidates = ledger.attended_valid[layer] & ~ledger.pinned(slots)
        similarity = similarity_to_mean(seen.keys.transpose(0, 1), candidates)
        self.similarity[slots] = similarity
        self.mean_similarity[layer] = (similarity * candidates).sum() / candidates.sum().clamp(min=1)

    def priorities(self, ledger: Ledger) -> torch.Tensor:
        """See Policy.priorities."""
        return -self.similarity[ledger.slots]

    def budgets(self, ledger: Ledger) -> torch.Tensor:
        """See Policy.budgets."""
        return self.budgets_from_shares(
            torch.softmax((1.0 - self.mean_similarity) / self.config.temperature, dim=0), ledger
        )
