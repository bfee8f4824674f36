# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The constants of a network's errors, where they lie, and how a pose grows uncertain while nothing is seen."""

from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest

from evict3r_ros.network.checkpoint import find_weights
from evict3r_ros.odometry.drift import STANDS, DriftModel, coast, drift_file, drift_of, write_drift

MEASURED = DriftModel(0.5, 0.25, 0.02, 0.03)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / 'own.safetensors'
    path.write_bytes(b'weights')
    return path


def test_the_shipped_weights_have_constants_of_their_own(caplog):
    """If this fails the weights have changed: `evict3r study covariance --write` measures them again."""
    with caplog.at_level(logging.WARNING):
        drift = drift_of(find_weights('tiny'))
    assert not caplog.records and drift != DriftModel()
    assert min(drift.floor) > 0, 'robot_localization inverts the covariance of a robot that stands still'


def test_measured_constants_lie_beside_the_weights_and_come_back(weights):
    path = write_drift(weights, MEASURED, {'streams': 'some'})
    assert path == drift_file(weights) == weights.parent / 'own.drift.json'
    assert drift_of(weights) == MEASURED
    assert json.loads(path.read_text())['about'] == {'streams': 'some'}


def test_weights_that_nobody_measured_have_the_default(weights, tmp_path, caplog):
    assert drift_of(None) == drift_of(weights) == drift_of(tmp_path / 'none.pth') == drift_of(tmp_path) == DriftModel()
    assert not caplog.records


def test_constants_of_other_weights_do_not_count(weights, caplog):
    write_drift(weights, MEASURED, {})
    weights.write_bytes(b'trained further')
    assert drift_of(weights) == DriftModel()
    assert 'evict3r study covariance' in caplog.text


@pytest.mark.parametrize(
    'text', ['', '[]', '{}', '{"weights": "x", "constants": {}}', '{"weights": 1, "constants": {"position": -1}}']
)
def test_a_damaged_file_is_told_and_does_not_count(weights, text, caplog):
    drift_file(weights).write_text(text)
    assert drift_of(weights) == DriftModel()
    assert str(drift_file(weights)) in caplog.text


@pytest.mark.parametrize('value', [-0.1, math.nan, math.inf])
def test_deviations_are_numbers_from_0_on(value):
    with pytest.raises(ValueError, match='floor_rotation'):
        DriftModel(floor_rotation=value)


def test_the_covariance_of_a_pose_that_nobody_sees_grows_with_the_time_and_the_speed():
    seen = np.diag([0.01, 0.02, 0.03, 0.001, 0.002, 0.003])
    driving = np.array([1.0, 0.2])
    np.testing.assert_array_equal(coast(seen, driving, 0.0), seen)
    second, two = coast(seen, driving, 1.0), coast(seen, driving, 2.0)
    for grown in (second, two):
        np.testing.assert_allclose(grown, grown.T)
        assert np.linalg.eigvalsh(grown - seen).min() > 0
    assert np.linalg.eigvalsh(two - second).min() > 0
    assert math.sqrt(second[0, 0]) > 1.0 and math.sqrt(second[5, 5]) > 0.2
    standing = coast(seen, np.zeros(2), 2.0)
    np.testing.assert_allclose(np.diag(standing - seen), (STANDS * 2.0) ** 2)
    hour = coast(seen, driving, 3600.0)
    np.testing.assert_allclose(np.diag(hour - seen)[3:], math.pi**2)
