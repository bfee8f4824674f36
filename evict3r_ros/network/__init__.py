# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""StreamVGGT (arXiv 2507.11539), written from its description: images in, depth, confidence and camera out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evict3r_ros.lazy import lazy_exports

if TYPE_CHECKING:
    from evict3r_ros.network.checkpoint import load_network, measured_policy, preset_of
    from evict3r_ros.network.memory import CausalMemory, Memory
    from evict3r_ros.network.presets import PRESETS, Preset
    from evict3r_ros.network.streamvggt import NetworkOutput, StreamVGGT
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            'PRESETS': 'presets',
            'CausalMemory': 'memory',
            'Memory': 'memory',
            'NetworkOutput': 'streamvggt',
            'Preset': 'presets',
            'StreamVGGT': 'streamvggt',
            'load_network': 'checkpoint',
            'measured_policy': 'checkpoint',
            'preset_of': 'checkpoint',
        },
    )

__all__ = [
    'PRESETS',
    'CausalMemory',
    'Memory',
    'NetworkOutput',
    'Preset',
    'StreamVGGT',
    'load_network',
    'measured_policy',
    'preset_of',
]
