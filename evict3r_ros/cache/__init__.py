# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The key-value cache of fixed memory: bytes decided before the first frame, slots reused, a table of policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evict3r_ros.lazy import lazy_exports

if TYPE_CHECKING:
    from evict3r_ros.cache.camera_cache import CAMERA_POLICIES, CameraCache
    from evict3r_ros.cache.config import CacheConfig, CacheShape, TierBits, parse_bits
    from evict3r_ros.cache.inspection import AttendedTokens, CacheObserver, CacheUsage
    from evict3r_ros.cache.kv_cache import KeyValueCache, resolve_budget
    from evict3r_ros.cache.policies import POLICIES
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            'CAMERA_POLICIES': 'camera_cache',
            'POLICIES': 'policies',
            'AttendedTokens': 'inspection',
            'CacheConfig': 'config',
            'CacheObserver': 'inspection',
            'CacheShape': 'config',
            'CacheUsage': 'inspection',
            'CameraCache': 'camera_cache',
            'KeyValueCache': 'kv_cache',
            'TierBits': 'config',
            'parse_bits': 'config',
            'resolve_budget': 'kv_cache',
        },
    )

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
