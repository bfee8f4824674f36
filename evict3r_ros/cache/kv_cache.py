# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The cache that the global blocks attend to: pool, ledger and policy, frame by frame."""

from __future__ import annotations

import math

import torch

from evict3r_ros import kernels
from evict3r_ros.cache.adaptive import AdaptiveBudget
from evict3r_ros.cache.codec import centre_of, make_codec
from evict3r_ros.cache.config import Budget, CacheConfig, CacheShape, TierBits
from evict3r_ros.cache.ledger import Ledger
from evict3r_ros.cache.policies import POLICIES, Policy
from evict3r_ros.cache.policies.policy import Observation, choose
from evict3r_ros.cache.policies.pooled_queries import pool_queries
from evict3r_ros.cache.pool import ALIGNMENT, Pool
from evict3r_ros.errors import UserError

LARGEST_SHARE = 2
"""Where layers lend each other budget, none gets more than this many times the mean."""
PINNED, RECENT, REST = 0, 1, 2
"""Tiers of a pool of mixed precision."""


def _tiers(config: CacheConfig, shape: CacheShape, policy: type[Policy], total: int) -> list[tuple[int, int]]:
    """(slots, bits) of each tier, for ``total`` tokens that survive a frame and a frame that enters."""
    frame = shape.layers * shape.frame_tokens
    if not isinstance(config.bits, TierBits):
        return [(total + frame, config.bits)]
    if policy.grows:
        raise UserError(f'policy {config.policy!r} has no bound, and mixed precision needs one')
    bits = config.bits
    # The first frame may be smaller than the largest, and then the rest needs the whole budget's slots.
    return [(frame, bits.pinned), (frame * (bits.recent_frames + 1), bits.recent), (total, bits.rest)]


def resolve_budget(config: CacheConfig, shape: CacheShape) -> Budget:
    """The tokens that a config gives a shape; UserError for a policy, or a budget, that cannot work."""
    if config.policy not in POLICIES:
        raise UserError(f'policy {config.policy!r} is not one of {", ".join(POLICIES)}')
    policy = POLICIES[config.policy]
    if policy.grows and config.budget == 'adaptive':
        raise UserError(f'policy {config.policy!r} keeps everything, and an adaptive budget admits only what is new')
    sizes = [(slots, make_codec(shape, bits).row_bytes) for slots, bits in _tiers(config, shape, policy, 0)]
    fixed = sum((slots + 1) * row + ALIGNMENT for slots, row in sizes)
    budget = Budget.of(config, shape, fixed, sizes[-1][1])
    policy.check(budget.config, shape.frame_tokens)
    return budget


