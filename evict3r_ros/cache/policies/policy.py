# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a policy may see and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch

from evict3r_ros.cache.config import Budget, CacheConfig, CacheShape
from evict3r_ros.cache.ledger import Ledger
from evict3r_ros.errors import UserError

SMALLEST_BUDGET = Fraction(9, 4)
"""Of a frame's tokens: the first frame, the current one, and a quarter of one to have anything to decide about."""


@dataclass(frozen=True)
class Observation:
    """What one layer attended with, and the M keys it attended to: those of ``ledger.attended[layer]``."""

    query: torch.Tensor
    """(heads, N, head_dim), after norm and RoPE."""
    keys: torch.Tensor
    """(M, heads, head_dim), after norm and RoPE, as stored but for the frame's own."""


class Policy:
    """Decides after each frame which candidates stay: the highest priorities, layer by layer, up to the layer's budget.

    A policy keeps its own numbers by slot, in tensors of S + 1 entries registered with ``by_slot``; the last one
    stands for tokens that are not there. It never sees a camera, an image or the network.
    """

    needs_mass = ''
    """Which attention mass ``frame_done`` wants: ``exact``, ``pooled`` or none; only that is computed."""
    needs_residual = False
    """Whether ``observe_residual`` wants the block's MLP residual."""
    pins_frames = True
    """Whether the budget must hold the first frame, the current one and a choice besides: see ``check``."""
    moves_budgets = False
    """Whether layers lend each other budget."""
    grows = False
    """Whether memory grows with time: for comparison only."""

    def __init__(self, budget: Budget, shape: CacheShape, slots: int):
        self.budget, self.config, self.shape = budget, budget.config, shape
        self._slots = slots
        self._equal = torch.full((shape.layers,), self.config.tokens, device=shape.device)
        self.slot_values: list[torch.Tensor] = []
        """What moves along when a token changes its slot."""

    def by_slot(self) -> torch.Tensor:
        """Return a new (S + 1,) float32 tensor of zeros that follows its tokens."""
        self.slot_values.append(torch.zeros(self._slots + 1, device=self.shape.device))
        return self.slot_values[-1]

    @staticmethod
    def smallest_budget(frame_tokens: int, anchors: int = 0, anchor_share: float = 1.0) -> int:
        """Return the fewest tokens a layer that leave a policy with pinned frames anything to decide."""
        return math.ceil(SMALLEST_BUDGET * frame_tokens) + anchors * math.ceil(anchor_share * frame_tokens)

    @classmethod
    def check(cls, config: CacheConfig, frame_tokens: int) -> None:
        """Raise UserError, with the arithmetic, for settings under which this policy could decide nothing."""
        smallest = cls.smallest_budget(frame_tokens, config.anchors, config.anchor_share)
        if cls.pins_frames and config.tokens < smallest:
            pinned = f', {config.anchors} anchors keep {config.anchor_share:.0%} of theirs' if config.anchors else ''
            raise UserError(
                f'a budget of {config.tokens} tokens a layer is too small for policy {config.policy!r}: a frame has '
                f'{frame_tokens} tokens, the first and the current one take {2 * frame_tokens}{pinned}, and a quarter '
                f'of a frame must be left to choose from; give at least {smallest}'
            )
        if config.anchors and not cls.pins_frames:
            raise UserError(f'policy {config.policy!r} keeps no anchors: their pins could overflow its budget')
        if config.tokens < 1:
            raise UserError(f'a budget of {config.tokens} tokens a layer keeps nothing; give at least 1')

    def reset(self) -> None:
        """Forget the stream."""
        for values in self.slot_values:
            values.zero_()

    def observe(self, layer: int, ledger: Ledger, seen: Observation) -> None:
        """Take in what a layer has just attended with."""

    def frame_done(self, ledger: Ledger, mass: torch.Tensor | None) -> None:
        """Take in, with ``needs_mass``, the attention mass (L, M) float32 that each of ``ledger.attended`` received.

        See kernels.cache_attention for exact masses; pooled ones are those of pooled queries, each counted for all that
        it stands for.
        """

    def observe_residual(self, layer: int, ledger: Ledger, residual: torch.Tensor) -> None:
        """Take in what a layer's MLP added to the frame's tokens, (N, C), after LayerScale."""

    def priorities(self, ledger: Ledger) -> torch.Tensor:
        """Return the priority of each candidate, (L, width + N) float32; of equal ones the older stays."""
        raise NotImplementedError

    def pinned(self, ledger: Ledger) -> torch.Tensor:
        """Return which candidates stay in any case, (L, width + N) bool."""
        return ledger.pinned(ledger.slots)

    def budgets(self, ledger: Ledger) -> torch.Tensor:
        """Return how many tokens each layer may keep, (L,) int64; at most the budget's total in all."""
        return self._equal

    def budgets_from_shares(self, alpha: torch.Tensor, ledger: Ledger) -> torch.Tensor:
        """Return budgets (L,) int64, ceil(alpha * total) for shares alpha (L,), none over the ledger's capacity.

        Every layer keeps the smallest budget with which a policy can decide. What rounding up and that floor add beyond
        the pool is taken back, in proportion to what each layer has above the floor.
        """
        floor = min(
            self.smallest_budget(ledger.frame_tokens, self.config.anchors, self.config.anchor_share), self.config.tokens
        )
        wanted = (alpha.double() * self.budget.total).ceil().long().clamp(floor, ledger.capacity)
        above = wanted - floor
        excess = (wanted.sum() - self.budget.total - self.budget.rounding).clamp(min=0)
        return wanted - (excess * above / above.sum().clamp(min=1)).ceil().long()


def select_tokens(priorities: torch.Tensor, valid: torch.Tensor, budgets: torch.Tensor) -> torch.Tensor:
    """Return a mask (L, M) of the ``budgets`` (L,) valid candidates of highest priority; ties go to the first."""
    order = priorities.masked_fill(~valid, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    return valid & (rank < budgets[:, None])
