# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Baseline to beat: whole frames, evenly spaced over the stream, thinned as it grows."""

from __future__ import annotations

import torch

from evict3r_ros.cache.ledger import Ledger
from evict3r_ros.cache.policies.policy import Policy


def evenness(frames: torch.Tensor, current: torch.Tensor | int) -> torch.Tensor:
    """Return priorities under which frames stay evenly spaced however long the stream, in the shape of ``frames``.

    A frame ranks by how many times two divides its number, and then by age, the older lower. So when room is needed,
    every second frame of the finest spacing goes, from the oldest on: at any time frames are s or 2 s apart, s a power
    of two. The current frame has no rank yet and always stays; frame 0 stays for ever.
    """
    frames = frames.long()
    divisor = (frames & -frames).clamp(min=1).float()
    rank = divisor.log2() + frames / (current + 1.0)
    return rank.masked_fill((frames == 0) | (frames == current), torch.inf)


class Uniform(Policy):
    """Keeps as many whole frames as the budget holds, by ``evenness``."""

    pins_frames = False

    def priorities(self, ledger: Ledger) -> torch.Tensor:
        """See Policy.priorities."""
        return evenness(ledger.frame_of[ledger.slots], ledger.frame)

    def budgets(self, ledger: Ledger) -> torch.Tensor:
        """See Policy.budgets: whole frames, and a part of one only where not even one fits."""
        count = ledger.frame_tokens
        return torch.full_like(self._equal, max(self.config.tokens // count * count, min(self.config.tokens, count)))
