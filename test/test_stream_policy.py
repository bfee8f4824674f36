# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What policy ``auto`` stands for, by the weights."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from evict3r_ros.cache import POLICIES, CacheConfig
from evict3r_ros.cli.main import main
from evict3r_ros.network import PRESETS, load_network, measured_policy
from evict3r_ros.network.checkpoint import POLICY_KEY, PRESET_KEY
from evict3r_ros.stream import Stream
from evict3r_ros.stream.default_policy import choose_policy


def test_a_users_word_stands_and_auto_follows_the_weights():
    assert choose_policy('uniform', 'tiny', 'evict3r').text == 'uniform (asked for)'
    named = choose_policy('auto', 'tiny', 'ovggt')
    assert named.policy == 'ovggt' and 'names it' in named.reason
    assert choose_policy('auto', 'tiny').policy == 'random'
    for preset in set(PRESETS) - {'tiny'}:
        choice = choose_policy('auto', preset)
        assert choice.policy == 'evict3r' and 'papers' in choice.reason


def test_every_presets_choice_is_a_policy():
    assert {choose_policy('auto', preset).policy for preset in PRESETS} <= set(POLICIES)


def test_a_file_of_weights_names_its_policy(tmp_path):
    """Through a stream as well: its config no longer says auto."""
    network = load_network('random', 'nano')
    path = tmp_path / 'mine.safetensors'
    tensors = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(tensors, path, {PRESET_KEY: 'nano', POLICY_KEY: 'uniform', 'format': 'pt'})
    assert measured_policy(str(path)) == 'uniform'
    loaded = load_network(str(path))
    with Stream(loaded, CacheConfig(tokens=200), (28, 42)) as stream:
        assert stream.config.policy == 'uniform'
    with Stream(network, CacheConfig(tokens=200), (28, 42)) as stream:
        assert stream.config.policy == 'evict3r'
    with Stream(loaded, CacheConfig('random', tokens=200), (28, 42)) as stream:
        assert stream.config.policy == 'random'


def test_words_and_other_files_name_none(tmp_path):
    """And nothing is fetched to find out."""
    assert measured_policy('random') == measured_policy('official') == ''
    path = tmp_path / 'old.pth'
    torch.save({'a': torch.zeros(1)}, path)
    assert measured_policy(str(path)) == ''


@pytest.mark.parametrize(('words', 'policy'), [([], 'random'), (['--preset', 'small'], 'evict3r')])
def test_a_plan_says_which_and_why(capsys, words, policy):
    arguments = ['plan', '--height', '42', '--width', '154', '--tokens', '500', '--cpu', *words]
    assert main([*arguments, '--json']) == 0
    said = json.loads(capsys.readouterr().out)
    assert said['policy'] == policy and said['policy_reason'].startswith('auto: ')
    assert main(arguments) == 0
    assert f'{policy} ({said["policy_reason"]})' in capsys.readouterr().out
