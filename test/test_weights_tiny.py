# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The weights in the package: there, small, ours, and they see."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from evict3r_ros.cache import CacheConfig
from evict3r_ros.evaluation.held_out import HeldOut
from evict3r_ros.evaluation.streaming import TrueClip, measure, stream_clip
from evict3r_ros.network import load_network
from evict3r_ros.network.checkpoint import find_weights
from evict3r_ros.synthetic.clips import render_clips
from evict3r_ros.training import plot
from evict3r_ros.training.export import MOST_BYTES

ROOT = Path(__file__).parent.parent
CARD = ROOT / 'docs' / 'model_card.md'


@pytest.fixture(scope='module')
def network():
    """Load what a newcomer gets."""
    return load_network()


def test_the_file_is_small_finished_and_ours():
    path = find_weights('tiny')
    assert path.stat().st_size <= MOST_BYTES
    with safe_open(path, framework='pt') as file:
        about = file.metadata()
    assert about['evict3r_preset'] == 'tiny' and about['license'] == 'Apache-2.0' and about['finished'] == 'true'
    curve = plot.read_curve(ROOT / 'docs' / 'training.json')
    assert int(about['steps']) == curve['curve'][-1]['step'] and json.loads(about['calls']) == curve['calls']
    assert plot.markdown(curve) in CARD.read_text()


def test_it_is_the_default_and_trained(network):
    assert network.preset.name == 'tiny' and not network.untrained and network.source == 'tiny (tiny.safetensors)'


def test_it_sees_depth_and_motion_in_worlds_it_was_not_trained_on(network):
    """Far better than a constant depth and a camera that stands still, which need no network."""
    held_out = HeldOut(seed=20, clips=4, frames=12, stride=4)
    clips = render_clips(held_out.world_seeds(), held_out.frames, held_out.stride)
    found = []
    for number in range(held_out.clips):
        clip = TrueClip(
            clips.images[number],
            clips.depth[number],
            clips.world_from_camera[number].numpy(),
            clips.intrinsics[number].numpy(),
        )
        found.append(measure(clip, stream_clip(network, CacheConfig('uniform', 2500), clip)))

    def mean(kind: str, name: str) -> float:
        return float(np.mean([clip[kind][name] for clip in found]))

    assert mean('figures', 'absrel') < 0.35 * mean('baselines', 'constant_absrel')
    assert mean('figures', 'ate_over_length') < 0.3 * mean('baselines', 'still_ate_over_length')
    assert mean('figures', 'rotation_deg') < 0.4 * mean('baselines', 'still_rotation_deg')
