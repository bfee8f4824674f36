# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The plan against bytes that are really there, and the commands that print it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from evict3r_ros.cache import CacheConfig, TierBits
from evict3r_ros.cli.main import main
from evict3r_ros.errors import UserError
from evict3r_ros.network import load_network
from evict3r_ros.stream import Stream
from evict3r_ros.stream.planning import StorageCounter, largest_tokens, plan, refuse_unless_fits, workspace_bytes

SIZE = (42, 154)
CONFIGS = [
    CacheConfig(tokens=300),
    CacheConfig('uniform', 300, bits=16),
    CacheConfig('ovggt', 300, anchors=1),
    CacheConfig('evict3r', 300, bits=TierBits()),
    CacheConfig('xstreamvggt', 300, budget='adaptive'),
]


@pytest.mark.parametrize(
    ('preset', 'weights_bits', 'config'),
    [*(('small', 16, config) for config in CONFIGS), ('nano', 8, CONFIGS[0]), ('nano', 4, CONFIGS[0])],
    ids=lambda value: f'{value.policy}-{value.bits}' if isinstance(value, CacheConfig) else value,
)
def test_against_a_real_stream(preset, weights_bits, config):
    """Every storage that a real stream on the CPU makes, until its cache is full, counted while it lives."""
    planned = plan(preset, config, SIZE, weights_bits=weights_bits)
    network = load_network('random', preset, weights_bits=weights_bits)
    assert planned.weights == sum(tensor.nbytes for tensor in network.state_dict().values())
    rng = np.random.default_rng(0)
    with StorageCounter() as counter, Stream(network, config, SIZE) as stream:
        opened = counter.bytes
        assert opened == planned.cache + planned.camera_cache + planned.bookkeeping + planned.scratch
        assert stream.cache.bytes == planned.cache
        for _ in range(22):
            stream.step(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    measured = planned.weights + counter.peak
    assert planned.total == pytest.approx(measured, rel=0.02)


def test_packed_weights_are_all_that_changes():
    """Weights of a half and less; tables and cache stay, and no layer's worth of weights is unpacked at a time."""
    plans = {
        bits: plan('small', CacheConfig('random', 500), SIZE, 'bfloat16', weights_bits=bits) for bits in (16, 8, 4)
    }
    for bits, share in ((8, 0.55), (4, 0.45)):
        assert plans[bits].weights < share * plans[16].weights
        assert plans[bits].tables == plans[16].tables and plans[bits].cache == plans[16].cache
        assert abs(plans[bits].activations - plans[16].activations) < 12 * 2**20
        assert plans[bits].total < plans[16].total
        assert f'linear layers in {bits} bits' in plans[bits].table()


def test_on_cuda_the_workspaces_of_cublas_count():
    here, there = (plan('nano', CacheConfig('random', 500), SIZE, cuda=cuda) for cuda in (False, True))
    assert here.workspaces == 0 and there.total - here.total == there.workspaces + there.runtime
    assert there.workspaces == 3 * (8 * 2**20 + 128 * 2**10) and 'cuBLAS workspaces' in there.table()
    assert workspace_bytes(torch.device('cpu')) == there.workspaces // 3


def test_more_tokens_take_more_and_the_largest_cache_fits():
    planned = plan('small', CacheConfig(tokens=500), SIZE)
    memory = planned.total + 50 * 2**20
    tokens = largest_tokens(planned, memory)
    fitting = plan('small', CacheConfig(tokens=tokens), SIZE)
    assert memory * 0.99 < fitting.total <= memory * 1.001
    assert fitting.cache > planned.cache
    refuse_unless_fits(planned, memory)
    with pytest.raises(UserError, match=r'the largest cache that fits is \d+ tokens'):
        refuse_unless_fits(fitting, planned.total + 2**20)
    with pytest.raises(UserError, match='even without a cache'):
        refuse_unless_fits(planned, planned.weights)


def test_the_official_network_beside_its_cache_on_an_orin_of_eight_gigabytes(capsys):
    """Half precision weights, 8192 tokens a layer at 4 bits, 518 x 392."""
    assert (
        main(['plan', '--preset', 'official', '--height', '392', '--width', '518', '--memory-gb', '8', '--json']) == 0
    )
    figures = json.loads(capsys.readouterr().out)
    assert figures['frame_tokens'] == 1041
    assert figures['bytes']['weights'] == 2 * sum(
        np.prod(shape, dtype=int) for key, shape in official_shapes().items() if not key.startswith('point_head.')
    )
    assert figures['bytes']['total'] < 4 * 2**30
    assert figures['largest_tokens_per_layer'] > 30000


def official_shapes() -> dict:
    from evict3r_ros.network import PRESETS, StreamVGGT

    with torch.device('meta'):
        return {key: tuple(value.shape) for key, value in StreamVGGT(PRESETS['official']).state_dict().items()}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--tokens', '2048', '--height', '392', '--width', '518'], '2082'),
        (['--preset', 'huge'], 'huge'),
        (['--preset', 'small', '--height', '100'], 'multiples of 14'),
        (['--preset', 'small', '--bits', '5'], 'bits'),
        (['--preset', 'small', '--policy', 'lru'], 'sliding_window'),
        (['--preset', 'small', '--memory-gb', '0.1'], 'even without a cache'),
        (['--memory-gb', 'nan'], 'positive'),
        (['--memory-mb', 'inf'], 'positive'),
        (['--bits', '²'], 'cache bits'),
        (['--height', '0', '--width', '70'], 'pixels'),
        (['--preset', 'small', '--policy', 'unbounded'], 'nothing to plan'),
    ],
)
def test_what_cannot_work_exits_with_2(capsys, arguments, message):
    assert main(['plan', *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1


def test_the_table(capsys):
    assert main(['plan', '--preset', 'small', '--tokens', '500', '--cpu', '--memory-gb', '4']) == 0
    lines = capsys.readouterr().out.splitlines()
    sizes = {line[:22].strip(): float(line[22:32]) for line in lines[:-1]}
    total = sizes.pop('total')
    del sizes['of these a layer']
    assert sum(sizes.values()) == pytest.approx(total, abs=0.5)
    assert lines[-1].startswith('largest cache in 4 GiB')


def test_bench():
    """The command as a user runs it: its figures are there, positive, and add up."""
    command = [
        sys.executable,
        '-m',
        'evict3r_ros.cli.main',
        'bench',
        '--height',
        '28',
        '--width',
        '154',
        '--frames',
        '6',
        '--tokens',
        '200',
        '--json',
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    report = json.loads(done.stdout)
    for key in ('median_ms', 'p99_ms', 'first_500_median_ms', 'last_100_median_ms', 'peak_gib'):
        assert report[key] > 0.0
    assert (report['frames'], report['tokens_per_layer'], report['bits'], report['policy']) == (6, 200, 4, 'evict3r')
    assert (report['preset'], report['height'], report['width'], report['device']) == ('small', 28, 154, 'cpu')
    parts = ('patch encoder', 'frame blocks', 'global blocks', 'camera head', 'depth head', 'eviction')
    assert 0.5 * report['median_ms'] < sum(report['stages'][part] for part in parts) < 1.5 * report['median_ms']


@pytest.mark.parametrize(
    'arguments',
    [
        ['--frames', '0'],
        ['--height', '30'],
        ['--height', '308'],
        ['--device', 'banana'],
        ['--device', 'meta'],
        ['--device', 'cuda:77'] if not torch.cuda.is_available() else ['--bits', '7'],
    ],
)
def test_bench_refuses(capsys, arguments):
    assert main(['bench', *arguments]) == 2
    assert capsys.readouterr().err.startswith('evict3r: error: ')
