# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Baseline: the first frame and the most recent ones."""

from __future__ import annotations

import torch

from evict3r_ros.cache.ledger import Ledger
from evict3r_ros.cache.policies.policy import Policy


class FirstLast(Policy):
    """The first frame, which carries the scale, stays pinned; the rest of the budget is a sliding window."""

    pins_frames = False

    def priorities(self, ledger: Ledger) -> torch.Tensor:
        """See Policy.priorities: the age."""
        return ledger.frame_of[ledger.slots].float()
