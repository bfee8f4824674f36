# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Long runs: streams that follow each other, chained into one path, and the map that they leave. No ROS."""

from __future__ import annotations

from evict3r_ros.mapping.segments import SegmentedStream, SegmentedStreamStats, SegmentSettings
from evict3r_ros.mapping.settings import MappingSettings, mapping_defaults, mapping_settings

__all__ = [
    'MappingSettings',
    'SegmentSettings',
    'SegmentedStream',
    'SegmentedStreamStats',
    'mapping_defaults',
    'mapping_settings',
]
