# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The cache that the global blocks attend to: pool, ledger and policy, frame by frame."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TypeVar

import torch

from evict3r_ros import kernels
from evict3r_ros.cache.adaptive import AdaptiveBudget
from evict3r_ros.cache.codec import centre_of, make_codec
from evict3r_ros.cache.config import Budget, CacheConfig, CacheShape, TierBits
from evict3r_ros.cache.inspection import AttendedTokens, CacheObserver, CacheUsage
from evict3r_ros.cache.ledger import Ledger
from evict3r_ros.cache.policies import POLICIES, Policy
from evict3r_ros.cache.policies.policy import Observation, select_tokens
from evict3r_ros.cache.policies.pooled_queries import pool_queries
from evict3r_ros.cache.pool import ALIGNMENT, Pool
from evict3r_ros.errors import UserError
from evict3r_ros.stages import stage

LARGEST_SHARE = 2
"""Where layers lend each other budget, none gets more than this many times the mean."""
PINNED, RECENT, REST = 0, 1, 2
"""Tiers of a pool of mixed precision."""

AnyPolicy = TypeVar('AnyPolicy', bound=Policy)


def _tiers(config: CacheConfig, shape: CacheShape, policy: type[Policy], total: int) -> list[tuple[int, int]]:
    """Return (slots, bits) of each tier, for ``total`` tokens that survive a frame and a frame that enters."""
    frame = shape.layers * shape.frame_tokens
    if not isinstance(config.bits, TierBits):
        return [(total + frame, config.bits)]
    if policy.grows:
        raise UserError(f'policy {config.policy!r} has no bound, and mixed precision needs one')
    bits = config.bits
    # The first frame may be smaller than the largest, and then the rest needs the whole budget's slots.
    return [(frame, bits.pinned), (frame * (bits.recent_frames + 1), bits.recent), (total, bits.rest)]


