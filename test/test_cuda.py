# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The stream on a GPU: the CPU's outputs, and the plan's bytes. Runs where torch finds CUDA."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from evict3r_ros import kernels
from evict3r_ros.cache import POLICIES, CacheConfig, TierBits
from evict3r_ros.network import load_network
from evict3r_ros.profiling.stage_clock import StageClock
from evict3r_ros.stages import on_stage
from evict3r_ros.stream import Stream
from evict3r_ros.stream.planning import plan, workspace_bytes

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='torch finds no CUDA here')

SIZE = (98, 154)
CONFIGS = {
    **{name: CacheConfig(name, 260) for name in POLICIES},
    'pooled': CacheConfig('evict3r', 260, scores='pooled'),
    'mixed': CacheConfig('evict3r', 260, bits=TierBits()),
    'adaptive': CacheConfig('evict3r', 260, budget='adaptive'),
    'anchors': CacheConfig('ovggt', 300, anchors=3, anchor_share=0.05),
    '32 bits': CacheConfig('evict3r', 260, bits=32),
}


@pytest.fixture(scope='module')
def networks():
    """Return the same weights on the CPU and on the card."""
    network = load_network('random', 'small')
    moved = load_network('random', 'small')
    return network, moved.to('cuda')


@pytest.mark.parametrize('name', CONFIGS)
def test_same_answers_as_on_the_cpu(networks, name):
    """Float32 on both; keep-sets may differ where scores nearly tie, so a few tokens of many may."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(10)]
    outputs, kept = [], []
    for network in networks:
        with Stream(network, CONFIGS[name], SIZE) as stream:
            outputs.append([stream.step(image) for image in images])
            kept.append(
                {
                    (layer, *token)
                    for layer in range(4)
                    for token in stream.cache.kept(layer).cpu().numpy().tolist()
                    for token in [tuple(token)]
                }
            )
    for ours, other in zip(*outputs, strict=True):
        difference = (ours.depth - other.depth.cpu()).abs().max() / ours.depth.abs().max()
        assert difference < 0.02
        # Untrained weights answer small differences with large ones, and an anchor is chosen by a threshold.
        tolerance = 0.3 if name == 'anchors' else 0.05
        np.testing.assert_allclose(ours.world_from_camera, other.world_from_camera, atol=tolerance)
    assert len(kept[0] & kept[1]) >= (0.9 if name == 'anchors' else 0.95) * len(kept[0])


@pytest.mark.parametrize('name', CONFIGS)
def test_a_recorded_stream_answers_as_one_that_is_not(networks, name):
    """The same kernels in the same order, but for tables of other widths: frame for frame, also after a reset."""
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(12)]
    with (
        Stream(networks[1], CONFIGS[name], SIZE) as recorded,
        Stream(networks[1], CONFIGS[name], SIZE, graph=False) as plain,
    ):
        for number, image in enumerate(images):
            if number == 7:
                recorded.reset()
                plain.reset()
            ours, other = recorded.step(image), plain.step(image)
            torch.testing.assert_close(ours.depth, other.depth, rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(ours.world_from_camera, other.world_from_camera, atol=1e-2)
        for layer in range(4):
            kept = [{tuple(token) for token in stream.cache.kept(layer).tolist()} for stream in (recorded, plain)]
            assert len(kept[0] & kept[1]) >= 0.98 * len(kept[1])


@pytest.mark.parametrize('name', ['evict3r', 'anchors'])
def test_a_recorded_frame_that_is_not_remembered_leaves_no_trace(networks, name):
    """It is answered as one that is, and the cache keeps what it kept, before and after its graph is recorded."""
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(16)]
    with Stream(networks[1], CONFIGS[name], SIZE) as stream, Stream(networks[1], CONFIGS[name], SIZE) as without:
        for number, image in enumerate(images):
            if number > 4 and number % 2:
                pool = stream.cache.pool._storage.clone()
                looked = stream.step(image, remember=False)
                stream.step(images[0], remember=False)
                assert torch.equal(stream.cache.pool._storage, pool)
                ours, other = stream.step(image), without.step(image)
                torch.testing.assert_close(looked.depth, ours.depth, rtol=1e-3, atol=1e-3)
            else:
                ours, other = stream.step(image), without.step(image)
            torch.testing.assert_close(ours.depth, other.depth, rtol=1e-3, atol=1e-3)
        for layer in range(4):
            kept = [{tuple(token) for token in each.cache.kept(layer).tolist()} for each in (stream, without)]
            assert len(kept[0] & kept[1]) >= 0.98 * len(kept[1])


@pytest.mark.parametrize('name', ['evict3r', 'pooled', 'uniform', 'xstreamvggt'])
def test_a_steady_frame_neither_asks_nor_allocates(networks, name):
    """No synchronisation of the device but the wait for the pose, no memory but the answer's own three tensors."""
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(20)]
    with Stream(networks[1], CONFIGS[name], SIZE) as stream:
        for image in images[:10]:
            stream.step(image)
        before = torch.cuda.memory_stats()
        torch.cuda.set_sync_debug_mode('error')
        try:
            for image in images[10:]:
                stream.step(image)
        finally:
            torch.cuda.set_sync_debug_mode('default')
        after = torch.cuda.memory_stats()
    assert after['segment.all.allocated'] == before['segment.all.allocated']
    assert after['allocation.all.allocated'] - before['allocation.all.allocated'] == 3 * 10


