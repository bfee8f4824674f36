# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r eval synthetic` and `evict3r eval report`: definitions, resumption, processes, and what they refuse."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from processes import children_of, runs
from scipy.spatial.transform import Rotation

from evict3r_ros.cache import CacheConfig
from evict3r_ros.cli.main import main
from evict3r_ros.errors import UserError
from evict3r_ros.evaluation.configurations import Configuration, combinations
from evict3r_ros.evaluation.held_out import SPLITS, HeldOut
from evict3r_ros.evaluation.reports import stream_report
from evict3r_ros.evaluation.reports.lines import LineFile, read_lines
from evict3r_ros.evaluation.reports.summary import Group, groups
from evict3r_ros.evaluation.streaming import ClipPredictions, TrueClip, measure, stream_clip
from evict3r_ros.network import load_network
from evict3r_ros.training.batches import FIRST_TRAINING_SEED

SMALL = ['--weights', 'random', '--preset', 'nano', '--image-width', '56', '--device', 'cpu']


def evaluate(*arguments: str) -> int:
    return main(['eval', 'synthetic', *SMALL, *arguments])


@pytest.fixture(scope='module')
def clip() -> TrueClip:
    """Return a clip without images, which the metrics do not use."""
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (40, 1, 1))
    poses[:, :3, 3] = rng.normal(0, 0.1, (40, 3)).cumsum(0)
    poses[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 0.05, (40, 3)).cumsum(0)).as_matrix()
    depth = torch.as_tensor(rng.uniform(1, 5, (40, 6, 8)), dtype=torch.float32)
    return TrueClip(
        torch.zeros(40, 6, 8, 3, dtype=torch.uint8), depth, poses, np.array([[5.0, 0, 4], [0, 5, 3], [0, 0, 1]])
    )


def predictions(clip: TrueClip, **changes) -> ClipPredictions:
    exact = {
        'depth': clip.depth,
        'world_from_camera': clip.world_from_camera,
        'focal': np.full(len(clip.depth), 5.0),
        'cost': {'cache_bytes': 1, 'camera_cache_bytes': 1, 'tokens': 1.0, 'budget': 1, 'seconds': 1.0},
    }
    return ClipPredictions(**(exact | changes))


def test_a_right_answer_in_another_unit_has_no_error(clip):
    turned = np.array(clip.world_from_camera)
    turned[:, :3, 3] *= 0.2
    found = measure(clip, predictions(clip, depth=0.2 * clip.depth, world_from_camera=turned))
    assert found['figures'] == pytest.approx(
        {
            'absrel': 0,
            'delta_1_25': 1,
            'log_rmse': 0,
            'ate_over_length': 0,
            'rotation_deg': 0,
            'rpe_translation': 0,
            'rpe_rotation_deg': 0,
            'focal_error': 0,
            'valid_pixels': 1,
        },
        abs=1e-6,
    )


def test_still_camera_and_constant_depth_are_the_baselines(clip):
    still = np.tile(np.eye(4), (40, 1, 1))
    found = measure(clip, predictions(clip, depth=torch.full_like(clip.depth, 7.0), world_from_camera=still))
    for figure, baseline in (
        ('absrel', 'constant_absrel'),
        ('delta_1_25', 'constant_delta_1_25'),
        ('ate_over_length', 'still_ate_over_length'),
        ('rotation_deg', 'still_rotation_deg'),
    ):
        assert found['figures'][figure] == pytest.approx(found['baselines'][baseline]), figure
        assert found['figures'][figure] > 0.01
    relative = np.linalg.inv(clip.world_from_camera[0, :3, :3]) @ clip.world_from_camera[:, :3, :3]
    angles = Rotation.from_matrix(relative).magnitude()
    assert found['figures']['rotation_deg'] == pytest.approx(np.degrees(angles).mean())


def test_one_factor_a_clip_does_not_hide_a_scale_that_drifts(clip):
    drift = clip.depth * torch.linspace(0.5, 2.0, 40)[:, None, None]
    found = measure(clip, predictions(clip, depth=drift))
    assert found['figures']['absrel'] > 0.2
    assert max(found['curves']['absrel_own_median']) < 1e-6
    assert found['curves']['absrel'][0] > found['curves']['absrel'][20]