def resolve_budget(config: CacheConfig, shape: CacheShape) -> Budget:
    """Return the tokens that a config gives a shape. Raises UserError for a policy or a budget that cannot work."""
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

    A frame that is not to be remembered attends and has no end.

    A frame's tokens enter the pool as their layer attends, each into a slot where it stays until it is evicted; at the
    frame's end the policy says which candidates stay. Nothing is allocated for good after construction, unless the
    policy is ``unbounded``. ``pool``, ``ledger``, ``policy`` and ``adaptive`` belong to this package and its tests;
    everybody else uses the methods.
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
        self.policy = policy(self.budget, shape, self.pool.null_slot)
        self.adaptive = AdaptiveBudget(self.config, shape) if config.budget == 'adaptive' else None
        self.wants_residual = self.policy.needs_residual
        self.observers: list[CacheObserver] = []
        """Told of every frame that is remembered and not replayed as a CUDA graph."""
        self._remembers = True
        self._mass_of_all = self.policy.needs_mass == 'exact' or self.adaptive is not None
        self._side_stream = kernels.SideStream(shape.device)
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
    def bytes(self) -> int:
        """Bytes of the stored keys and values."""
        return self.pool.bytes

    @property
    def scratch_bytes(self) -> int:
        """Bytes that hold one layer's unpacked keys and values, every layer's in turn."""
        return self._keys.nbytes + self._values.nbytes

    @property
    def frames(self) -> int:
        """Frames that have ended since the stream's first."""
        return self.ledger.frames

    @property
    def patches(self) -> tuple[int, int]:
        """Rows and columns of patches of the stream's frames."""
        return self.ledger.patches

    @property
    def frame_tokens(self) -> int:
        """Tokens N of each of the stream's frames."""
        return self.ledger.frame_tokens

    @property
    def is_first_frame(self) -> torch.Tensor:
        """(1,) bool, on the device: whether the current frame is the stream's first."""
        return (self.ledger.frame == 0).view(1)

    @property
    def can_grow(self) -> bool:
        """Whether the policy may ask for more memory as frames come: for comparisons only."""
        return self.policy.grows

    @property
    def is_steady(self) -> bool:
        """Whether every coming frame does what this one did, so that one CUDA graph can serve them all."""
        if self.policy.grows:
            return False
        # Codecs learn from the first two frames; in a pool of tiers, frames must have begun to age.
        first = 2 if isinstance(self.config.bits, int) else 2 + self.config.bits.recent_frames
        return self.ledger.frames >= first

    @property
    def wants_motion(self) -> bool:
        """Whether ``observe_motion`` must be called in each frame before it ends."""
        return self.adaptive is not None

    @property
    def admitted(self) -> bool:
        """Whether the tokens of the last frame were admitted; reads from the device if the budget is adaptive."""
        return self.adaptive is None or bool(self.adaptive.admitted)

    @property
    def anchors(self) -> torch.Tensor:
        """(anchors,) int32, on the device: frames pinned besides the first, oldest first; -1 for none."""
        return self.ledger.anchors

    def pin(self, frame: torch.Tensor | int) -> None:
        """Keep what is there of a frame until ``unpin``; the oldest anchor goes when all places are taken."""
        self.ledger.pin(frame)

    def unpin(self, frame: int) -> None:
        """Let a pinned frame compete like any other."""
        self.ledger.unpin(frame)

    def usage(self) -> CacheUsage:
        """Return how full the layers are; reads from the device."""
        return CacheUsage(self.ledger.lengths.tolist(), self.policy.budgets(self.ledger).tolist())

    def kept(self, layer: int) -> torch.Tensor:
        """Return (tokens, 2) int32 of (frame, token): what a layer keeps, in order; reads from the device."""
        return self.ledger.kept(layer)

    def attended_tokens(self, layer: int) -> AttendedTokens:
        """Return what a layer attended to; call it before the next layer attends."""
        slots = self.ledger.attended[layer]
        return AttendedTokens(
            self._keys[: len(slots)],
            self.ledger.frame_of[slots],
            self.ledger.token_of[slots],
            self.ledger.attended_valid[layer],
        )

    def specialise_policy(self, policy: type[AnyPolicy]) -> AnyPolicy:
        """Let a subclass of the policy decide from now on, and return it: for studies, before the first frame.

        Raises TypeError for another class.
        """
        if not issubclass(policy, type(self.policy)):
            raise TypeError(f'{policy.__name__} is no {type(self.policy).__name__}')
        special = policy(self.budget, self.shape, self.pool.null_slot)
        self.policy = special
        return special

    def assume_full(self) -> None:
        """Give every frame from now on the shapes of a full cache: for planning and for CUDA graphs."""
        self.ledger.assume_full()

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

    def begin_frame(self, remember: bool = True) -> None:
        """Make room for a frame's tokens; without ``remember`` it attends to what is kept and leaves no trace.

        Raises ValueError for a stream's first frame that is not to be remembered: all others attend to it.
        """
        ledger = self.ledger
        self._remembers = remember
        self.wants_residual = remember and self.policy.needs_residual
        if not remember:
            if not ledger.frames:
                raise ValueError("a stream's first frame has to be remembered")
            ledger.look()
            self._centres[:, : ledger.attended.shape[1]] = self._centres_of(ledger.attended)
            return
        if self.policy.grows and (ledger.frames + 1) * ledger.frame_tokens > ledger.capacity:
            capacity = 2 * ledger.capacity + ledger.frame_tokens
            slots = self.shape.layers * (capacity + self.shape.frame_tokens)
            ledger.grow(capacity, slots)
            self.pool.grow(slots)
            self._make_scratch()
        ledger.begin_frame(self._entry_tier())
        self._centres[:, : ledger.attended.shape[1]] = self._centres_of(ledger.attended)

    def _entry_tier(self) -> int:
        return RECENT if len(self.pool.tiers) > 1 and self.ledger.frames > 0 else PINNED

    def count_frame(self) -> None:
        """Count a frame whose work a CUDA graph does, so that the host does not see it."""
        self.ledger.frames += 1

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See network.Memory.attend; one frame of one stream at a time: (1, heads, N, head_dim)."""
        with stage('attention with cache, in global blocks'):
            answer = self._attend(layer, query[0], key[0].transpose(0, 1), value[0].transpose(0, 1))
        for observer in self.observers if self._remembers else ():
            observer.attended(layer, query, key, value)
        return answer[None]

    def _attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        # The layer before may still be scoring in the scratch.
        self._side_stream.join()
        keys, values = self._store_and_load(layer, key, value)
        mass = None if self._mass is None or not self._remembers else self._mass[layer, : len(keys)]
        kept, fresh = self.ledger.attended_lengths[layer], self.ledger.frame_tokens
        answer = kernels.cache_attention(
            query, keys, values, kept, fresh, mass if self._mass_of_all else None, self._side_stream
        )
        if mass is not None and not self._mass_of_all:
            with self._side_stream.fork(query):
                pooled, counts = pool_queries(query, self.shape.special_tokens)
                kernels.cache_mass(pooled, counts, keys, kept, fresh, mass)
        if self._remembers:
            with stage('scoring by keys, in attention'):
                self.policy.observe(layer, self.ledger, Observation(query, keys))
        return answer

    def _store_and_load(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the frame's key and value (N, heads, head_dim) if they are to be remembered.

        Returns all that it attends to, (M, heads, head_dim).
        """
        ledger = self.ledger
        slots = ledger.attended[layer]
        centres = self._centres[layer, : len(slots)]
        width = len(slots) - ledger.frame_tokens
        if self._remembers:
            self.pool.calibrate(layer, ledger.frames, key, value)
            with self._side_stream.fork(key, value):
                self.pool.write(layer, self._entry_tier(), slots[width:], centres[width:], key, value)
        keys, values = self._keys[: len(slots)], self._values[: len(slots)]
        self.pool.read(
            layer, slots[:width], centres[:width], ledger.attended_lengths[layer], keys[:width], values[:width]
        )
        # A frame sees its own tokens as they are; what is stored of them is for those that come.
        kernels.copy_pair(key, value, keys[width:], values[width:])
        return keys, values

    def _centres_of(self, slots: torch.Tensor) -> torch.Tensor:
        """Return the centres of the tokens in slots, in their shape."""
        return centre_of(self.ledger.frame_of[slots], self.ledger.token_of[slots], self.shape.special_tokens)

    def observe_residual(self, layer: int, residual: torch.Tensor) -> None:
        """See network.Memory.observe_residual: (1, N, C)."""
        self.policy.observe_residual(layer, self.ledger, residual[0])

    def observe_motion(self, motion: float) -> None:
        """Take in how far the camera is from where the last admitted frame was taken: radians plus shares of depth.

        Raises ValueError where no motion is wanted.
        """
        if self.adaptive is None:
            raise ValueError('a fixed budget does not ask for motion')
        self.adaptive.observe_motion(torch.tensor(motion))

    def end_frame(self, on_side_stream: bool = False) -> None:
        """Evict, and requantize the tokens that are no longer recent.

        on_side_stream: beside what the caller does next; ``join`` before the next frame begins.
        """
        with self._side_stream.fork() if on_side_stream else nullcontext():
            with stage('eviction'):
                self._evict()
            for observer in self.observers:
                observer.frame_ended()

    def join(self) -> None:
        """Let the current CUDA stream wait for what was begun on the side stream."""
        self._side_stream.join()

    def _evict(self) -> None:
        ledger, policy = self.ledger, self.policy
        self._side_stream.join()
        mass = None if self._mass is None else self._mass[:, : ledger.attended.shape[1]]
        policy.frame_done(ledger, mass if policy.needs_mass else None)
        if self.adaptive is not None and mass is not None:
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
            ledger.retain(select_tokens(priorities, ledger.valid, budgets))
        else:
            admitted, level = self.adaptive.decide()
            is_first = ledger.frame == 0
            keep = ledger.valid & (admitted | is_first | (ledger.frame_of[ledger.slots] != ledger.frame))
            keep = select_tokens(priorities, keep, budgets)
            ledger.retain(keep, select_tokens(priorities, keep, (budgets * level).long()))
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
