# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Networks with packed weights: which layers, how many bytes, and how near they answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from evict3r_ros.cache import CacheConfig
from evict3r_ros.errors import UserError
from evict3r_ros.network import load_network
from evict3r_ros.network.packed_linear import PackedLinear, packed_layers, weight_bytes
from evict3r_ros.network.precision import check_weight_bits
from evict3r_ros.stream import Stream
from evict3r_ros.stream.planning import plan

SIZE = (42, 154)


@pytest.fixture(scope='module')
def networks():
    """Return the same weights in 16 (here float32), 8 and 4 bits."""
    return {bits: load_network('random', 'nano', weights_bits=bits) for bits in (16, 8, 4)}


def test_nothing_of_a_packed_matrix_is_left_in_16_bits(networks):
    """Every linear layer but the two at the pose is packed; the bytes are those of the plan."""
    whole = {name for name, layer in networks[16].named_modules() if isinstance(layer, nn.Linear)}
    for bits in (8, 4):
        network = networks[bits]
        left = {name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)}
        packed = {name for name, layer in network.named_modules() if isinstance(layer, PackedLinear)}
        assert left == {'camera_head.embed_pose', 'camera_head.pose_branch.fc2'}
        assert packed == whole - left
        assert not any(name.endswith('.weight') and name[: -len('.weight')] in packed for name in network.state_dict())
        planned = plan('nano', CacheConfig('random', 300), SIZE, weights_bits=bits)
        assert planned.weights == weight_bytes(network)
        numbers = {name: layer.weight.numel() for name, layer in networks[16].named_modules() if name in packed}
        saved = sum((32 - 8 if name.startswith('camera_head') else 32 - bits) / 8 * numbers[name] for name in packed)
        # Ranges take some of it back: an eighth of 4 bits, less of 8.
        assert 0.95 * saved < weight_bytes(networks[16]) - weight_bytes(network) < saved


def test_the_camera_head_keeps_eight_bits(networks):
    bits = packed_layers(networks[16], 4)
    assert {8} == {number for name, number in bits.items() if name.startswith('camera_head.')}
    assert {4} == {number for name, number in bits.items() if not name.startswith('camera_head.')}
    codes = {name: layer.codes.dtype for name, layer in networks[4].named_modules() if isinstance(layer, PackedLinear)}
    assert codes['camera_head.trunk.0.mlp.fc1'] == torch.int8
    assert codes['aggregator.global_blocks.0.attn.qkv'] == torch.uint8


def test_fewer_bits_answer_near_and_further_with_fewer(networks):
    """Against the same weights unpacked: the error of the depth falls with the bits, and is small."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(3)]
    depths = {}
    for bits, network in networks.items():
        with Stream(network, CacheConfig('uniform', 200), SIZE) as stream:
            depths[bits] = np.stack([stream.step(image).depth.numpy() for image in images])
    error = {bits: float(np.abs(depths[bits] / depths[16] - 1.0).mean()) for bits in (8, 4)}
    assert 0.0 < error[8] < 0.02 and error[8] < error[4] < 0.2


def test_the_packages_own_weights_lose_nothing_in_eight_bits():
    """They lie in their file as 8 bits with a scale an output channel, and stay what they are."""
    whole, packed = load_network('tiny'), load_network('tiny', weights_bits=8)
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (84, 112, 3), dtype=np.uint8)
    answers = []
    for network in (whole, packed):
        with Stream(network, CacheConfig('random', 200), (84, 112), image_width=112) as stream:
            answers.append(stream.step(image))
    torch.testing.assert_close(answers[1].depth, answers[0].depth, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(answers[1].world_from_camera, answers[0].world_from_camera, atol=1e-3)


@pytest.mark.parametrize('bits', [0, 2, 12, 32])
def test_other_bits_are_refused(bits):
    with pytest.raises(UserError, match=f'weights of {bits} bits: give one of 16, 8, 4'):
        check_weight_bits(bits)
    with pytest.raises(UserError, match='give one of 16, 8, 4'):
        load_network('random', 'nano', weights_bits=bits)
