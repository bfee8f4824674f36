# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a user says about the cache, and what the network's shape makes of it."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING

from evict3r_ros.errors import UserError

if TYPE_CHECKING:
    import torch

BITS = (32, 16, 8, 4, 2)
MOST_TOKENS = 2**30
"""Over all layers: a budget beyond this is a mistyped one."""
BUDGETS = ('fixed', 'adaptive')
AUTO = 'auto'
"""Policy: what was measured for the weights; see ``stream.default_policy``."""


@dataclass(frozen=True)
class TierBits:
    """Mixed precision: bits by what a token is. Bits fall once, when a token stops being recent."""

    pinned: int = 16
    """The first frame."""
    recent: int = 8
    """The last ``recent_frames`` frames."""
    rest: int = 4
    recent_frames: int = 2


def parse_bits(text: str) -> int | TierBits:
    """Return bits from text: one number, or three as PINNED/RECENT/REST. Raises UserError for anything else."""
    numbers = text.split('/')
    if len(numbers) not in (1, 3) or not all(number.isascii() and number.isdecimal() for number in numbers):
        raise UserError(f'cache bits {text!r}: give one of {", ".join(map(str, BITS))}, or three as 16/8/4')
    return int(text) if len(numbers) == 1 else TierBits(*map(int, numbers))


@dataclass(frozen=True)
class CacheConfig:
    """A user's settings; the defaults suit the official weights on a desktop card."""

    policy: str = AUTO
    """A name in ``policies.POLICIES``, or ``auto``, which a stream replaces by what suits its network's weights."""
    tokens: int = 8192
    """Budget: tokens a layer that survive a frame, pinned and current ones included (mean over layers where a policy
    moves budgets between them). A frame attends to its own N tokens besides."""
    _: KW_ONLY
    memory_mb: float | None = None
    """MiB for keys and values instead of ``tokens``: as many tokens as fit."""
    share: float | None = None
    """P of the Evict3R paper: the budget as a share of all tokens of a sequence of known length, for runs on files."""
    sequence_length: int | None = None
    """Frames of that sequence; goes with ``share``."""
    bits: int | TierBits = 4
    """Stored precision: 32 or 16 (floating point), 8, 4 or 2 (packed integers), or mixed."""
    temperature: float = 0.5
    """Evict3R and InfiniteVGGT: how strongly a layer's share follows its statistics; smaller is stronger."""
    scores: str = 'exact'
    """Evict3R: attention mass of all queries (``exact``) or of pooled ones (``pooled``), a sixteenth of the cost."""
    seed: int = 0
    """Policy ``random``."""
    anchors: int = 0
    """Frames besides the first that may be pinned at a time."""
    anchor_share: float = 1.0
    """Share of an anchor's tokens that its pin protects, the best ones by the policy's own priority."""
    budget: str = 'fixed'
    """``fixed``, or ``adaptive``: see ``adaptive.AdaptiveBudget``."""
    least_tokens: int | None = None
    """Adaptive: tokens a layer that are attended in a still scene; by default half of ``tokens``."""
    novelty: float = 0.3
    """Adaptive: the share of a frame's attention that must fall on the frame itself for its tokens to be admitted."""
    motion: float = 0.05
    """Adaptive: or the camera's motion since the last admitted frame, in radians and in shares of the scene's depth."""
    camera_frames: int = 96
    """Frames that the camera head remembers."""
    camera_policy: str = 'uniform'
    """Which: ``uniform`` (evenly spaced over the stream) or ``recent``; the first one and the anchors in any case."""

    def __post_init__(self) -> None:
        bits = (self.bits.pinned, self.bits.recent, self.bits.rest) if isinstance(self.bits, TierBits) else (self.bits,)
        if not set(bits) <= set(BITS):
            raise UserError(f'cache bits {self.bits} are not among {", ".join(map(str, BITS))}')
        if isinstance(self.bits, TierBits) and (
            bits != tuple(sorted(bits, reverse=True)) or self.bits.recent_frames < 1
        ):
            raise UserError(f'bits must fall with age, and at least one frame must be recent: {self.bits}')
        if (self.share is None) != (self.sequence_length is None):
            raise UserError('share (P) and sequence_length go together: P is a share of a known number of frames')
        if self.share is not None and not (0.0 < self.share <= 1.0 and (self.sequence_length or 0) >= 1):
            raise UserError(f'share {self.share} must be in (0, 1] and sequence_length {self.sequence_length} positive')
        if self.memory_mb is not None and self.share is not None:
            raise UserError('memory_mb and share (P) both set the budget: give one')
        for name, value, known in (('scores', self.scores, ('exact', 'pooled')), ('budget', self.budget, BUDGETS)):
            if value not in known:
                raise UserError(f'cache {name} {value!r} is not one of {", ".join(known)}')
        if not self.temperature > 0.0:
            raise UserError(f'temperature {self.temperature} must be positive')
        if self.memory_mb is not None and not 0.0 < self.memory_mb < math.inf:
            raise UserError(f'memory_mb {self.memory_mb} must be a positive number')
        if self.camera_frames > MOST_TOKENS:
            raise UserError(f'a camera memory of {self.camera_frames} frames is beyond any device')
        if self.camera_frames < 3 + self.anchors:
            raise UserError(
                f'a camera memory of {self.camera_frames} frames cannot hold the first, the last, the current '
                f'one and {self.anchors} anchors; give {3 + self.anchors} or more'
            )
        if self.anchors < 0 or not 0.0 < self.anchor_share <= 1.0:
            raise UserError(f'{self.anchors} anchors with a share of {self.anchor_share}: at least 0, and in (0, 1]')


@dataclass(frozen=True)
class CacheShape:
    """What the network asks of a cache."""

    layers: int
    heads: int
    head_dim: int
    special_tokens: int
    """How many of a frame's tokens, the first ones, are no patches."""
    patches: tuple[int, int]
    """Rows and columns of the largest frame that may come."""
    dtype: torch.dtype
    device: torch.device

    @property
    def frame_tokens(self) -> int:
        """Tokens N of the largest frame."""
        return self.special_tokens + self.patches[0] * self.patches[1]


@dataclass(frozen=True)
class Budget:
    """Tokens that survive a frame, resolved from a config for a shape."""

    config: CacheConfig
    """With ``tokens`` resolved."""
    total: int
    """Over all layers."""
    rounding: int
    """More that the pool holds, so that shares may be rounded up as published."""

    @classmethod
    def of(cls, config: CacheConfig, shape: CacheShape, fixed_bytes: int, token_bytes: int) -> Budget:
        """Return the budget for a shape.

        The pool takes ``fixed_bytes``, and ``token_bytes`` for each token of a layer. Raises UserError for a budget
        that cannot work.
        """
        layers = shape.layers
        if config.share is not None and config.sequence_length is not None:
            total = math.ceil(config.share * config.sequence_length * shape.frame_tokens * layers)
            return cls(replace(config, tokens=-(-total // layers)), total, layers)
        if config.memory_mb is not None:
            tokens = (int(config.memory_mb * 2**20) - fixed_bytes) // (token_bytes * layers)
            if tokens < 1:
                needed = (fixed_bytes + token_bytes * layers) / 2**20
                raise UserError(
                    f'{config.memory_mb:g} MiB do not hold one frame of {shape.frame_tokens} tokens in '
                    f'{layers} layers and any past; give at least {needed:.1f}'
                )
            config = replace(config, tokens=tokens)
        if config.tokens * layers > MOST_TOKENS:
            raise UserError(f'a budget of {config.tokens} tokens in each of {layers} layers is beyond any device')
        return cls(config, config.tokens * layers, 0)
