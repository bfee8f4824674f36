# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Attention maps against the whole matrix written out, what the cache keeps against the cache, and the pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from evict3r_ros.cache import POLICIES, CacheConfig
from evict3r_ros.cache.config import TierBits
from evict3r_ros.camera.view import ImageView
from evict3r_ros.cli.main import main
from evict3r_ros.errors import UserError
from evict3r_ros.evaluation.attention import plots as attention_plots
from evict3r_ros.evaluation.attention.maps import attention_to_groups, record
from evict3r_ros.network import load_network
from evict3r_ros.network.memory import CausalMemory
from evict3r_ros.stream import Stream
from evict3r_ros.synthetic.clips import WorldStream

SIZE, COUNT = (42, 56), 5
TOKENS = 5 + 3 * 4


@pytest.fixture(scope='module')
def network():
    return load_network('random', 'nano')


@pytest.fixture(scope='module')
def images():
    return [frame.image for frame in WorldStream(7, COUNT, size=SIZE, effects=False)]


def run(network, config, images, layers, **more):
    return record(network, config, iter(images), len(images), layers, SIZE[1], **more)


def whole_matrix(network, images, layer):
    """(T N, T N): head mean of the softmax over all tokens at once, by one causal pass, with nothing of the cache."""
    seen = {}

    class Looking(CausalMemory):
        def attend(self, layer, query, key, value):
            seen[layer] = query[0], key[0]
            return super().attend(layer, query, key, value)

    view = ImageView.of(SIZE, SIZE[1])
    prepared = torch.stack([view.prepare(torch.from_numpy(image)) for image in images])[None]
    with torch.inference_mode():
        network(
            network.normalise(prepared),
            torch.arange(len(images)) == 0,
            network.aggregator.grid(view.patches),
            Looking(len(images)),
            CausalMemory(len(images)),
        )
    query, key = seen[layer]
    scores = query.double() @ key.double().transpose(1, 2) / query.shape[-1] ** 0.5
    frame = torch.arange(len(images)).repeat_interleave(TOKENS)
    return scores.masked_fill(frame[None, :, None] < frame[None, None, :], -torch.inf).softmax(-1).mean(0).numpy()


def test_the_maps_are_the_whole_matrix(network, images):
    layers = [3, 1]
    maps = run(network, CacheConfig('unbounded', bits=32), images, layers)
    assert maps.tokens_per_pixel == 1 and maps.tokens.shape == (2, COUNT * TOKENS, COUNT * TOKENS)
    for row, layer in enumerate(layers):
        matrix = whole_matrix(network, images, layer)
        by_frame = matrix.reshape(COUNT, TOKENS, COUNT, TOKENS).sum(3).mean(1)
        assert np.allclose(maps.frames[row], by_frame, atol=1e-4)
        past = matrix > 0
        assert np.array_equal(np.isfinite(maps.tokens[row]), past)
        assert np.allclose(maps.tokens[row][past], (matrix / matrix.max(1, keepdims=True))[past], atol=2e-3)
    assert (maps.kept[-1] == network.preset.pairs).all()


def test_a_coarse_map_is_the_mean_of_the_fine_one(network, images):
    config = CacheConfig('unbounded', bits=32)
    fine = run(network, config, images[:4], [2])
    coarse = run(network, config, images[:4], [2], pixels=4)
    assert coarse.tokens_per_pixel == TOKENS and coarse.tokens.shape == (1, 4, 4)
    matrix = whole_matrix(network, images[:4], 2).reshape(4, TOKENS, 4, TOKENS).mean(3)
    with np.errstate(invalid='ignore'):
        expected = (matrix / matrix.max(2, keepdims=True)).mean(1)
    lower = np.tril(np.ones((4, 4), bool))
    assert np.allclose(coarse.tokens[0][lower], expected[lower], atol=2e-3) and np.isnan(coarse.tokens[0][~lower]).all()
    assert np.array_equal(coarse.frames, fine.frames)


def test_a_source_that_ends_early_leaves_smaller_maps(network, images):
    config = CacheConfig('unbounded', bits=32)
    short = record(network, config, iter(images[:3]), 5, [2], SIZE[1])
    whole = run(network, config, images[:3], [2])
    for name in ('frames', 'tokens', 'kept', 'images'):
        assert np.array_equal(getattr(short, name), getattr(whole, name), equal_nan=name == 'tokens'), name
    with pytest.raises(UserError, match='no images'):
        run(network, config, [], [2])


def test_attention_to_groups_by_hand():
    torch.manual_seed(0)
    query, keys = torch.randn(2, 3, 4), torch.randn(2, 11, 4)
    valid, group = torch.arange(11) != 5, torch.arange(11) % 9
    weights = (query @ keys.transpose(1, 2) / 2).masked_fill(~valid, -torch.inf).softmax(-1).mean(0)
    expected = torch.stack([weights[:, group == number].sum(1) for number in range(9)], dim=1)
    assert torch.allclose(attention_to_groups(query, keys, valid, group, 9), expected, atol=1e-6)


