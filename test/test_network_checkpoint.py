# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Weights files, good and bad: what does not fit is refused in one line."""

from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import save_file

from evict3r_ros.errors import UserError
from evict3r_ros.network import PRESETS, StreamVGGT, load_network


@pytest.fixture(scope='module')
def state():
    """Return a complete state of the small network, and a little of the tracking head that is ignored."""
    state = load_network('random', 'small', seed=3, heads=('camera', 'depth', 'point')).state_dict()
    return {key: value.half() for key, value in state.items()}


@pytest.fixture(scope='module')
def files(state, tmp_path_factory):
    """Return the same weights in each form that is read."""
    folder = tmp_path_factory.mktemp('weights')
    tracked = {**state, 'track_head.norm.weight': torch.zeros(3)}
    save_file(tracked, folder / 'good.safetensors')
    torch.save(tracked, folder / 'good.pth')
    torch.save({'model': state, 'epoch': 3}, folder / 'wrapped.pth')
    return folder


@pytest.mark.parametrize('name', ['good.safetensors', 'good.pth', 'wrapped.pth'])
def test_good_files_load(files, state, name):
    network = load_network(str(files / name), 'small')
    assert not network.untrained
    assert network.dtype == torch.float32
    assert name in network.source
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key].float()), key
    assert not any(key.startswith('point_head.') for key in network.state_dict())


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_precisions(files, dtype):
    assert load_network(str(files / 'good.safetensors'), 'small', dtype=dtype).dtype == getattr(torch, dtype)


def refused(path, preset='small') -> str:
    with pytest.raises(UserError) as caught:
        load_network(str(path), preset)
    message = str(caught.value)
    assert '\n' not in message
    return message


@pytest.mark.parametrize('share', [0.0001, 0.5, 0.99])
@pytest.mark.parametrize('name', ['good.safetensors', 'good.pth'])
def test_truncated(files, tmp_path, name, share):
    whole = (files / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    message = refused(tmp_path / name)
    assert 'truncated' in message
    assert "expected StreamVGGT weights of preset 'small'" in message


def test_damaged_in_the_middle(files, tmp_path):
    damaged = bytearray((files / 'good.pth').read_bytes())
    start = damaged.index(b'data.pkl') + 8
    damaged[start : start + 400] = bytes(400)
    (tmp_path / 'bad.pth').write_bytes(damaged)
    refused(tmp_path / 'bad.pth')


@pytest.mark.parametrize('name', ['page.pth', 'page.safetensors'])
def test_a_web_page(tmp_path, name):
    (tmp_path / name).write_text('<!DOCTYPE html><html><body>Sign in</body></html>')
    assert 'web page' in refused(tmp_path / name)


def test_a_git_lfs_pointer(tmp_path):
    (tmp_path / 'w.safetensors').write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n')
    assert 'Git LFS pointer' in refused(tmp_path / 'w.safetensors')


def test_an_empty_file(tmp_path):
    (tmp_path / 'w.pth').touch()
    assert 'empty file' in refused(tmp_path / 'w.pth')


@pytest.mark.parametrize('name', ['w.pth', 'w.safetensors', 'w.bin'])
def test_noise(tmp_path, name):
    (tmp_path / name).write_bytes(bytes(range(256)) * 40)
    refused(tmp_path / name)


def test_missing_keys_are_named(state, tmp_path):
    few = {key: value for key, value in state.items() if not key.startswith('camera_head.trunk.0')}
    save_file(few, tmp_path / 'w.safetensors')
    message = refused(tmp_path / 'w.safetensors')
    assert 'camera_head.trunk.0.norm1.weight' in message
    assert 'missing' in message


def test_other_shapes_are_named(state, tmp_path):
    save_file({**state, 'aggregator.camera_token': torch.zeros(1, 2, 1, 5)}, tmp_path / 'w.safetensors')
    assert 'aggregator.camera_token [1, 2, 1, 5] instead of [1, 2, 1, 384]' in refused(tmp_path / 'w.safetensors')


def test_foreign_keys_are_named(state, tmp_path):
    save_file({**state, 'decoder.weight': torch.zeros(5)}, tmp_path / 'w.safetensors')
    assert 'decoder.weight' in refused(tmp_path / 'w.safetensors')


def test_another_model(tmp_path):
    save_file({'layer1.0.conv1.weight': torch.zeros(4), 'fc.weight': torch.zeros(4)}, tmp_path / 'w.safetensors')
    message = refused(tmp_path / 'w.safetensors')
    assert "another model's weights" in message
    assert 'layer1.0.conv1.weight' in message


def test_the_wrong_preset(files):
    assert "preset 'official'" in refused(files / 'good.safetensors', 'official')


@pytest.mark.parametrize('content', [[1, 2], {'a': 1}, torch.zeros(3)])
def test_a_pth_of_something_else(tmp_path, content):
    torch.save(content, tmp_path / 'w.pth')
    refused(tmp_path / 'w.pth')


class Trap:
    """Unpickled, it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.mark.parametrize('as_archive', [True, False])
def test_code_in_a_file_never_runs(tmp_path, as_archive):
    trap = {'w': Trap(tmp_path / 'sprung')}
    if as_archive:
        torch.save(trap, tmp_path / 'w.pth')
    else:
        (tmp_path / 'w.pth').write_bytes(pickle.dumps(trap))
    message = refused(tmp_path / 'w.pth')
    assert not (tmp_path / 'sprung').exists()
    assert 'never run' in message or 'not a PyTorch archive' in message


def test_paths(tmp_path):
    assert 'does not exist' in refused(tmp_path / 'nowhere.pth')
    assert 'folder without weights' in refused(tmp_path)
    assert 'random' in refused('')  # the current folder would be a surprising meaning of nothing


def test_settings():
    for settings in (
        {'preset': 'huge'},
        {'preset': 'small', 'dtype': 'int3'},
        {'preset': 'small', 'heads': ('track',)},
    ):
        with pytest.raises(UserError):
            load_network('random', **settings)


def test_random_weights_are_the_seeds():
    first, again, other = (load_network('random', 'small', seed=seed) for seed in (1, 1, 2))
    assert first.untrained and 'UNTRAINED' in first.source
    key = 'aggregator.global_blocks.2.attn.qkv.weight'
    assert torch.equal(first.state_dict()[key], again.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])


def test_without_the_hub_the_official_weights_say_so(monkeypatch, tmp_path):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    with pytest.raises(UserError, match=r'lch01/StreamVGGT.*give its path'):
        load_network('official')


def test_official_shapes_need_no_memory():
    with torch.device('meta'):
        network = StreamVGGT(PRESETS['official'])
    assert sum(weight.numel() for weight in network.parameters()) == 1_190_596_120
