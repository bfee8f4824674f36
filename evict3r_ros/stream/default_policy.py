# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which policy ``auto`` stands for: the one that was measured for the weights that are loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from evict3r_ros.cache import CacheConfig
from evict3r_ros.cache.config import AUTO

_MEASURED = {'tiny': 'random'}
"""By preset, for weights that do not say it themselves: what docs/accuracy.md measured."""
_PUBLISHED = 'evict3r'


@dataclass(frozen=True)
class PolicyChoice:
    """A policy and why it is this one."""

    policy: str
    """A name in ``POLICIES``, unless the user's own is none."""
    reason: str
    """In a few words, for logs and tables."""

    @property
    def text(self) -> str:
        """Return both in one phrase."""
        return f'{self.policy} ({self.reason})'


def choose_policy(asked: str, preset: str, measured: str = '') -> PolicyChoice:
    """Return the policy for a user's word.

    ``auto`` is what the weights' file names (``measured``, '' for none), else what was measured for weights of the
    preset, else what the papers of the official weights use, with which nothing else was measured.
    """
    if asked != AUTO:
        return PolicyChoice(asked, 'asked for')
    if measured:
        return PolicyChoice(measured, "auto: the weights' file names it as measured for them")
    if preset in _MEASURED:
        return PolicyChoice(_MEASURED[preset], f'auto: measured best for weights of preset {preset}')
    return PolicyChoice(_PUBLISHED, "auto: what the official weights' papers use; nothing was measured for these")


def with_policy(config: CacheConfig, preset: str, measured: str = '') -> CacheConfig:
    """Return a config in which ``auto`` has become the policy that it stands for."""
    return replace(config, policy=choose_policy(config.policy, preset, measured).policy)
