# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Weights as training code leaves them: wrapped, in shards, among other things; all load, or one line helps."""

from __future__ import annotations

import argparse
import json
import pathlib
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from evict3r_ros.errors import UserError
from evict3r_ros.network import load_network, preset_of
from evict3r_ros.network.checkpoint import PRESET_KEY
from evict3r_ros.network.int8 import pack


@pytest.fixture(scope='module')
def state():
    network = load_network('random', 'nano', seed=5)
    return {key: value.clone() for key, value in network.state_dict().items()}


def prefixed(state, *prefixes):
    return {f'{"".join(prefixes)}{key}': value for key, value in state.items()}


def check(path, state, preset='nano'):
    network = load_network(str(path), preset)
    assert not network.untrained
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, state[key].float(), rtol=0.02, atol=0.02)


def refused(path, preset='nano') -> str:
    with pytest.raises(UserError) as caught:
        load_network(str(path), preset)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('form', ['.pth', '.safetensors'])
@pytest.mark.parametrize(
    'prefixes',
    [('module.',), ('_orig_mod.',), ('model.',), ('net.',), ('module.', '_orig_mod.'), ('model.', 'module.', 'net.')],
)
def test_prefixes_of_wrappers_are_taken_off(tmp_path, state, form, prefixes):
    path = tmp_path / f'w{form}'
    wrapped = prefixed(state, *prefixes)
    # A part of the training code beside the network.
    wrapped['loss.weight' if prefixes[0] in ('model.', 'net.') else 'n_averaged'] = torch.zeros(1)
    save_file(wrapped, path) if form == '.safetensors' else torch.save(wrapped, path)
    check(path, state)


def test_wrappers_inside_the_network_are_taken_off(tmp_path, state):
    """Only the blocks were compiled, or sharded."""
    names = {key: key.replace('aggregator.', 'aggregator._orig_mod.').replace('head.', 'head.module.') for key in state}
    torch.save({names[key]: value for key, value in state.items()}, tmp_path / 'w.pt')
    check(tmp_path / 'w.pt', state)


@pytest.mark.parametrize(
    'around',
    [
        lambda state: {'model': state, 'optimizer': {'state': {0: {'exp_avg': torch.zeros(3)}}}, 'epoch': 3},
        lambda state: {'state_dict': prefixed(state, 'model.'), 'hyper_parameters': {'lr': 0.1}, 'callbacks': {}},
        lambda state: {'ema': state, 'step': 1},
        lambda state: {'ema': {'shadow': prefixed(state, 'module.')}, 'model': None},
        lambda state: {
            'model_state_dict': OrderedDict(state),
            'args': argparse.Namespace(lr=1.0, out=pathlib.Path('x')),
        },
        lambda state: {'model': state, 'best': np.float64(0.5), 'rng': torch.get_rng_state()},
        lambda state: {'teacher': {'aggregator.camera_token': state['aggregator.camera_token']}, 'student': state},
    ],
)
def test_weights_are_found_in_the_state_of_a_training_run(tmp_path, state, around):
    torch.save(around(state), tmp_path / 'checkpoint.ckpt')
    check(tmp_path / 'checkpoint.ckpt', state)


def write_shards(folder, state, form='.safetensors', index=True):
    keys = list(state)
    stem, shards = ('model' if form == '.safetensors' else 'pytorch_model'), {}
    for number in range(3):
        shards[f'{stem}-{number + 1:05d}-of-00003{form}'] = keys[number::3]
    for name, part in shards.items():
        tensors = {key: state[key] for key in part}
        save_file(tensors, folder / name) if form == '.safetensors' else torch.save(tensors, folder / name)
    if index:
        table = {key: name for name, part in shards.items() for key in part}
        (folder / f'{stem}{form}.index.json').write_text(json.dumps({'metadata': {}, 'weight_map': table}))
    (folder / 'optimizer.pt').write_bytes(b'not read')
    return folder / f'{stem}{form}.index.json'


@pytest.mark.parametrize('form', ['.safetensors', '.bin'])
@pytest.mark.parametrize('wrapper', ['', 'module.'])
def test_shards_are_read_through_the_index_or_the_folder(tmp_path, state, form, wrapper):
    index = write_shards(tmp_path, prefixed(state, wrapper), form)
    check(index, state)
    check(tmp_path, state)


