# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Segments on the command line: evaluated beside one stream, over laps of a loop, and planned."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from evict3r_ros.cli.main import main
from evict3r_ros.errors import UserError
from evict3r_ros.evaluation.configurations import Configuration, combinations, parse_mapping
from evict3r_ros.evaluation.held_out import HeldOut
from evict3r_ros.evaluation.mapped import is_same_place
from evict3r_ros.mapping import MappingSettings, SegmentSettings
from evict3r_ros.mapping.opening import open_mapper
from evict3r_ros.mapping.planning import largest_tokens_of_both, rows_of_both, second_stream
from evict3r_ros.stream.planning import plan
from evict3r_ros.synthetic.clips import render_clips

SMALL = ('--weights', 'random', '--preset', 'small', '--image-width', '56', '--device', 'cpu')


def test_segments_are_measured_beside_one_stream_over_laps(capsys, tmp_path):
    segments = 'odometry:length=10:overlap=6:motion=0.0:most_turn=9.0'
    command = ['eval', 'synthetic', '--clips', '1', '--frames', '20', '--stride', '4', '--loop', '--laps', '2', *SMALL]
    command += [
        '--policies',
        'random',
        '--budgets',
        '60',
        '--mapping',
        f'{segments},off',
        '--out',
        str(tmp_path),
        '--json',
    ]
    assert main(command) == 0
    printed = capsys.readouterr().out
    found = json.loads(printed)
    # Keyframe 11 begins each next segment, and six frames of it overlap.
    assert found['segments'] == 4 and found['keyframes'] == 40 and found['failed'] == 0
    for name in ('rotation_deg', 'ate_over_length', 'last_lap_rotation_deg', 'last_lap_ate_over_length'):
        assert found[name] >= 0.0
    assert found['laps'] == 2 and found['frames'] == 20
    on, off = found['table']
    assert on['mapping'] == segments and off['mapping'] == 'off' and 'segments' not in off
    assert on['cache_mib'] == pytest.approx(2 * off['cache_mib'])
    records = [json.loads(line) for line in (tmp_path / 'streams.jsonl').read_text().splitlines()]
    assert 'mapping' not in records[1]['configuration'] and records[0]['stream']['laps'] == 2
    assert main(command) == 0 and capsys.readouterr().out == printed, 'what is there is not measured again'
    assert main([word for word in command if word != '--json']) == 0
    table = capsys.readouterr().out
    assert f'random, mapping {segments}' in table and 'loops gone round 2 times' in table


def test_laps_go_round_the_same_way():
    once, twice = (render_clips([5], 6, 4, (42, 56), effects=False, loop=True, laps=laps) for laps in (1, 2))
    assert twice.depth.shape[1] == 12
    np.testing.assert_allclose(twice.world_from_camera[0, :6], once.world_from_camera[0], atol=1e-9)
    np.testing.assert_allclose(twice.world_from_camera[0, 6:], once.world_from_camera[0], atol=1e-6)
    np.testing.assert_allclose(twice.depth[0, 6:], once.depth[0], atol=1e-3)


def test_mapping_is_said_as_a_policy_is():
    assert parse_mapping('off') is None
    assert parse_mapping('odometry') == SegmentSettings()
    assert parse_mapping('odometry:length=48:overlap=12') == SegmentSettings(length=48, overlap=12)
    found = combinations(['random'], ['2500'], ['4'], ['96'], ['off', 'odometry'])
    assert [configuration.mapping for configuration in found] == ['off', 'odometry']
    assert found[0].name == 'random 2500, 4 bits, camera 96'
    assert found[1].name == 'random 2500, 4 bits, camera 96, mapping odometry'
    assert Configuration(**found[0].as_dict()) == found[0] and Configuration(**found[1].as_dict()) == found[1]


