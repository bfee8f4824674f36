# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Network and cache policies against numbers of the published implementations."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
import torch

from evict3r_ros.cache import CacheConfig
from evict3r_ros.network import PRESETS, StreamVGGT
from evict3r_ros.network.presets import PATCH
from evict3r_ros.network.random_weights import scale_by_rule
from evict3r_ros.stream import Stream

pytestmark = pytest.mark.parity
TOLERANCE = 5e-6


def relative_error(ours, published) -> float:
    """Return max |a - b| / max |b|."""
    ours, published = np.asarray(ours, dtype=np.float64), np.asarray(published, dtype=np.float64)
    assert ours.shape == published.shape
    return float(np.abs(ours - published).max() / np.abs(published).max())


@pytest.fixture(scope='module')
def network():
    """Return the scaled-down network with the fixture's weights: one numpy stream of noise a key."""
    network = StreamVGGT(PRESETS['small'])
    state = {}
    for key, value in network.state_dict().items():
        noise = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(tuple(value.shape))
        state[key] = scale_by_rule(key, torch.from_numpy(noise.astype(np.float32)))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope='module')
def frames():
    """(6, 3, 112, 154) in [0, 1]."""
    return torch.from_numpy(np.random.RandomState(7).random_sample((6, 3, 112, 154)).astype(np.float32))


@pytest.mark.parametrize(
    ('preset', 'file'), [('official', 'streamvggt_state_dict.json'), ('small', 'small_state_dict.json')]
)
def test_state_dict_is_the_published_one(parity_dir, preset, file):
    published = {
        key: tuple(shape)
        for key, shape in json.loads((parity_dir / file).read_text()).items()
        if not key.startswith('track_head.')
    }
    with torch.device('meta'):
        network = StreamVGGT(PRESETS[preset])
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == published


def test_causal_pass(parity_dir, network, frames, record_property):
    published = np.load(parity_dir / 'small_stream.npz')
    output = network.causal(frames[None], (112 // PATCH, 154 // PATCH))
    ours = {
        'causal_pose_enc': output.pose_encoding[0],
        'causal_depth': output.depth[0],
        'causal_depth_conf': output.confidence[0],
        'causal_last_tokens': output.last_tokens[0, :, :8],
    }
    errors = {key: relative_error(value, published[key]) for key, value in ours.items()}
    record_property('relative_errors', errors)
    print(errors)
    assert max(errors.values()) <= TOLERANCE


def streamed(network, frames, config):
    """Yield the network's outputs, frame by frame, through the real cache, and that cache."""
    with Stream(network, config, camera_size=tuple(frames.shape[-2:])) as stream:
        for frame in frames:
            output = stream.run(frame)
            yield stream.cache, output


def check_outputs(outputs, published, record_property):
    """Every output that the fixture has, over the whole stream."""
    names = {
        'pose_enc': 'pose_encoding',
        'depth': 'depth',
        'depth_conf': 'confidence',
        'points': 'points',
        'points_conf': 'points_confidence',
    }
    ours = {key: torch.cat([getattr(output, name)[0] for output in outputs]) for key, name in names.items()}
    errors = {key: relative_error(value, published[key]) for key, value in ours.items() if key in published}
    record_property('relative_errors', errors)
    print(errors)
    assert len(errors) >= 3
    assert max(errors.values()) <= TOLERANCE


def test_streaming(parity_dir, network, frames, record_property):
    published = np.load(parity_dir / 'small_stream.npz')
    outputs = [output for _, output in streamed(network, frames, CacheConfig('unbounded', tokens=100, bits=32))]
    check_outputs(outputs, published, record_property)


def test_evict3r(parity_dir, network, frames, record_property):
    """Scores, layer budgets and keep-sets, and what comes out, at P = 0.5 of a sequence known to have six frames."""
    published = np.load(parity_dir / 'small_evict3r.npz')
    config = CacheConfig('evict3r', share=0.5, sequence_length=6, temperature=0.5, bits=32)
    outputs, kept = [], []
    for index, (cache, output) in enumerate(streamed(network, frames, config)):
        outputs.append(output)
        if index == 5:
            # Published, nothing is evicted after the last frame: what it attended to is what is left.
            kept = [torch.cat((before, torch.tensor([[5, token] for token in range(93)]))) for before in kept]
        else:
            kept = [cache.ledger.kept(layer) for layer in range(4)]
        if f'alpha_{index}' in published:
            np.testing.assert_allclose(cache.policy.alpha(), published[f'alpha_{index}'], rtol=0, atol=1e-6)
        for layer in range(4):
            np.testing.assert_array_equal(kept[layer], published[f'kept_{index}_{layer}'])
    check_outputs(outputs, published, record_property)


def test_xstreamvggt(parity_dir, network, frames, record_property):
    """Keep-sets, lengths and outputs at 220 tokens a layer."""
    published = np.load(parity_dir / 'small_xstreamvggt.npz')
    outputs = []
    for index, (cache, output) in enumerate(streamed(network, frames, CacheConfig('xstreamvggt', 220, bits=32))):
        outputs.append(output)
        np.testing.assert_array_equal(cache.ledger.lengths, published[f'cache_len_{index}'])
        for layer in range(4):
            np.testing.assert_array_equal(cache.ledger.kept(layer), published[f'kept_{index}_{layer}'])
    check_outputs(outputs, published, record_property)


def test_half_precision_stays_close(network, frames):
    reference = network.causal(frames[None, :2], (8, 11))
    state = {key: value.to(torch.bfloat16) for key, value in network.state_dict().items()}
    with torch.device('meta'):
        half = StreamVGGT(PRESETS['small'])
    half.load_state_dict(state, assign=True)
    output = half.eval().requires_grad_(False).causal(frames[None, :2], (8, 11))
    assert output.depth.dtype == torch.float32
    assert relative_error(output.depth, reference.depth) < 0.05
    assert relative_error(output.pose_encoding, reference.pose_encoding) < 0.05