def test_stages_are_timed_in_every_replay_of_a_graph(networks):
    """A graph recorded while a clock listens answers as one that is not timed, and each replay has all stages."""
    rng = np.random.default_rng(4)
    clock = StageClock(torch.device('cuda'))
    with Stream(networks[1], CONFIGS['evict3r'], SIZE) as timed, Stream(networks[1], CONFIGS['evict3r'], SIZE) as plain:
        for number in range(9):
            image = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            if number == 5:
                timed.forget_graph()
            with on_stage(clock) if number >= 5 else nullcontext():
                ours = timed.step(image)
            if number >= 5:
                clock.end_frame()
            torch.testing.assert_close(ours.depth, plain.step(image).depth, rtol=1e-3, atol=1e-3)
    expected = {
        'copy of the image',
        'patch encoder',
        'frame blocks',
        'global blocks',
        'attention with cache, in global blocks',
        'quantization, in attention',
        'unpacking, in attention',
        'scoring by keys, in attention',
        'eviction',
        'camera head',
        'depth head',
        *(['scoring by attention'] if kernels.engine_for(torch.device('cuda')) == 'triton' else []),
    }
    assert clock.frames.keys() == expected
    assert all(len(times) == 4 and min(times) >= 0.0 for times in clock.frames.values())
    assert min(clock.frames['depth head']) > 0.0


@pytest.mark.parametrize('weights_bits', [16, 8, 4])
@pytest.mark.parametrize(('preset', 'size', 'tokens'), [('small', SIZE, 1000), ('official', (392, 518), 8192)])
def test_the_plan_is_what_is_allocated(preset, size, tokens, weights_bits):
    """Weights, cache and everything else, at the worst moment, in half precision.

    cuBLAS's workspaces count, and those that earlier tests left behind would hide some of them.
    """
    config = CacheConfig('evict3r', tokens)
    workspace = workspace_bytes(torch.device('cuda'))
    planned = plan(preset, config, size, 'bfloat16', cuda=True, weights_bits=weights_bits, workspace=workspace)
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    network = load_network('random', preset, 'cuda', 'bfloat16', weights_bits=weights_bits)
    torch.cuda.reset_peak_memory_stats()
    rng = np.random.default_rng(0)
    with Stream(network, config, size, image_width=size[1]) as stream:
        for _ in range(2 * tokens // stream.cache.shape.frame_tokens + 3):
            stream.step(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    measured = torch.cuda.max_memory_allocated() - before
    print(f'planned {(planned.total - planned.runtime) / 2**20:.0f} MiB, measured {measured / 2**20:.0f} MiB')
    # The plan's activations are those of plain torch; kernels that score and unpack in registers need less.
    spare = planned.total - planned.runtime - measured
    assert -0.1 * measured < spare < max(0.1 * measured, planned.activations)
    assert measured < planned.total


@pytest.mark.parametrize('bits', [8, 4])
def test_packed_weights_answer_as_on_the_cpu(bits):
    """The kernels that unpack inside the product against the reference, through a whole recorded stream."""
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(6)]
    answers = []
    for device in ('cpu', 'cuda'):
        network = load_network('random', 'small', weights_bits=bits).to(device)
        with Stream(network, CONFIGS['uniform'], SIZE) as stream:
            answers.append([stream.step(image) for image in images])
    for ours, other in zip(*answers, strict=True):
        assert (ours.depth - other.depth.cpu()).abs().max() < 0.02 * ours.depth.abs().max()
        np.testing.assert_allclose(ours.world_from_camera, other.world_from_camera, atol=0.05)


def test_worlds_look_the_same_as_on_the_cpu():
    """But for pixels on an edge, where rounding decides which surface is hit."""
    from evict3r_ros.synthetic.clips import render_clips

    here, there = (render_clips([3, 4, 5], 4, 8, (84, 112), device=device) for device in ('cpu', 'cuda'))
    assert ((there.depth.cpu() - here.depth).abs() / here.depth < 1e-3).float().mean() > 0.999
    assert ((there.images.cpu().int() - here.images.int()).abs() <= 2).float().mean() > 0.995


def test_trainings_attention_is_the_causal_masks():
    from evict3r_ros.network import CausalMemory
    from evict3r_ros.training.memory import FlexMemory

    for tokens in (5, 5 * 197):
        parts = [
            torch.randn(2, 5, tokens, 64, device='cuda', dtype=torch.bfloat16, requires_grad=True) for _ in range(3)
        ]
        outputs, gradients = [], []
        for memory in (CausalMemory(5), FlexMemory(5)):
            outputs.append(memory.attend(0, *parts))
            gradients.append(torch.autograd.grad(outputs[-1].float().square().sum(), parts))
        torch.testing.assert_close(outputs[0], outputs[1], rtol=2e-2, atol=2e-2)
        for ours, other in zip(*gradients, strict=True):
            assert (ours - other).float().norm() < 0.02 * ours.float().norm()


@pytest.mark.ros
@pytest.mark.timeout(300)
def test_the_live_node_answers_from_the_card():
    """Over DDS, with everything subscribed by another process."""
    pytest.importorskip('rclpy', reason='ROS 2 is not installed here')
    words = [
        '--minutes',
        '0.1',
        '--weights',
        'tiny',
        '--device',
        'cuda',
        '--rate',
        '20',
        '--subscribe',
        'all',
        '--json',
    ]
    done = subprocess.run(
        [sys.executable, '-m', 'evict3r_ros.cli.main', 'soak', *words], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told['device'].startswith('cuda') and told['failed'] == 0
    assert told['answers_heard'] == told['answered'] > 50
    assert told['stamp_to_odometry_p50_ms'] <= told['stamp_to_cloud_p50_ms']