@pytest.mark.parametrize(
    'text',
    [
        'maps',
        'off:length=3',
        'odometry:gap=50',
        'mapping:gap=1',
        'odometry:colour=3',
        'odometry:length=x',
        'odometry:length=9',
    ],
)
def test_mappings_that_cannot_be_are_refused(text):
    with pytest.raises(UserError):
        combinations(['random'], ['2500'], ['4'], ['96'], [text])


def test_only_a_loop_has_laps():
    with pytest.raises(UserError, match='loop'):
        HeldOut(laps=2)
    with pytest.raises(UserError, match='laps'):
        HeldOut(laps=0, loop=True)


@pytest.mark.parametrize('cuda', [False, True])
def test_a_plan_shows_both_streams_and_the_largest_cache_of_both(cuda):
    from evict3r_ros.cache import CacheConfig

    size = (56, 56)
    one = plan('small', CacheConfig('random', 400), size, cuda=cuda)
    rows = {what.strip(): size for what, size, _ in rows_of_both(one)}
    assert rows['total'] == one.total + rows['second stream'] == one.total + second_stream(one)
    assert rows['second stream'] > one.cache + one.camera_cache
    memory = rows['total'] + 2**20
    tokens = largest_tokens_of_both(one, memory)
    assert tokens > 400
    fitting = plan('small', CacheConfig('random', tokens), size, cuda=cuda)
    assert fitting.total + second_stream(fitting) == pytest.approx(memory, rel=0.02)


def test_plan_refuses_two_streams_where_one_fits(capsys):
    arguments = ['plan', '--preset', 'small', '--width', '56', '--tokens', '400', '--cpu', '--json']
    assert main(arguments) == 0
    total = json.loads(capsys.readouterr().out)['bytes']['total']
    room = ['--memory-gb', str((total + 1000) / 2**30)]
    assert main([*arguments, *room]) == 0
    assert main([*arguments, *room, '--mapping', 'odometry']) == 2
    captured = capsys.readouterr()
    assert 'two streams' in captured.err and 'tokens a layer of each' in captured.err
    assert json.loads(captured.out.splitlines()[-1])['bytes']['second_stream'] > 0


def test_a_map_is_measured_beside_its_odometry(capsys):
    odometry = 'length=10:overlap=6:motion=0.0:most_turn=9.0'
    loops = f'mapping:{odometry}:gap=8:window=5:spacing=0.0001:distance=100.0'
    command = ['eval', 'synthetic', '--clips', '1', '--frames', '14', '--stride', '4', '--loop', '--laps', '2', *SMALL]
    command += ['--budgets', '60', '--mapping', f'{loops},odometry:{odometry}', '--json']
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['loop_candidates'] > 0 and found['map_keyframes'] > 20
    # A network of random numbers closes nothing: the path is its odometry's.
    assert found['loops_accepted'] == found['loops_false'] == 0
    mapped, plain = found['table']
    for name in ('rotation_deg', 'ate_over_length', 'last_lap_rotation_deg', 'last_lap_ate_over_length'):
        assert mapped[f'odometry_{name}'] == plain[name] == pytest.approx(mapped[name])
    assert 'loops_accepted' not in plain and f'odometry_{name}' not in plain


def test_whether_two_views_show_the_same_place_is_told_by_their_surfaces():
    clip = render_clips([5], 12, 6, (42, 56), effects=False, loop=True, laps=2)
    depth, poses, K = clip.depth[0].double().numpy(), clip.world_from_camera[0].numpy(), clip.intrinsics[0].numpy()
    for old, new, same in ((0, 12, True), (2, 14, True), (0, 1, True), (0, 6, False), (3, 20, False)):
        assert is_same_place(depth[[old, new]], poses[[old, new]], K) == same, (old, new)


def test_without_the_optimiser_a_map_is_refused_with_a_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'gtsam', None)
    for module in ('mapper', 'pose_graph'):
        monkeypatch.delitem(sys.modules, f'evict3r_ros.mapping.{module}', raising=False)
    with pytest.raises(UserError, match='gtsam'), open_mapper(None, None, None, MappingSettings()):
        raise AssertionError('it opened')
