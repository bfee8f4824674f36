# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Baselines by age alone."""

from __future__ import annotations

import torch

from evict3r_ros.cache.ledger import Ledger
from evict3r_ros.cache.policies.policy import Policy


class SlidingWindow(Policy):
    """Keep the last tokens; the first frame, which carries the scale, is evicted like any other."""

    pins_frames = False

    def priorities(self, ledger: Ledger) -> torch.Tensor:
        """See Policy.priorities: the age."""
        return ledger.frame_of[ledger.slots].float()

    def pinned(self, ledger: Ledger) -> torch.Tensor:
        """See Policy.pinned: nobody."""
        return torch.zeros_like(ledger.valid)
