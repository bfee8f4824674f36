# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A budget that follows the scene: while nothing new is seen, less is attended to and nothing is evicted."""

from __future__ import annotations

import torch

from evict3r_ros.cache.config import CacheConfig, CacheShape
from evict3r_ros.errors import UserError

DECAY = 0.9
"""How much of the distance to the least budget is left after each still frame; a new sight restores it at once."""


class AdaptiveBudget:
    """Decides after each frame whether its tokens are admitted, and how many tokens the next frame attends to.

    A frame whose attention finds what it looks for in the past, and whose camera has hardly moved, adds nothing: it is
    not admitted, so it evicts nobody, and a robot that stands still keeps the room that it saw before. Meanwhile the
    number of tokens attended falls from the budget to ``least_tokens``, best first; the rest stays stored. Bytes never
    change. All decisions are tensors on the device.
    """

    def __init__(self, config: CacheConfig, shape: CacheShape):
        self.config = config
        self.least = config.least_tokens if config.least_tokens is not None else config.tokens // 2
        if not 1 <= self.least <= config.tokens:
            raise UserError(
                f'least_tokens {self.least} must be between 1 and the budget of {config.tokens} tokens a layer'
            )
        self._own_share = torch.zeros(shape.layers, device=shape.device)
        self._motion = torch.zeros((), device=shape.device)
        self._level = torch.ones((), device=shape.device)
        self.admitted = torch.ones((), dtype=torch.bool, device=shape.device)
        """(,) bool: whether the last frame was admitted."""

    def reset(self) -> None:
        """Forget the stream."""
        self._own_share.zero_()
        self._motion.zero_()
        self._level.fill_(1.0)

    def observe(self, mass: torch.Tensor, frame_tokens: int) -> None:
        """Take in the attention mass (L, M) of all layers' keys, the frame's own last."""
        self._own_share.copy_(mass[:, -frame_tokens:].sum(1) / frame_tokens)

    def observe_motion(self, motion: torch.Tensor) -> None:
        """Take in how far the camera moved since the last admitted frame: radians plus shares of depth, (,)."""
        self._motion.copy_(motion)

    def decide(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return whether the frame is admitted, (,) bool, and what share of its budget a layer attends to, (,)."""
        self.admitted.copy_((self._own_share.mean() > self.config.novelty) | (self._motion > self.config.motion))
        self._level.copy_(torch.where(self.admitted, 1.0, self._level * DECAY))
        least = self.least / self.config.tokens
        return self.admitted, least + (1.0 - least) * self._level
