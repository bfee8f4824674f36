# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The estimate of a frame's time on a board: its parts, and that it is called what it is."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from evict3r_ros.cache import CacheConfig
from evict3r_ros.cli.main import main
from evict3r_ros.network import PRESETS, load_network
from evict3r_ros.network.packed_linear import weight_bytes
from evict3r_ros.ros.tools import middleware
from evict3r_ros.stream import Stream, frame_time
from evict3r_ros.stream.frame_time import BOARDS, MEASURED, Board, Measurement, Work, work_of_a_frame
from evict3r_ros.stream.planning import plan

SIZE = (42, 154)


def test_the_operations_are_those_of_a_real_frame():
    """Counted in a stream on the CPU, the first frame, which attends to nothing but itself."""
    network = load_network('random', 'small')
    with FlopCounterMode(display=False) as counter, Stream(network, CacheConfig('uniform', 200), SIZE) as stream:
        stream.run(torch.rand(3, *SIZE))
    work = work_of_a_frame('small', SIZE, 0, 0, scored=False)
    # The stream's own attention and the codec's few products besides.
    assert work.operations == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_the_cache_adds_its_products_and_its_bytes():
    small = PRESETS['small']
    without, beside, scored = (
        work_of_a_frame('small', SIZE, tokens, bytes_, is_scored)
        for tokens, bytes_, is_scored in ((0, 0, False), (1000, 5_000_000, False), (1000, 5_000_000, True))
    )
    frame = small.special_tokens + SIZE[0] // 14 * (SIZE[1] // 14)
    product = 2 * frame * 1000 * small.width * small.pairs
    assert beside.operations - without.operations == pytest.approx(2 * product)
    assert scored.operations - beside.operations == pytest.approx(product)
    unpacked = 2 * 1000 * small.width * 2 * small.pairs
    assert beside.moved - without.moved == pytest.approx(5_000_000 + 2 * unpacked)


def test_packed_weights_are_moved_in_their_bits():
    whole, packed = (work_of_a_frame('small', SIZE, 0, 0, False, weights_bits=bits) for bits in (16, 8))
    assert whole.operations == packed.operations
    network = load_network('random', 'small', dtype='bfloat16', weights_bits=8)
    assert packed.moved == weight_bytes(network) + 3 * weight_bytes(network.camera_head)
    assert 0.5 < packed.moved / whole.moved < 0.55


def test_the_time_is_the_work_over_the_rates_over_the_share(monkeypatch):
    monkeypatch.setattr(frame_time, 'MEASURED', (Measurement((28, 42), 100, True, 0.5), MEASURED[1]))
    monkeypatch.setattr(frame_time, 'measured_share', lambda measurement, cache_bytes: 0.25)
    planned = plan('small', CacheConfig('evict3r', 300), SIZE, 'bfloat16', cuda=True)
    found = frame_time.estimate(planned, Board('slow', 1e9, 1e12), SIZE)
    assert found.nearest == Measurement((28, 42), 100, True, 0.5)
    assert found.seconds == pytest.approx((found.work.moved / 1e9 + found.work.operations / 1e12) / 0.25)
    assert found.work == work_of_a_frame('small', SIZE, 300, planned.cache, scored=True)
    assert Work(2e9, 3e12).seconds(Board('any', 1e9, 1e12)) == pytest.approx(5.0)


def test_every_board_has_its_profile():
    for name in BOARDS:
        middleware.shared_file(f'config/{name}.yaml')


def test_a_plan_for_a_board(capsys):
    """The profile's settings, overridden by what stands behind it; the estimate with both of its factors."""
    arguments = ['plan', '--profile', 'orin_nano_8gb', '--width', '154', '--tokens', '600']
    assert main([*arguments, '--json']) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said['tokens_per_layer'], said['weights_bits'], said['policy']) == (600, 8, 'evict3r')
    found = said['estimate']
    assert found['measured'] is False and 0.2 < found['share'] < 0.6 and found['share_of'] == 'H100'
    assert (found['size'], found['board']) == ([112, 154], 'Jetson Orin Nano 8 GB')
    published = found['gigabytes'] / found['published_gigabytes_a_second']
    published += found['teraflop'] / found['published_teraflop_a_second']
    assert found['milliseconds'] == pytest.approx(1e3 * published / found['share'])


def test_a_profile_that_is_not_there(capsys):
    with pytest.raises(SystemExit) as ended:
        main(['plan', '--profile', 'orin_micro'])
    assert ended.value.code == 2 and 'no such profile' in capsys.readouterr().err


def test_a_profile_without_a_board_has_no_estimate(capsys):
    assert main(['plan', '--profile', 'cpu_demo', '--json']) == 0
    said = json.loads(capsys.readouterr().out)
    assert 'estimate' not in said and 'CUDA_runtime' not in said['bytes']