def test_curves_and_prefixes(clip):
    wrong = np.array(clip.world_from_camera)
    wrong[24:, :3, :3] = wrong[24:, :3, :3] @ Rotation.from_euler('x', 10, degrees=True).as_matrix()
    found = measure(clip, predictions(clip, world_from_camera=wrong))
    np.testing.assert_allclose(found['curves']['rotation_deg'], [0.0] * 24 + [10.0] * 16, atol=1e-5)
    assert found['prefixes']['frames'] == [12, 24, 40]
    np.testing.assert_allclose(found['prefixes']['rotation_deg'], [0, 0, 4.0], atol=1e-5)
    assert found['prefixes']['ate_over_length'] == pytest.approx([0, 0, 0], abs=1e-9)


def test_what_is_broken_is_not_left_out(clip):
    broken = np.array(clip.world_from_camera)
    broken[3] = np.nan
    found = measure(clip, predictions(clip, world_from_camera=broken))
    assert math.isnan(found['figures']['ate_over_length']) and math.isnan(found['figures']['rotation_deg'])
    record = {'stream': {'seed': 1}} | found
    good = {'stream': {'seed': 2}} | measure(clip, predictions(clip))
    assert math.isnan(Group(Configuration('uniform', '10'), [record, good]).summary()['rotation_deg'].value)


def test_a_path_without_length_has_no_error_over_length(clip):
    still = TrueClip(clip.images, clip.depth, np.tile(np.eye(4), (40, 1, 1)), clip.intrinsics)
    found = measure(still, predictions(clip))
    assert math.isnan(found['figures']['ate_over_length'])
    both = Group(
        Configuration('uniform', '10'),
        [{'stream': {'seed': 1}} | found, {'stream': {'seed': 2}} | measure(clip, predictions(clip))],
    )
    assert both.summary()['ate_over_length'].value == pytest.approx(0.0, abs=1e-9)


