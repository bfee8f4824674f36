# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Comparison: nothing is ever evicted, as StreamVGGT was published. Memory and time grow with every frame."""

from __future__ import annotations

import torch

from evict3r_ros.cache.config import CacheConfig
from evict3r_ros.cache.ledger import Ledger
from evict3r_ros.cache.policies.policy import Policy


class Unbounded(Policy):
    """Keeps everything; the cache asks for more room as it fills, so this one is not for robots."""

    pins_frames = False
    grows = True

    @classmethod
    def check(cls, config: CacheConfig, frame_tokens: int) -> None:
        """See Policy.check: any setting works, since no budget is kept."""

    def priorities(self, ledger: Ledger) -> torch.Tensor:
        """See Policy.priorities: all alike."""
        return torch.zeros(ledger.slots.shape, device=ledger.slots.device)

    def budgets(self, ledger: Ledger) -> torch.Tensor:
        """See Policy.budgets: all that there are."""
        return ledger.valid.sum(1)
