# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The fixed-memory key-value cache: bytes decided before the first frame, slots reused in place, policies behind a door."""

from __future__ import annotations

from evict3r_ros.cache.camera_cache import CAMERA_POLICIES, CameraCache
from evict3r_ros.cache.config import CacheConfig, CacheShape, TierBits, parse_bits
from evict3r_ros.cache.inspection import AttendedTokens, CacheObserver, CacheUsage
from evict3r_ros.cache.kv_cache import KeyValueCache, resolve_budget
from evict3r_ros.cache.policies import POLICIES

__all__ = [
    'CAMERA_POLICIES',
    'POLICIES',
    'AttendedTokens',
    'CacheConfig',
    'CacheObserver',
    'CacheShape',
    'CacheUsage',
    'CameraCache',
    'KeyValueCache',
    'TierBits',
    'parse_bits',
    'resolve_budget',
]
