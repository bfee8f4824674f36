# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""XStreamVGGT's pruning (arXiv 2601.01204): keys that the current frame's mean query does not like go."""

from __future__ import annotations

import torch

from evict3r_ros.cache.config import Budget, CacheShape
from evict3r_ros.cache.ledger import Ledger
from evict3r_ros.cache.policies.policy import Observation, Policy
from evict3r_ros.cache.policies.pooled_queries import pool_queries


class XStreamVGGT(Policy):
    """Score: mean over pooled queries of q . k, queries and keys averaged over heads; no history, no softmax.

    Pinned: the first frame and the current one. Every layer has the same budget.
    """

    def __init__(self, budget: Budget, shape: CacheShape, slots: int):
        super().__init__(budget, shape, slots)
        self.score = self.by_slot()

    def observe(self, layer: int, ledger: Ledger, seen: Observation) -> None:
        """See Policy.observe. The mean over queries goes inside the product: one query of means."""
        query, _ = pool_queries(seen.query.float().mean(0, keepdim=True), ledger.special_tokens)
        self.score[ledger.attended[layer]] = seen.keys.float().mean(1) @ query[0].mean(0)

    def priorities(self, ledger: Ledger) -> torch.Tensor:
        """See Policy.priorities."""
        return self.score[ledger.slots]

    def pinned(self, ledger: Ledger) -> torch.Tensor:
        """See Policy.pinned."""
        return ledger.pinned(ledger.slots) | (ledger.frame_of[ledger.slots] == ledger.frame)