class KeyValueCache:
    """A ``network.Memory`` of fixed size. For each frame: ``begin_frame``, ``attend`` once a layer, ``end_frame``.

    A frame's tokens enter the pool as their layer attends, each into a slot where it stays until it is evicted; at the
    frame's end the policy says which candidates stay. Nothing is allocated for good after construction, unless the
    policy is ``unbounded``.
    """

    def __init__(self, config: CacheConfig, shape: CacheShape):
        self.budget = resolve_budget(config, shape)
        self.config, self.shape = self.budget.config, shape
        policy = POLICIES[config.policy]
        tokens = self.config.tokens + (1 if self.budget.rounding else 0)
        capacity = tokens * (min(LARGEST_SHARE, shape.layers) if policy.moves_budgets else 1)
        tiers = _tiers(config, shape, policy, self.budget.total + self.budget.rounding)
        self.pool = Pool(shape, tiers)
        self.ledger = Ledger(shape, capacity, [slots for slots, _ in tiers], config.anchors)
        self.policy = policy(self.budget, shape, self.pool.nowhere)
        self.adaptive = AdaptiveBudget(self.config, shape) if config.budget == 'adaptive' else None
        self.wants_residual = self.policy.needs_residual
        self._mass_of_all = self.policy.needs_mass == 'exact' or self.adaptive is not None
        self.aside = kernels.Aside(shape.device)
        """What a frame leaves to do beside its main line; whoever ends a frame aside joins it."""
        self._all = torch.full((), shape.frame_tokens, device=shape.device)
        self._make_scratch()

    def _make_scratch(self) -> None:
        shape = self.shape
        columns = self.ledger.capacity + shape.frame_tokens
        # Zeros: what lies beyond the tokens that are there must be finite.
        self._keys = torch.zeros(columns, shape.heads, shape.head_dim, dtype=shape.dtype, device=shape.device)
        self._values = torch.zeros_like(self._keys)
        self._centres = torch.zeros(shape.layers, columns, dtype=torch.int64, device=shape.device)
        needed = self.policy.needs_mass or self.adaptive is not None
        self._mass = torch.zeros(shape.layers, columns, device=shape.device) if needed else None

    @property
    def scratch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """One layer's unpacked keys and values, (capacity + N, heads, head_dim) each; every layer's in turn."""
        return self._keys, self._values

    @property
    def bytes(self) -> int:
        """Bytes of the stored keys and values."""
        return self.pool.bytes

    def reset(self, patches: tuple[int, int]) -> None:
        """Forget the stream; coming frames have that many rows and columns of patches, at most the shape's tokens."""
        self.ledger.reset(patches)
        if self.ledger.frame_tokens > self.shape.frame_tokens:
            raise ValueError(
                f'frames of {self.ledger.frame_tokens} tokens do not fit a cache made for {self.shape.frame_tokens}'
            )
        self.policy.reset()
        if self.adaptive is not None:
            self.adaptive.reset()

    def begin_frame(self) -> None:
        """Make room for a frame's tokens."""
        ledger = self.ledger
        if self.policy.grows and (ledger.frames + 1) * ledger.frame_tokens > ledger.capacity:
            capacity = 2 * ledger.capacity + ledger.frame_tokens
            slots = self.shape.layers * (capacity + self.shape.frame_tokens)
            ledger.grow(capacity, slots)
            self.pool.grow(slots)
            self._make_scratch()
        ledger.begin_frame(self._entry_tier())
        self._centres[:, : ledger.seen.shape[1]] = self._centres_of(ledger.seen)

    def _entry_tier(self) -> int:
        return RECENT if len(self.pool.tiers) > 1 and self.ledger.frames > 0 else PINNED

    @property
    def is_steady(self) -> bool:
        """Whether every coming frame does what this one did, so that one CUDA graph can serve them all."""
        if self.policy.grows:
            return False
        # Codecs learn from the first two frames; in a pool of tiers, frames must have begun to age.
        first = 2 if isinstance(self.config.bits, int) else 2 + self.config.bits.recent_frames
        return self.ledger.frames >= first

    def count_frame(self) -> None:
        """A CUDA graph has done a frame's work, which the host did not see."""
        self.ledger.frames += 1

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See network.Memory.attend; one frame of one stream at a time: (1, heads, N, head_dim)."""
        query, key, value = query[0], key[0].transpose(0, 1), value[0].transpose(0, 1)
        # The layer before may still be scoring in the scratch.
        self.aside.join()
        keys, values = self._store_and_load(layer, key, value)
        mass = None if self._mass is None else self._mass[layer, : len(keys)]
        kept, fresh = self.ledger.seen_lengths[layer], self.ledger.frame_tokens
        answer = kernels.cache_attention(
            query, keys, values, kept, fresh, mass if self._mass_of_all else None, self.aside
        )
        if mass is not None and not self._mass_of_all:
            with self.aside.beside(query):
                pooled, counts = pool_queries(query, self.shape.special_tokens)
                kernels.cache_mass(pooled, counts, keys, kept, fresh, mass)
        self.policy.observe(layer, self.ledger, Observation(query, keys))
        return answer[None]

    def _store_and_load(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pack the frame's key and value (N, heads, head_dim); all that it attends to, (M, heads, head_dim) each."""
        ledger = self.ledger
        self.pool.calibrate(layer, ledger.frames, key, value)
        slots = ledger.seen[layer]
        centres = self._centres[layer, : len(slots)]
        width = len(slots) - ledger.frame_tokens
        with self.aside.beside(key, value):
            self.pool.write(layer, self._entry_tier(), slots[width:], centres[width:], key, value)
        keys, values = self._keys[: len(slots)], self._values[: len(slots)]
        self.pool.read(layer, slots[:width], centres[:width], ledger.seen_lengths[layer], keys[:width], values[:width])
        # A frame sees its own tokens as they are; what is stored of them is for those that come.
        kernels.copy_pair(key, value, keys[width:], values[width:])
        return keys, values

    def _centres_of(self, slots: torch.Tensor) -> torch.Tensor:
        """The centres of the tokens in slots, in their shape."""
        return centre_of(self.ledger.frame_of[slots], self.ledger.token_of[slots], self.shape.special_tokens)

    def observe_residual(self, layer: int, residual: torch.Tensor) -> None:
        """See network.Memory.observe_residual: (1, N, C)."""
        self.policy.observe_residual(layer, self.ledger, residual[0])

    def end_frame(self) -> None:
        """Evict, and let the precision of what has aged fall."""
        ledger, policy = self.ledger, self.policy
        self.aside.join()
        mass = None if self._mass is None else self._mass[:, : ledger.seen.shape[1]]
        policy.frame_done(ledger, mass if policy.needs_mass else None)
        if self.adaptive is not None:
            self.adaptive.observe(mass, ledger.frame_tokens)
        priorities = policy.priorities(ledger).masked_fill(policy.pinned(ledger), torch.inf)
        budgets = policy.budgets(ledger)
        if len(ledger.anchors) and self.config.anchor_share < 1.0:
            fresh = priorities[:, ledger.width :]
            count = math.ceil(self.config.anchor_share * ledger.frame_tokens)
            best = torch.zeros_like(fresh, dtype=torch.bool).scatter_(1, fresh.topk(count, dim=1).indices, True)
            ledger.protected[ledger.fresh] = best
            priorities[:, ledger.width :].masked_fill_(policy.pinned(ledger)[:, ledger.width :], torch.inf)
        if self.adaptive is None:
            ledger.settle(choose(priorities, ledger.valid, budgets))
        else:
            admitted, level = self.adaptive.decide()
            is_first = ledger.frame == 0
            keep = ledger.valid & (admitted | is_first | (ledger.frame_of[ledger.slots] != ledger.frame))
            keep = choose(priorities, keep, budgets)
            ledger.settle(keep, choose(priorities, keep, (budgets * level).long()))
        if isinstance(self.config.bits, TierBits) and ledger.frames - 1 > self.config.bits.recent_frames:
            self._age(ledger.frame - 1 - self.config.bits.recent_frames)

    def _age(self, frame: torch.Tensor) -> None:
        """Requantize the tokens of a frame (,), once, from their stored values."""
        ledger = self.ledger
        old, new = ledger.demote(frame, REST)
        centres = self._centres_of(new)
        for values in self.policy.slot_values:
            ledger.move(values, old, new)
        count = ledger.frame_tokens
        for layer in range(ledger.layers):
            keys, values = self._keys[:count], self._values[:count]
            self.pool.read(layer, old[layer], centres[layer], self._all, keys, values)
            self.pool.write(layer, REST, new[layer], centres[layer], keys, values)
