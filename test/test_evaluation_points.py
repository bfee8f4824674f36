# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from evict3r_ros.evaluation.metrics.points import icp, normals, point_errors
from evict3r_ros.evaluation.metrics.pose import Similarity


def plane(z: float, step: float = 0.02) -> np.ndarray:
    x, y = np.meshgrid(np.arange(0, 1, step), np.arange(0, 1, step))
    return np.stack([x.ravel(), y.ravel(), np.full(x.size, z)], axis=1)


def corner() -> np.ndarray:
    """Three walls that meet: no direction in which it could slide."""
    flat = plane(0.0)
    return np.concatenate([flat, flat[:, [2, 0, 1]], flat[:, [1, 2, 0]]])


def test_parallel_planes_are_as_far_as_they_are():
    errors = point_errors(plane(0.03), plane(0.0))
    for name in ('accuracy_mean', 'accuracy_median', 'completeness_mean', 'completeness_median'):
        assert getattr(errors, name) == pytest.approx(0.03)
    assert errors.normals_mean == pytest.approx(1.0) and errors.normals_median == pytest.approx(1.0)


def test_what_is_missing_shows_in_completeness_alone():
    half = plane(0.0)
    half = half[half[:, 0] < 0.5]
    errors = point_errors(half, plane(0.0))
    assert errors.accuracy_mean == 0.0
    assert errors.completeness_mean == pytest.approx(0.125, abs=0.02)
    assert errors.completeness_median < errors.completeness_mean
    swapped = point_errors(plane(0.0), half)
    assert swapped.completeness_mean == 0.0 and swapped.accuracy_mean == errors.completeness_mean


def test_normals_that_disagree():
    rng = np.random.default_rng(0)
    noise = rng.uniform(0, 1, (4000, 3))
    errors = point_errors(noise, plane(0.5))
    # |cosine| of a random direction is 1/2 on average.
    assert 0.4 < errors.normals_mean < 0.65
    tilted = plane(0.0) @ Rotation.from_euler('x', 60, degrees=True).as_matrix().T
    np.testing.assert_allclose(np.abs(normals(tilted)[:, 2]), 0.5, atol=1e-9)


def test_icp_finds_a_small_motion_and_no_scale():
    rng = np.random.default_rng(1)
    target = corner() + rng.normal(0, 1e-4, (7500, 3))
    motion = Similarity(
        1.0, Rotation.from_euler('xyz', [1.0, -1.0, 0.5], degrees=True).as_matrix(), np.array([0.004, -0.006, 0.005])
    )
    moved = motion.points(target)
    found = icp(moved, target)
    assert found.scale == 1.0
    assert np.abs(found.points(moved) - target).max() < 0.3 * np.abs(moved - target).max()
    assert point_errors(found.points(moved), target).accuracy_mean < 0.5 * point_errors(moved, target).accuracy_mean
    far = icp(target + 50.0, target)
    np.testing.assert_array_equal(far.points(target), target)


def test_empty_clouds_are_refused():
    with pytest.raises(ValueError, match='cannot be compared'):
        point_errors(np.empty((0, 3)), plane(0.0))
