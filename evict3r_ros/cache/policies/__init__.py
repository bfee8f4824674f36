# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Policies that choose which tokens stay: one file each, and one line in this table."""

from __future__ import annotations

from evict3r_ros.cache.policies.evict3r import Evict3R
from evict3r_ros.cache.policies.first_last import FirstLast
from evict3r_ros.cache.policies.infinitevggt import InfiniteVGGT
from evict3r_ros.cache.policies.ovggt import OVGGT
from evict3r_ros.cache.policies.policy import Policy
from evict3r_ros.cache.policies.random_tokens import RandomTokens
from evict3r_ros.cache.policies.sliding_window import SlidingWindow
from evict3r_ros.cache.policies.unbounded import Unbounded
from evict3r_ros.cache.policies.uniform import Uniform
from evict3r_ros.cache.policies.xstreamvggt import XStreamVGGT

POLICIES: dict[str, type[Policy]] = {
    'evict3r': Evict3R,
    'xstreamvggt': XStreamVGGT,
    'infinitevggt': InfiniteVGGT,
    'ovggt': OVGGT,
    'uniform': Uniform,
    'sliding_window': SlidingWindow,
    'first_last': FirstLast,
    'random': RandomTokens,
    'unbounded': Unbounded,
}

__all__ = ['POLICIES', 'Policy']
