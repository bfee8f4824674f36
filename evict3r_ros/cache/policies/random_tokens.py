# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Random tokens: the default, since no score was found that chooses better (``docs/accuracy.md``)."""

from __future__ import annotations

import torch

from evict3r_ros.cache.ledger import Ledger
from evict3r_ros.cache.policies.policy import Policy

MIXING = ((0x9E3779B97F4A7C15, 30), (0xBF58476D1CE4E5B9, 27), (0x94D049BB133111EB, 31))
"""Multipliers and shifts of the splitmix64 generator."""


class RandomTokens(Policy):
    """Keep random tokens: each gets a random number once, by seed, layer, frame and place, and the highest stay.

    So each token of the stream so far is kept with the same probability, as by reservoir sampling (Vitter 1985), but
    for the first frame, which is pinned. No attention mass is needed.
    """

    def priorities(self, ledger: Ledger) -> torch.Tensor:
        """See Policy.priorities."""
        slots = ledger.slots
        layer = torch.arange(ledger.layers, device=slots.device)[:, None]
        token = (ledger.frame_of[slots].long() * ledger.frame_tokens + ledger.token_of[slots]) * ledger.layers + layer
        state = token + self.config.seed * 0x5851F42D
        for multiplier, shift in MIXING:
            state = (state ^ (state >> shift)) * (multiplier - 2**64 if multiplier >= 2**63 else multiplier)
        return (state >> 40 & 0xFFFFFF).float()
