# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a stream must not notice: the bytes of slots that hold nothing, and other streams in the process."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch

from evict3r_ros.cache import CacheConfig
from evict3r_ros.network import load_network
from evict3r_ros.network.dense_head import MOST_POSITIONS
from evict3r_ros.stream import Stream

SIZE = (48, 160)
DEVICES = [
    'cpu',
    pytest.param('cuda', marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='torch finds no CUDA here')),
]


@pytest.fixture(scope='module', params=DEVICES)
def network(request):
    return load_network('random', 'nano', request.param)


def images(count, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(count)]


def answers(stream, frames, between=lambda: None):
    result = []
    for image in frames:
        answer = stream.step(image)
        result.append((answer.depth.cpu(), answer.world_from_camera))
        between()
    return result


def assert_same(ours, others):
    for (depth, pose), (other_depth, other_pose) in zip(ours, others, strict=True):
        assert torch.equal(depth, other_depth)
        np.testing.assert_array_equal(pose, other_pose)


@pytest.mark.parametrize('bits', [4, 16])
@pytest.mark.parametrize('policy', ['evict3r', 'uniform'])
def test_what_lies_in_free_slots_does_not_matter(network, policy, bits):
    """NaN in every free slot after every frame, in codes and ranges, changes no answer by a bit."""
    config = CacheConfig(policy, 120, bits=bits)
    with Stream(network, config, SIZE) as stream:
        clean = answers(stream, images(10))
        assert min(stream.stats().tokens) > 60
    with Stream(network, config, SIZE) as stream:

        def poison():
            rows, free = stream.cache.pool.tiers[0].rows, stream.cache.ledger.stacks[0].free()
            assert len(free) > 0
            rows[free] = 0xFF

        assert_same(answers(stream, images(10), poison), clean)


def test_two_streams_do_not_disturb_each_other(network):
    """Frame by frame in turns, one of them reset on the way: each answers as it does alone."""
    first, second = CacheConfig('evict3r', 120), CacheConfig('xstreamvggt', 130, bits=8)
    with Stream(network, first, SIZE) as stream:
        alone = answers(stream, images(9, 1))
    with Stream(network, second, SIZE) as stream:
        other_alone = answers(stream, images(5, 2))
        stream.reset()
        other_alone += answers(stream, images(4, 3))
    with Stream(network, first, SIZE) as stream, Stream(network, second, SIZE) as other:
        together, other_together = [], []
        for number, (image, other_image) in enumerate(zip(images(9, 1), images(5, 2) + images(4, 3), strict=True)):
            if number == 5:
                other.reset()
            together += answers(stream, [image])
            other_together += answers(other, [other_image])
    assert_same(together, alone)
    assert_same(other_together, other_alone)


def test_other_sizes_leave_a_streams_tables_alone(network):
    """A recorded frame reads position maps where they lie: they live as long as the stream, and no longer."""
    config, head = CacheConfig(tokens=512), network.depth_head

    def tables():
        return {table.data_ptr(): weakref.ref(table) for table in head._positions.values()}

    def see_other_sizes():
        for height in range(64, 64 + 16 * 8, 16):
            with Stream(network, config, (height, 160)) as other:
                other.step(np.full((height, 160, 3), 127, np.uint8))
        gc.collect()

    head._positions.clear()
    stream = Stream(network, config, SIZE)
    stream.step(images(1)[0])
    ours = tables()
    assert 8 * len(ours) > MOST_POSITIONS  # so that the others are too many to be kept
    see_other_sizes()
    assert ours.keys() <= tables().keys() and all(table() is not None for table in ours.values())
    assert len(head._positions) <= MOST_POSITIONS + 2 * len(ours)
    stream.close()
    del stream
    see_other_sizes()
    assert not any(table() is not None for table in ours.values())
    assert len(head._positions) <= MOST_POSITIONS + len(ours)
