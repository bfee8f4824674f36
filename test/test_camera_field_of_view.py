# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A focal length out of many that differ."""

from __future__ import annotations

import numpy as np
import pytest

from evict3r_ros.camera.field_of_view import SteadyFocal


def matrix(fx: float, fy: float) -> np.ndarray:
    return np.array([[fx, 0.0, 80.0], [0.0, fy, 60.0], [0.0, 0.0, 1.0]])


def test_the_first_answer_is_taken_as_it_is():
    np.testing.assert_allclose(SteadyFocal().update(matrix(150.0, 140.0)), matrix(150.0, 140.0))


def test_noise_of_five_percent_becomes_one_of_less_than_one():
    steady, rng = SteadyFocal(), np.random.default_rng(0)
    seen = [steady.update(matrix(*(np.array([150.0, 140.0]) * np.exp(rng.normal(0.0, 0.05, 2))))) for _ in range(400)]
    late = np.array([[K[0, 0], K[1, 1]] for K in seen[100:]])
    assert (np.abs(late / [150.0, 140.0] - 1.0) < 0.02).all()
    assert (late.std(axis=0) / [150.0, 140.0] < 0.01).all()


@pytest.mark.parametrize('when', [0, 7, 200])
def test_a_wild_answer_moves_it_little(when):
    steady = SteadyFocal()
    for i in range(250):
        K = steady.update(matrix(5000.0, 1.0) if i == when else matrix(150.0, 140.0))
    assert abs(K[0, 0] / 150.0 - 1.0) < 2e-3 and abs(K[1, 1] / 140.0 - 1.0) < 2e-3


def test_a_zoom_is_followed():
    steady = SteadyFocal()
    for focal in [150.0] * 50 + [180.0] * 1500:
        K = steady.update(matrix(focal, focal))
    assert abs(K[0, 0] / 180.0 - 1.0) < 0.01


def test_the_principal_point_is_the_predictions():
    np.testing.assert_array_equal(SteadyFocal().update(matrix(150.0, 140.0))[:2, 2], [80.0, 60.0])