def test_the_stream_is_the_real_one():
    """Depth, poses and focal lengths are those of Stream.step, brought to the clip's size."""
    from evict3r_ros.stream import Stream

    network = load_network('random', 'nano')
    images = torch.randint(0, 256, (3, 48, 60, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    clip = TrueClip(images, torch.ones(3, 48, 60), np.tile(np.eye(4), (3, 1, 1)), np.eye(3))
    config = CacheConfig('uniform', 100, bits=32)
    found = stream_clip(network, config, clip, 56)
    with Stream(network, config, (48, 60), 56) as stream:
        for index in range(3):
            prediction = stream.step(images[index])
            np.testing.assert_array_equal(found.world_from_camera[index], prediction.world_from_camera)
            torch.testing.assert_close(found.depth[index], prediction.view.to_camera(prediction.depth))
            assert found.focal[index] == pytest.approx(prediction.intrinsics[0, 0] * 60 / 56)
        assert found.cost['cache_bytes'] == stream.cache.bytes


def test_seeds_never_touch_trainings():
    rendered = set()
    for split in SPLITS:
        for seed in (0, 1, -1, 10**30):
            seeds = HeldOut(seed, split, clips=64).world_seeds()
            assert all(number in SPLITS[split] and 10**9 <= number < FIRST_TRAINING_SEED for number in seeds)
            assert HeldOut(seed, split, clips=8).world_seeds() == seeds[:8]
            rendered |= set(seeds)
    assert len(rendered) == 2 * 4 * 64
    assert SPLITS['dev'].stop <= SPLITS['test'].start


def test_configurations():
    found = combinations(['uniform', 'unbounded'], ['2500', '10%'], ['4', '16/8/4'], ['96'])
    assert [(one.policy, one.budget, one.bits) for one in found] == [
        ('uniform', '2500', '4'),
        ('uniform', '2500', '16/8/4'),
        ('uniform', '10%', '4'),
        ('uniform', '10%', '16/8/4'),
        ('unbounded', '', '4'),
        ('unbounded', '', '16/8/4'),
    ]
    config = Configuration('evict3r:scores=pooled:temperature=0.25', '10%', '16/8/4', '5%').cache_config(128, 197)
    assert (config.tokens, config.scores, config.temperature, config.bits.rest, config.camera_frames) == (
        2522,
        'pooled',
        0.25,
        4,
        7,
    )
    assert Configuration('ovggt:anchors=3', '12MiB', '8', 'all').cache_config(128, 197).memory_mb == 12.0
    assert Configuration('unbounded', '', '16').cache_config(128, 197).tokens == 128 * 197


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--policies', 'best'], "policy 'best' is not one of"),
        (['--policies', 'evict3r:taste=2'], "'taste' is not one of"),
        (['--policies', 'ovggt:anchors=many'], 'anchors must be a int'),
        (['--budgets', 'half'], "budget 'half'"),
        (['--budgets', '0%'], 'positive number'),
        (['--budgets', '150%'], 'a stream has 100%'),
        (['--budgets', '20'], 'too small'),
        (['--bits', '5'], 'bits 5 are not'),
        (['--bits', ','], 'left to compare'),
        (['--camera-frames', 'x'], "camera frames 'x'"),
        (['--clips', '0'], 'at least 1'),
        (['--frames', '1'], 'no trajectory'),
        (['--processes', '0'], 'processes'),
        (['--minutes', '0'], 'no time'),
        (['--plot', '/nowhere/a.png'], 'no folder /nowhere'),
        (['--image-width', '50'], 'multiple of 14'),
        (['--device', 'tpu'], 'device'),
        (['--preset', 'huge'], "preset 'huge'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(arguments, message, capsys):
    assert evaluate(*arguments) == 2
    assert message in capsys.readouterr().err


def test_json_has_what_checks_rely_on(capsys):
    assert evaluate('--clips', '2', '--frames', '4', '--seed', '-7', '--json', '--no-effects') == 0
    found = json.loads(capsys.readouterr().out)
    for name in ('absrel', 'delta_1_25', 'ate_over_length', 'rotation_deg'):
        assert isinstance(found[name], float) and found[name] == found['table'][0][name]
    assert found['constant_depth']['absrel'] > 0 and found['still_camera']['rotation_deg'] > 0
    assert found['untrained'] and found['clips'] == 2 and found['missing'] == 0
    evaluate('--clips', '2', '--frames', '4', '--seed', '-8', '--json', '--no-effects')
    assert json.loads(capsys.readouterr().out)['constant_depth'] != found['constant_depth']


def test_a_comparison_in_processes_is_resumed_and_reported(tmp_path, capsys):
    arguments = [
        '--clips',
        '2',
        '--frames',
        '6',
        '--policies',
        'uniform,evict3r,unbounded',
        '--budgets',
        '40%',
        '--bits',
        '4,16',
        '--out',
        str(tmp_path / 'run'),
    ]
    lines = tmp_path / 'run' / 'streams.jsonl'
    assert evaluate(*arguments, '--processes', '2') == 0
    text = capsys.readouterr().out
    assert 'UNTRAINED' in text and '| evict3r | 40% | 4 | 96 | 2 |' in text and '| unbounded | all |' in text
    whole = lines.read_bytes()
    assert whole.count(b'\n') == 2 * 6
    first_run = {(r['stream']['seed'], str(r['configuration'])): r['figures'] for r in read_lines(lines)}
    # Killed in the middle of the seventh line: six are whole, the rest is done again and comes out the same.
    kept = whole.splitlines(keepends=True)
    lines.write_bytes(b''.join(kept[:6]) + kept[6][:50])
    assert evaluate(*arguments, '--json') == 0
    assert json.loads(capsys.readouterr().out)['missing'] == 0
    again = {(r['stream']['seed'], str(r['configuration'])): r['figures'] for r in read_lines(lines)}
    assert lines.read_bytes().startswith(b''.join(kept[:6])) and lines.read_bytes().count(b'\n') == 12
    for about, figures in first_run.items():
        assert again[about] == pytest.approx(figures, rel=1e-3, abs=1e-4), about
    done = lines.read_bytes()
    assert evaluate(*arguments) == 0
    assert lines.read_bytes() == done
    capsys.readouterr()
    assert main(['eval', 'report', str(tmp_path / 'run'), '--out', str(tmp_path / 'docs')]) == 0
    tables = (tmp_path / 'docs' / 'accuracy_tables.md').read_text()
    assert tables.count('| uniform |') == 2 and 'Difference to `uniform`' in tables
    for name in ('accuracy_6_frames.png', 'accuracy_6_bytes.png'):
        picture = cv2.imread(str(tmp_path / 'docs' / name))
        assert name in tables and picture.shape[0] > 300 and picture.std() > 10
    report_of = ['eval', 'report', str(tmp_path / 'run'), '--out', str(tmp_path / 'docs'), '--baseline']
    assert main([*report_of, 'evict3r']) == 0
    tables = (tmp_path / 'docs' / 'accuracy_tables.md').read_text()
    assert 'Difference to `evict3r`' in tables and 'Difference to `uniform`' not in tables
    assert main([*report_of, 'unbounded, 16 bits, camera 96']) == 0
    tables = (tmp_path / 'docs' / 'accuracy_tables.md').read_text()
    _, _, differences = tables.partition('Difference to `unbounded, 16 bits, camera 96`')
    rows = [line for line in differences.partition('The same')[0].splitlines() if line.endswith(' |')][1:]
    assert [row.split(' | ')[0] for row in rows] == ['| evict3r', '| evict3r', '| uniform', '| uniform', '| unbounded']
    capsys.readouterr()
    assert main([*report_of, 'nobody']) == 2
    assert 'unbounded, 4 bits, camera 96' in capsys.readouterr().err
    assert main(['eval', 'report', str(tmp_path / 'run'), '--split', 'test', '--out', str(tmp_path / 'docs')]) == 2
    assert main(['eval', 'report', str(tmp_path), '--out', str(tmp_path / 'docs')]) == 2


def test_time_runs_out_between_two_frames(tmp_path, capsys):
    out = ['--clips', '2', '--frames', '150', '--out', str(tmp_path), '--minutes', '0.01']
    start = time.monotonic()
    assert evaluate(*out) == 2
    assert 'no stream was done' in capsys.readouterr().err and time.monotonic() - start < 60


def under_way(out: Path) -> subprocess.Popen:
    """Start a comparison in two processes and wait for its first stream."""
    command = [
        sys.executable,
        '-m',
        'evict3r_ros.cli.main',
        'eval',
        'synthetic',
        *SMALL,
        '--clips',
        '200',
        '--frames',
        '4',
        '--processes',
        '2',
        '--out',
        str(out),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    lines, deadline = out / 'streams.jsonl', time.monotonic() + 60
    while not (lines.is_file() and lines.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    return process


def test_ctrl_c_leaves_whole_lines(tmp_path):
    with under_way(tmp_path) as process:
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and 'interrupted' in errors and 'Traceback' not in errors
    lines = tmp_path / 'streams.jsonl'
    records = list(read_lines(lines))
    assert 1 <= len(records) < 200 and lines.read_bytes().endswith(b'\n')


@pytest.mark.skipif(not Path('/proc/self/task').is_dir(), reason='children are looked up in /proc')
def test_killed_it_leaves_no_process_behind(tmp_path):
    with under_way(tmp_path) as process:
        children = children_of(process)
        process.kill()
    assert len(children) >= 2
    deadline = time.monotonic() + 30
    while any(map(runs, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(runs, children))


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / 'a.jsonl'
    path.write_text('{"a": 1}\nnonsense\n{"a": 2}\n')
    with pytest.raises(UserError, match=r'a\.jsonl:2'):
        list(read_lines(path))
    with pytest.raises(UserError, match=r'a\.jsonl:1: .*stream missing'):
        list(read_lines(path, ('stream',)))
    with LineFile(tmp_path / 'new' / 'b.jsonl') as lines:
        lines.append({'x': math.nan, 'y': [1.23456789, math.inf], 'z': None})
    assert list(read_lines(tmp_path / 'new' / 'b.jsonl')) == [{'x': None, 'y': [1.23457, None], 'z': None}]
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot be written'), LineFile(tmp_path / 'file' / 'c.jsonl'):
        pass


def test_a_disk_that_is_full_leaves_whole_lines(tmp_path):
    command = (
        f'ulimit -f 3; exec {sys.executable} -m evict3r_ros.cli.main eval synthetic {" ".join(SMALL)} '
        f'--clips 4 --frames 4 --out {tmp_path}'
    )
    done = subprocess.run(['bash', '-c', command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and 'cannot be written' in done.stderr and 'Traceback' not in done.stderr
    before = list(read_lines(tmp_path / 'streams.jsonl'))
    assert 1 <= len(before) < 4
    assert evaluate('--clips', '4', '--frames', '4', '--out', str(tmp_path)) == 0
    after = list(read_lines(tmp_path / 'streams.jsonl'))
    assert len(after) == 4 and after[: len(before)] == before


def test_a_better_policy_is_told_from_uniform(clip):
    """Made-up records: one policy a little better on every stream, one no different."""
    rng = np.random.default_rng(3)
    base = measure(clip, predictions(clip))
    records = []
    for seed in range(24):
        hard = rng.lognormal(2, 0.5)
        for policy, change in (('uniform', 0.0), ('evict3r', -0.3), ('random', rng.normal(0, 0.5))):
            figures = base['figures'] | {'rotation_deg': hard + change, 'ate_over_length': 0.01 * hard + 0.01 * change}
            records.append(
                base
                | {
                    'figures': figures,
                    'configuration': vars(Configuration(policy, '10%')),
                    'stream': {
                        'seed': seed,
                        'frames': 40,
                        'stride': 1,
                        'effects': True,
                        'loop': False,
                        'height': 6,
                        'width': 8,
                    },
                    'network': {'preset': 'nano', 'weights': 'x', 'dtype': 'float32', 'untrained': False},
                }
            )
    ((which, found),) = groups(records).items()
    rows = {row.split(' | ')[0].strip('| '): row for row in stream_report.comparison_table(found).splitlines()}
    assert rows['evict3r'].count('**') == 4 and '**-0.300**' in rows['evict3r']
    assert '**' not in rows['random']
    assert 'UNTRAINED' not in stream_report.table(which, found)


def test_packed_weights_are_compared_with_the_same_unpacked(capsys):
    """On the same streams, in percent; a table of one number of bits has no such comparison."""
    assert evaluate('--clips', '2', '--frames', '4', '--policies', 'uniform', '--weights-bits', '16,8', '--json') == 0
    said = json.loads(capsys.readouterr().out)
    whole, packed = said['table']
    assert (whole['weights_bits'], packed['weights_bits']) == ('16', '8') and said['clips'] == 2
    assert 'against_16_bits' not in whole and packed['configuration'].endswith('weights 8 bits')
    value, low, high = packed['against_16_bits']['absrel']
    assert low <= value <= high and value == pytest.approx(packed['absrel'] - whole['absrel'], abs=1e-6)
    assert value != 0.0 and abs(value) < 0.1 * whole['absrel']
    assert evaluate('--clips', '1', '--frames', '4', '--policies', 'uniform', '--weights-bits', '8,16') == 0
    text = capsys.readouterr().out
    rows = [line for line in text.splitlines() if line.startswith('| uniform') and '%' in line]
    assert 'Difference to the same with weights of 16 bits' in text and len(rows) == 1 and 'weights 8 bits' in rows[0]


def test_other_bits_of_weights_are_refused(capsys):
    assert evaluate('--clips', '1', '--weights-bits', '16,5') == 2
    assert 'give one of 16, 8, 4' in capsys.readouterr().err
