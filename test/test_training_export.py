# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From the shards of a training to the file in the package, and back into a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors import safe_open

from evict3r_ros.cache import CacheConfig
from evict3r_ros.errors import UserError
from evict3r_ros.network import checkpoint, load_network, measured_policy, preset_of
from evict3r_ros.network.int8 import pack, unpacking
from evict3r_ros.stream import Stream
from evict3r_ros.training import export, state

CALLS = [{'command': 'python -m x', 'seed': '0'}, {'command': 'python -m x --resume it', 'seed': '0'}]


@pytest.fixture(scope='module')
def network():
    """Weights to export: untrained ones of the right sizes."""
    return load_network('random', 'tiny')


@pytest.fixture(scope='module')
def shards(network, tmp_path_factory):
    """Write what a training leaves of them."""
    folder = tmp_path_factory.mktemp('shards')
    progress = state.Progress(step=7, frames=84, seconds=90.0, finished=True, calls=CALLS)
    state.save_shards(folder, network.state_dict(), progress, 15)
    return folder


@pytest.fixture(scope='module')
def exported(shards, tmp_path_factory):
    """Make the file of the shards."""
    path = tmp_path_factory.mktemp('weights') / 'tiny.safetensors'
    assert export.main([str(shards), '--out', str(path)]) == 0
    return path


def test_the_file_is_small_and_says_what_it_is(exported):
    assert exported.stat().st_size <= export.MOST_BYTES
    with safe_open(exported, framework='pt') as file:
        about = file.metadata()
    assert about[checkpoint.PRESET_KEY] == 'tiny' and about['license'] == 'Apache-2.0'
    assert about['minutes'] == '1.5' and about['steps'] == '7'


def test_the_file_names_the_policy_that_was_measured(exported, shards, tmp_path):
    """By default what was measured for weights of its preset."""
    assert measured_policy(str(exported)) == 'random'
    other = tmp_path / 'other.safetensors'
    assert export.main([str(shards), '--out', str(other), '--policy', 'uniform']) == 0
    assert measured_policy(str(other)) == load_network(str(other)).measured_policy == 'uniform'


def test_a_training_that_goes_on_from_it_knows_what_was_before(exported):
    _, progress = state.load(exported)
    assert progress.calls == CALLS and (progress.step, progress.frames, progress.seconds) == (7, 84, 90.0)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_its_weights_are_nearly_those_exported(exported, network, dtype):
    loaded = load_network(str(exported), dtype=dtype)
    assert loaded.preset.name == 'tiny' and loaded.dtype == getattr(torch, dtype) and not loaded.untrained
    for key, value in network.state_dict().items():
        ours = loaded.state_dict()[key].float()
        step = value.abs().flatten(1).amax(1) / 127 if value.ndim > 1 else value.abs().max() / 127
        limit = 0.51 * step.view(-1, *[1] * (value.ndim - 1)) + 0.005 * value.abs() + 1e-6
        assert ((ours - value).abs() <= limit).all(), key


def test_it_answers_as_before(exported, network):
    image = np.random.default_rng(0).integers(0, 256, (84, 112, 3), dtype=np.uint8)
    outputs = []
    for weights in (network, load_network(str(exported))):
        with Stream(weights, CacheConfig('uniform', 200), image_width=112) as stream:
            outputs.append([stream.step(image) for _ in range(3)][-1])
    ours, other = outputs
    assert ((ours.depth - other.depth).abs() / ours.depth).mean() < 0.05


def test_the_name_tiny_means_the_packages_file(exported, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, '__file__', str(tmp_path / 'network' / 'checkpoint.py'))
    with pytest.raises(UserError, match="lacks the package's own weights"):
        load_network()
    (tmp_path / 'weights').mkdir()
    (tmp_path / 'weights' / 'tiny.safetensors').symlink_to(exported)
    assert load_network().source == 'tiny (tiny.safetensors)'


def test_presets_follow_the_weights(exported):
    assert preset_of('tiny') == preset_of('tiny', 'tiny') == preset_of(str(exported)) == preset_of('random') == 'tiny'
    assert preset_of('official') == 'official' and preset_of('random', 'nano') == 'nano'
    for weights in ('tiny', str(exported)):
        with pytest.raises(UserError, match="are of preset 'tiny', not 'small'"):
            load_network(weights, 'small')


def test_a_truncated_file_is_refused(exported, tmp_path):
    (tmp_path / 'w.safetensors').write_bytes(exported.read_bytes()[:1_000_000])
    with pytest.raises(UserError, match='truncated'):
        load_network(str(tmp_path / 'w.safetensors'))


def test_a_scale_that_is_missing_is_told(exported, tmp_path):
    from safetensors.torch import load_file, save_file

    content = load_file(exported)
    del content['camera_head.embed_pose.weight']
    save_file(content, tmp_path / 'w.safetensors', {checkpoint.PRESET_KEY: 'tiny'})
    with pytest.raises(UserError, match=r'camera_head\.embed_pose\.weight'):
        load_network(str(tmp_path / 'w.safetensors'))


def test_shards_that_cannot_be_exported(network, shards, tmp_path, capsys):
    def attempt(weights):
        state.save_shards(tmp_path / 'shards', weights, state.Progress(), 15)
        assert export.main([str(tmp_path / 'shards'), '--out', str(tmp_path / 'w.safetensors')]) == 2
        assert not (tmp_path / 'w.safetensors').exists()
        return capsys.readouterr().err

    weights = network.state_dict()
    broken = {**weights, 'aggregator.camera_token': weights['aggregator.camera_token'] * torch.nan}
    assert 'not finite, such as aggregator.camera_token' in attempt(broken)
    assert "not the weights of preset 'tiny'" in attempt(load_network('random', 'nano').state_dict())
    assert export.main([str(tmp_path), '--out', str(tmp_path / 'w.safetensors')]) == 2


def test_packing_keeps_zeros_and_extremes():
    weights = {'a.weight': torch.zeros(64, 64), 'b.weight': torch.randn(64, 64) * 1e4, 'c.weight': torch.ones(3, 4)}
    packed = pack(weights)
    assert packed['a.weight'].dtype == torch.int8 and packed['c.weight'].dtype == torch.float16
    read = unpacking(packed, packed.__getitem__)
    assert torch.equal(read('a.weight'), weights['a.weight']) and torch.equal(
        read('c.weight').float(), weights['c.weight']
    )
    extremes = weights['b.weight'].abs().amax(1)
    assert torch.allclose(read('b.weight').abs().amax(1), extremes, rtol=1e-6)
