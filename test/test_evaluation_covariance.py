# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The study of the covariance: it finds the constants that errors were made with, and its command."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import safetensors.torch
from scipy.spatial.transform import Rotation

from evict3r_ros import geometry
from evict3r_ros.cli.main import main
from evict3r_ros.evaluation.studies import covariance
from evict3r_ros.evaluation.studies.tracks import Track
from evict3r_ros.network import load_network
from evict3r_ros.odometry.drift import DriftModel, drift_of

MADE = DriftModel(0.1, 0.2, 0.05, 0.005)


def track(seed: int, made: DriftModel = MADE, frames: int = 48, unit: float = 0.4) -> Track:
    """Return a walk whose steps, and whose poses each by itself, err as the constants say; the first pose is exact."""
    random = np.random.default_rng(seed)
    truth, found, poses = np.eye(4), np.eye(4), []
    true = []
    for index in range(frames):
        own = found.copy()
        if index:
            own[:3, 3] += random.normal(size=3) * made.floor_position
            own[:3, :3] = own[:3, :3] @ geometry.rotation_from_vector(random.normal(size=3) * made.floor_rotation)
        own[:3, 3] /= unit
        poses.append(own)
        true.append(truth)
        step = geometry.transform(
            Rotation.from_rotvec(random.normal(size=3) * 0.05).as_matrix(), np.array([0.0, 0.0, 0.5])
        )
        length, turn = np.linalg.norm(step[:3, 3]), np.linalg.norm(geometry.rotation_vector(step[:3, :3]))
        wrong = step.copy()
        wrong[:3, 3] += random.normal(size=3) * made.position * length
        wrong[:3, :3] = step[:3, :3] @ geometry.rotation_from_vector(random.normal(size=3) * made.rotation * turn)
        truth, found = truth @ step, found @ wrong
    return Track(str(seed), np.stack(poses), np.stack(true))


def poses_of(seeds) -> covariance.Errors:
    return covariance.join(covariance.pose_errors(track(seed)) for seed in seeds)


def test_the_constants_that_errors_were_made_with_are_found_and_hold_for_other_streams():
    errors, others = poses_of(range(10)), poses_of(range(100, 110))
    # Steps are measured between poses that err, so that a share of the floor counts as steps: not exact.
    found = covariance.fit(errors)
    for name, value in asdict(MADE).items():
        assert getattr(found, name) == pytest.approx(value, rel=0.35), name
    judged = covariance.judge(others, {'found': found, 'sure': DriftModel(0.01, 0.02, 0.005, 0.0005)})
    for part, freedom in (('all', 6), ('position', 3), ('rotation', 3)):
        assert judged['found'][part]['mean'] == pytest.approx(freedom, rel=0.3)
        assert judged['sure'][part]['mean'] > 10 * freedom
    rows = covariance.growth(others, {'found': found})
    assert [row['gap'] for row in rows] == [1, 2, 4, 8, 16, 32, 47]
    assert all(3 < row['nees']['found']['all']['mean'] < 10 for row in rows)
    assert rows[-1]['position'] > 3 * rows[0]['position']


def test_a_fit_leaves_nothing_to_scale():
    """At the most likely constants the mean NEES is the number of degrees of freedom."""
    errors = poses_of(range(4))
    assert errors.nees(covariance.fit(errors)).mean() == pytest.approx(6.0, rel=1e-3)


def test_streams_without_errors_have_none_in_any_unit():
    exact = track(3, DriftModel(0.0, 0.0, 0.0, 0.0))
    for errors in (covariance.pose_errors(exact), covariance.twist_errors(exact)):
        assert np.abs(errors.error).max() < 1e-6


def test_the_command_measures_writes_and_goes_on(tmp_path, capsys):
    network = load_network('random', 'nano')
    weights = tmp_path / 'nano.safetensors'
    safetensors.torch.save_file(network.state_dict(), weights, {'evict3r_preset': 'nano'})
    command = ['study', 'covariance', '--weights', str(weights), '--device', 'cpu', '--image-width', '56', '--json']
    command += ['--budget', '60', '--clips', '2', '--frames', '5', '--long', '7', '--out', str(tmp_path / 'runs')]
    assert main([*command, '--write']) == 0
    first = json.loads(capsys.readouterr().out)
    lines = (tmp_path / 'runs' / 'tracks.jsonl').read_text().splitlines()
    assert len(lines) == 8 and {json.loads(line)['stream']['stride'] for line in lines} == {1, 4}
    assert set(first['nees']) == {
        f'{name}, {what}' for name in ('fitted', 'judged', '7 frames', 'loop of 7 frames') for what in ('pose', 'twist')
    }
    assert first['nees']['fitted, pose']['after']['all']['mean'] == pytest.approx(6.0, rel=0.5)
    assert asdict(drift_of(weights)) == first['constants']['after'] and first['constants']['before'] == asdict(
        DriftModel()
    )
    assert main(command) == 0
    again = json.loads(capsys.readouterr().out)
    assert (tmp_path / 'runs' / 'tracks.jsonl').read_text().splitlines() == lines, 'no stream was run again'
    assert again['constants']['before'] == first['constants']['after']
    assert again['constants']['after'] == pytest.approx(first['constants']['after'], rel=1e-2)
    command.remove('--json')
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert '| judged, pose | after |' in printed and '| after frames |' in printed


@pytest.mark.parametrize(
    'arguments',
    [
        ['--weights', 'random', '--preset', 'nano', '--write'],
        ['--weights', 'random', '--preset', 'nano', '--strides', '1,x'],
        ['--weights', 'random', '--preset', 'nano', '--frames', '1'],
        ['--weights', 'random', '--preset', 'nano', '--dataset', 'nowhere', '/'],
    ],
)
def test_what_cannot_be_is_refused(arguments, capsys):
    assert main(['study', 'covariance', '--device', 'cpu', *arguments]) == 2
    assert capsys.readouterr().err.startswith('evict3r: error: ')