@pytest.mark.parametrize(
    'config',
    [
        *(CacheConfig(policy, 45) for policy in POLICIES),
        CacheConfig('evict3r', 45, bits=TierBits()),
        CacheConfig('evict3r', 45, budget='adaptive'),
        CacheConfig('ovggt', 60, anchors=2, anchor_share=0.1),
        CacheConfig('evict3r', share=0.5, sequence_length=COUNT),
    ],
    ids=str,
)
def test_on_every_policy_what_is_kept_is_what_the_cache_keeps_and_nothing_is_disturbed(network, images, config):
    maps = run(network, config, images, [0, 3])
    kept = np.zeros_like(maps.kept)
    with Stream(network, config, SIZE, SIZE[1]) as stream:
        for index, image in enumerate(images):
            stream.step(image)
            for layer in range(network.preset.pairs):
                for frame, token in stream.cache.kept(layer).tolist():
                    kept[index, frame, token] += 1
    assert np.array_equal(maps.kept, kept)
    # All attention goes to frames that have come, and none to what a frame before has evicted.
    assert np.allclose(maps.frames.sum(2), 1.0, atol=1e-4)
    assert not maps.frames[:, np.triu(np.ones((COUNT, COUNT), bool), 1)].any()
    gone = np.isnan(maps.tokens[0]).reshape(COUNT, TOKENS, COUNT, TOKENS).all(1)
    for now in range(1, COUNT):
        assert gone[now][:now][kept[now - 1][:now] == 0].all()
        assert not gone[now, now].any()


def test_a_sliding_window_by_hand(network, images):
    maps = run(network, CacheConfig('sliding_window', 2 * TOKENS), images, [0])
    full = network.preset.pairs
    assert (maps.kept[-1, :3] == 0).all() and (maps.kept[-1, 3:] == full).all()
    assert maps.frames[0, 4, :2].max() == 0 and maps.frames[0, 4, 2:].min() > 0


@pytest.mark.parametrize('layers', [[], [4], [-1], [1, 1]])
def test_layers_that_are_not_there(network, images, layers):
    with pytest.raises(UserError, match='give some of 0 to 3'):
        run(network, CacheConfig('unbounded'), images, layers)


def test_an_overlay_shows_what_is_gone():
    image = np.full((28, 42, 3), (200, 100, 50), np.uint8)
    share = np.array([1, 1, 0, 0, 0, 1, 0.5, 0, 1, 1, 1], np.float32)
    drawn = attention_plots.overlay(image, share, (2, 3), 5).astype(int)
    assert drawn[20, 7].tolist() == drawn[20, 35].tolist() == [200, 100, 50]
    gone = drawn[12, 38]
    assert gone.max() < 140 and gone[2] > gone[0] > gone[1]  # no layer keeps it: violet
    assert np.allclose(drawn[12, 20], (np.array([200, 100, 50]) + gone) / 2, atol=1)
    # Two of five special tokens are kept.
    squares = drawn[3, [3 + 5 * number for number in range(5)]]
    assert (squares[:2] == [60, 200, 90]).all() and (squares[2:] == 60).all()


def test_the_command(tmp_path, capsys):
    shots, out = tmp_path / 'shots', tmp_path / 'out'
    shots.mkdir()
    for index, frame in enumerate(WorldStream(7, 8, size=(84, 112), effects=False)):
        cv2.imwrite(str(shots / f'{index}.png'), frame.image)
    command = [
        'attention',
        str(shots),
        '--out',
        str(out),
        '--weights',
        'random',
        '--preset',
        'nano',
        '--image-width',
        '112',
        '--device',
        'cpu',
        '--tokens',
        '130',
    ]
    assert main([*command, '--layers', '0,2', '--pixels', '200']) == 0
    assert {path.name for path in out.iterdir()} == {
        '.evict3r',
        'tokens_layer_00.png',
        'tokens_layer_02.png',
        'tokens_mean.png',
        'frames.png',
        'kept.png',
        'evictions.png',
        'attention.npz',
    }
    for path in out.glob('*.png'):
        picture = cv2.imread(str(path))
        assert picture.shape[1] > 500 and picture.std() > 20, path.name
    # A banner in red on the pages of images.
    assert (cv2.imread(str(out / 'kept.png'))[:20].astype(int) @ [-1, -1, 1] > 50).any()
    with np.load(out / 'attention.npz') as arrays:
        assert arrays['frames'].shape == (2, 8, 8) and arrays['kept'].shape == (8, 8, 53)
        assert arrays['tokens'].shape[1] <= 200 and arrays['tokens_per_pixel'] == 3
        assert arrays['kept'][-1].sum() <= 4 * 130
    assert main([*command, '--layers', 'all', '--P', '0.5', '--frames', '5']) == 0
    assert (out / 'tokens_layer_03.png').exists()
    capsys.readouterr()
    assert main([*command, '--layers', '9']) == 2 and 'give some of 0 to 3' in capsys.readouterr().err
    assert main([*command, '--pixels', '1']) == 2 and '--pixels 1' in capsys.readouterr().err
    (tmp_path / 'thesis').mkdir()
    (tmp_path / 'thesis' / 'thesis.tex').write_text('mine')
    assert main([*command, '--out', str(tmp_path / 'thesis')]) == 2
    with pytest.raises(SystemExit):
        main([*command, '--layers', 'some'])