def test_shards_without_an_index_are_told_by_their_names(tmp_path, state):
    write_shards(tmp_path, state, index=False)
    check(tmp_path, state)
    check(tmp_path / 'model-00002-of-00003.safetensors', state)
    (tmp_path / 'model-00003-of-00003.safetensors').unlink()
    assert '1 of 3 shards are missing beside it, such as model-00003-of-00003' in refused(tmp_path)


def test_packed_weights_in_shards_and_the_preset_that_they_name(tmp_path, state):
    """A scale may lie in another shard than its matrix."""
    packed = {key: value.contiguous() for key, value in pack(state).items()}
    index = write_shards(tmp_path, packed)
    content = json.loads(index.read_text())
    index.write_text(json.dumps({**content, 'metadata': {PRESET_KEY: 'nano', 'total_size': 1}}))
    assert preset_of(str(tmp_path)) == 'nano'
    check(tmp_path, state, 'auto')


def test_a_folder_with_one_file_of_weights(tmp_path, state):
    torch.save(state, tmp_path / 'epoch_3.pth')
    (tmp_path / '._epoch_3.pth').write_bytes(b'\0\5\x16\7')
    (tmp_path / 'config.json').write_text('{}')
    check(tmp_path, state)
    torch.save(state, tmp_path / 'epoch_4.pth')
    assert 'folder with 2 files of weights (epoch_3.pth, epoch_4.pth): name one' in refused(tmp_path)
    save_file(state, tmp_path / 'model.safetensors')
    check(tmp_path, state)


def test_a_damaged_shard_and_a_damaged_index_are_named(tmp_path, state):
    index = write_shards(tmp_path, state)
    shard = tmp_path / 'model-00002-of-00003.safetensors'
    shard.write_bytes(shard.read_bytes()[:-10])
    assert 'model-00002-of-00003.safetensors: a truncated safetensors file' in refused(index)
    index.write_text('{"weight_map": ')
    assert 'not an index of weights in shards' in refused(index)
    write_shards(tmp_path, dict(list(state.items())[:-1]))
    assert 'weights are missing' in refused(tmp_path)


def test_a_model_that_was_saved_whole_says_how_to_save_it(tmp_path):
    torch.save({'model': torch.nn.Linear(2, 2)}, tmp_path / 'w.pth')
    message = refused(tmp_path / 'w.pth')
    assert 'torch.nn.modules.linear.Linear' in message and 'torch.save(model.state_dict(), FILE)' in message


def test_weights_of_another_preset_name_it(tmp_path, state):
    torch.save(prefixed(state, 'module.'), tmp_path / 'w.pth')
    assert 'another shape' in refused(tmp_path / 'w.pth', 'tiny') or 'missing' in refused(tmp_path / 'w.pth', 'tiny')
    small = load_network('random', 'small').state_dict()
    changed = {**small, 'aggregator.camera_token': torch.zeros(1, 2, 1, 5)}
    torch.save(changed, tmp_path / 'small.pth')
    assert 'say so' not in refused(tmp_path / 'small.pth', 'small')
    torch.save(small, tmp_path / 'small.pth')
    assert "these are of preset 'small': say so" in refused(tmp_path / 'small.pth', 'nano')


def test_a_file_that_torch_saved_before_it_wrote_archives(tmp_path, state):
    torch.save({'model': state}, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    check(tmp_path / 'old.pth', state)


def test_a_file_is_read_by_what_it_is_whatever_its_name_says(tmp_path, state):
    with (tmp_path / 'w.safetensors').open('wb') as file:
        torch.save(state, file)
    save_file(state, tmp_path / 'w.bin')
    assert 'rename it to w.pth' in refused(tmp_path / 'w.safetensors')
    check(tmp_path / 'w.bin', state)


def test_an_index_without_metadata_leaves_those_of_its_shards(tmp_path, state):
    save_file(state, tmp_path / 'one.safetensors', {PRESET_KEY: 'nano'})
    index = tmp_path / 'model.safetensors.index.json'
    index.write_text(json.dumps({'weight_map': dict.fromkeys(state, 'one.safetensors')}))
    assert preset_of(str(index)) == 'nano'
    check(index, state, 'auto')
