# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Evict3R (arXiv 2509.17650): the tokens that little attention was paid to go.

Under a share P of a sequence of known length, as published: the special tokens of every frame are pinned. With an
absolute budget, for robots, whose streams have no known end, special tokens stay pinned with pinned frames only: those
of every frame would grow for ever. Totals are kept in float32 (the published float16 overflows after about 60 frames).
"""

from __future__ import annotations

import torch

from evict3r_ros.cache.config import Budget, CacheShape
from evict3r_ros.cache.ledger import Ledger
from evict3r_ros.cache.policies.policy import Policy


class Evict3R(Policy):
    """Score of a token: its attention mass times the number of keys, averaged over the frames that have seen it.

    Layer budgets: alpha = softmax(-variance / temperature) over layers, the variance that of this frame's mass over all
    keys. With ``scores: pooled`` the mass is that of pooled queries, each counted for all it stands for.
    """

    moves_budgets = True

    def __init__(self, budget: Budget, shape: CacheShape, slots: int):
        super().__init__(budget, shape, slots)
        self.needs_mass = self.config.scores
        self.total = self.by_slot()
        """(S + 1,): sum over frames of mass times number of keys."""
        self.frames_seen = self.by_slot()
        """(S + 1,): frames that have seen the token, its own included."""
        self.variance = torch.zeros(shape.layers, device=shape.device)
        """(L,): of the current frame's mass over the keys."""

    def frame_done(self, ledger: Ledger, mass: torch.Tensor | None) -> None:
        """See Policy.frame_done."""
        assert mass is not None, 'the policy asked for it by needs_mass'
        slots, valid, fresh = ledger.attended, ledger.attended_valid, ledger.fresh.flatten()
        keys = valid.sum(1, keepdim=True)
        # A slot's last owner has left its numbers behind.
        self.total.index_fill_(0, fresh, 0.0)
        self.frames_seen.index_fill_(0, fresh, 0.0)
        self.total[slots] += mass * keys
        self.frames_seen[slots] += 1.0
        mean = mass.sum(1, keepdim=True) / keys
        self.variance.copy_(((mass - mean).square() * valid).sum(1) / keys[:, 0])

    def priorities(self, ledger: Ledger) -> torch.Tensor:
        """See Policy.priorities."""
        return self.total[ledger.slots] / self.frames_seen[ledger.slots]

    def pinned(self, ledger: Ledger) -> torch.Tensor:
        """See Policy.pinned."""
        pinned = ledger.pinned(ledger.slots)
        if self.config.share is None:
            return pinned
        return pinned | (ledger.token_of[ledger.slots] < ledger.special_tokens)

    def alpha(self) -> torch.Tensor:
        """Return each layer's share of the budget, (L,)."""
        return torch.softmax(-self.variance / self.config.temperature, dim=0)

    def budgets(self, ledger: Ledger) -> torch.Tensor:
        """See Policy.budgets: ceil(alpha * total), as far as the pool goes."""
        return self.budgets_from_shares(self.alpha(), ledger)
