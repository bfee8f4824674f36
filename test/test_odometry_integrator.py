# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Odometry from camera poses: scaled, never jumping, with twist and a covariance that tells what may have drifted."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from evict3r_ros import geometry
from evict3r_ros.odometry.drift import DriftModel
from evict3r_ros.odometry.integrator import OdometryIntegrator
from evict3r_ros.odometry.scale import ScaleState
from evict3r_ros.odometry.thinned_path import ThinnedPath

CAMERA = (
    geometry.transform(Rotation.from_euler('y', 20, degrees=True).as_matrix(), np.array([0.3, 0.0, 0.5]))
    @ geometry.BODY_FROM_OPTICAL
)
UNIT, METRIC = ScaleState(), ScaleState(2.0, 0.1, True, 'depth')
STEP_NS = 100_000_000
IDENTITY = np.eye(4)


def pose(seed):
    return geometry.transform(
        Rotation.random(random_state=seed).as_matrix(), np.random.default_rng(seed).normal(size=3)
    )


def camera_at(odom_from_base, scale=1.0, world=IDENTITY):
    """world_from_camera in the network's unit, for a base that started at odom's origin."""
    moved = geometry.invert(CAMERA) @ odom_from_base @ CAMERA
    moved[:3, 3] /= scale
    return world @ moved


def along(trajectory, poses, state=UNIT, scale=1.0, first=0, world=IDENTITY):
    return [
        trajectory.advance((first + index) * STEP_NS, camera_at(base, scale, world), state)
        for index, base in enumerate(poses)
    ]


def line(count, step=0.1):
    return [geometry.transform(np.eye(3), np.array([step * index, 0.0, 0.0])) for index in range(count)]


def test_odom_starts_at_the_base_and_follows_it():
    trajectory = OdometryIntegrator(CAMERA)
    arc = [
        geometry.transform(Rotation.from_euler('z', 0.1 * i).as_matrix(), np.array([0.2 * i, 0.02 * i, 0.0]))
        for i in range(20)
    ]
    for state, truth in zip(along(trajectory, arc, world=pose(3)), arc, strict=True):
        np.testing.assert_allclose(state.odom_from_child, truth, atol=1e-9)


def test_poses_are_in_metres_and_a_new_scale_moves_nothing_that_was():
    trajectory = OdometryIntegrator(CAMERA)
    way = line(21)
    half = along(trajectory, way[:11], ScaleState(2.0, 0.1, True, 'depth'), scale=2.0)
    np.testing.assert_allclose(half[-1].odom_from_child, way[10], atol=1e-9)
    # The scale doubles between two frames: a translation that was scaled as a whole would jump by a metre.
    rest = along(trajectory, way[11:], ScaleState(4.0, 0.1, True, 'depth'), scale=2.0, first=11)
    np.testing.assert_allclose(rest[0].odom_from_child[:3, 3], [1.2, 0.0, 0.0], atol=1e-9)


def test_a_new_stream_goes_on_from_the_last_pose_and_a_clock_set_back_begins_again():
    trajectory = OdometryIntegrator(CAMERA)
    last = along(trajectory, line(11))[-1]
    trajectory.restart(keep=True)
    first = along(trajectory, line(1), first=11, world=pose(5))[0]
    np.testing.assert_allclose(first.odom_from_child, last.odom_from_child, atol=1e-9)
    assert len(trajectory.path) == 11
    trajectory.restart(keep=False)
    again = along(trajectory, line(1), first=0)[0]
    np.testing.assert_allclose(again.odom_from_child, np.eye(4), atol=1e-12)
    assert len(trajectory.path) == 1 and again.pose_covariance[0, 0] < last.pose_covariance[0, 0]


def test_a_camera_without_a_place_moves_itself_upright():
    trajectory = OdometryIntegrator(np.eye(4), geometry.BODY_FROM_OPTICAL)
    trajectory.advance(0, np.eye(4), UNIT)
    ahead = trajectory.advance(1, geometry.transform(np.eye(3), np.array([0.0, 0.0, 1.0])), UNIT)
    np.testing.assert_allclose(ahead.odom_from_child[:3, 3], [1.0, 0.0, 0.0], atol=1e-12)


def test_another_camera_on_the_same_base_goes_on():
    trajectory = OdometryIntegrator(CAMERA)
    last = along(trajectory, line(5))[-1].odom_from_child
    trajectory.remount(pose(8))
    np.testing.assert_allclose(trajectory.advance(10**9, pose(9), UNIT).odom_from_child, last, atol=1e-9)
    trajectory.remount(np.eye(4), geometry.BODY_FROM_OPTICAL, keep=False)
    other = trajectory.advance(2 * 10**9, pose(9), UNIT).odom_from_child
    np.testing.assert_allclose(other, geometry.BODY_FROM_OPTICAL, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 3.0), st.floats(0.01, 2.0))
def test_the_twist_is_what_moved_the_robot(seed, turn, seconds):
    """A base with a constant twist, moved by the matrix exponential: that twist comes back, in the child's axes."""
    random = np.random.default_rng(seed)
    linear, axis = random.normal(size=3), random.normal(size=3)
    twist = np.concatenate([linear, axis / np.linalg.norm(axis) * turn / seconds])
    generator = np.zeros((4, 4))
    generator[:3, :3], generator[:3, 3] = geometry.skew(twist[3:]), twist[:3]
    trajectory = OdometryIntegrator(CAMERA, pose(seed % 1000))
    step = round(seconds * 1e9)
    start = pose(seed % 1000 + 1)
    trajectory.advance(0, start, UNIT)
    moved = geometry.invert(CAMERA) @ expm(generator * step * 1e-9) @ CAMERA
    state = trajectory.advance(step, start @ moved, UNIT)
    np.testing.assert_allclose(state.twist, twist, atol=1e-6)


def test_the_twist_is_scaled_and_unknown_at_first():
    trajectory = OdometryIntegrator(CAMERA)
    states = along(trajectory, line(3), METRIC, scale=2.0)
    assert not states[0].twist.any() and states[0].twist_covariance[0, 0] >= 1000
    np.testing.assert_allclose(states[2].twist, [1.0, 0, 0, 0, 0, 0], atol=1e-9)
    assert states[2].twist_covariance[0, 0] < 10
    trajectory.restart(keep=True)
    assert along(trajectory, line(1), first=9)[0].twist_covariance[0, 0] >= 1000


def test_the_covariance_grows_with_distance():
    states = along(OdometryIntegrator(CAMERA), line(101), ScaleState(1.0, 0.01, True, 'depth'))
    variances = [np.diag(state.pose_covariance) for state in states]
    assert all((after >= before).all() for before, after in pairwise(variances))
    assert (variances[100][:3] > 3 * variances[10][:3]).all()
    for state in states[::10]:
        for covariance in (state.pose_covariance, state.twist_covariance):
            np.testing.assert_allclose(covariance, covariance.T)
            assert np.linalg.eigvalsh(covariance).min() > 0, 'robot_localization inverts it'


def test_a_camera_that_stands_still_stays_as_certain_as_it_was():
    states = along(OdometryIntegrator(CAMERA), line(1) * 1000, METRIC)
    np.testing.assert_allclose(states[-1].pose_covariance, states[0].pose_covariance, atol=1e-12)
    assert np.linalg.eigvalsh(states[-1].pose_covariance).min() > 0


def test_a_pose_that_jumps_is_as_uncertain_as_its_jump_is_large():
    """How networks err most: a pose far off. What follows a jump of 90 degrees is not believed as before."""
    turned = geometry.transform(Rotation.from_euler('z', 90, degrees=True).as_matrix(), np.zeros(3))
    steady, jumping = OdometryIntegrator(CAMERA), OdometryIntegrator(CAMERA)
    before = along(steady, line(12), METRIC, scale=2.0)[-1]
    after = along(jumping, [*line(11), line(12)[-1] @ turned], METRIC, scale=2.0)[-1]
    for name in ('pose_covariance', 'twist_covariance'):
        sure, unsure = (np.diag(getattr(state, name))[3:] for state in (before, after))
        assert (unsure > 100 * sure).all()


def test_a_scale_that_is_not_known_makes_the_way_as_uncertain_as_it_is_long():
    drift = DriftModel(position=0.1)
    state = along(OdometryIntegrator(CAMERA, drift=drift), line(101))[-1]
    assert math.sqrt(state.pose_covariance[0, 0]) >= 10.0
    there_and_back = along(OdometryIntegrator(CAMERA, drift=drift), line(101) + line(101)[::-1])[-1]
    assert math.sqrt(there_and_back.pose_covariance[0, 0]) < 1.0, 'and at the start again it does not matter'


def test_the_covariance_is_that_of_what_was_simulated():
    """Many robots whose steps err as the model says: their spread at the end is the covariance."""
    drift = DriftModel(0.3, 0.5, 0.0, 0.0)
    way = [
        geometry.transform(Rotation.from_euler('z', 0.05 * i).as_matrix(), np.array([0.2 * i, 0.1 * i, 0.0]))
        for i in range(21)
    ]
    steps = [geometry.invert(a) @ b for a, b in pairwise(way)]
    metric = ScaleState(1.0, 0.02, True, 'depth')
    trajectory = OdometryIntegrator(np.eye(4), drift=drift)
    for index, base in enumerate(way):
        state = trajectory.advance(index * STEP_NS, base, metric)
    random, ends = np.random.default_rng(0), []
    for _ in range(3000):
        base, scale = np.eye(4), 1.0 + 0.02 * random.normal()
        for step in steps:
            length, turn = np.linalg.norm(step[:3, 3]), np.linalg.norm(geometry.rotation_vector(step[:3, :3]))
            wrong = step.copy()
            wrong[:3, 3] = scale * step[:3, 3] + random.normal(size=3) * drift.position * length
            wrong[:3, :3] = step[:3, :3] @ geometry.rotation_from_vector(random.normal(size=3) * drift.rotation * turn)
            base = base @ wrong
        ends.append(
            np.concatenate([base[:3, 3] - way[-1][:3, 3], geometry.rotation_vector(base[:3, :3] @ way[-1][:3, :3].T)])
        )
    simulated = np.cov(np.array(ends).T)
    np.testing.assert_allclose(np.sqrt(np.diag(state.pose_covariance)), np.sqrt(np.diag(simulated)), rtol=0.1)
    largest = np.abs(simulated).max()
    np.testing.assert_allclose(state.pose_covariance, simulated, atol=0.12 * largest)


def test_time_between_two_streams_adds_what_may_have_been_driven():
    trajectory = OdometryIntegrator(CAMERA)
    before = along(trajectory, line(11), ScaleState(1.0, 0.01, True, 'depth'))[-1]
    trajectory.restart(keep=True)
    after = trajectory.advance(before.stamp_ns + 2 * 10**9, np.eye(4), UNIT)
    assert after.pose_covariance[0, 0] >= before.pose_covariance[0, 0] + 3.9, '1 m/s for 2 s'


def test_rotations_stay_rotations():
    trajectory, base = OdometryIntegrator(CAMERA), np.eye(4)
    step = geometry.transform(Rotation.from_euler('xyz', [0.1, 0.2, 0.3]).as_matrix(), np.array([0.01, 0.02, 0.03]))
    for index in range(3000):
        base = base @ step
        state = trajectory.advance(index * STEP_NS, camera_at(base), UNIT)
    rotation = state.odom_from_child[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-10)


def test_stamps_that_do_not_advance_leave_the_twist_unknown():
    trajectory = OdometryIntegrator(CAMERA)
    trajectory.advance(5, np.eye(4), UNIT)
    assert trajectory.advance(5, np.eye(4), UNIT).twist_covariance[0, 0] >= 1000


def test_a_long_path_is_thinned_evenly_and_keeps_both_ends():
    path = ThinnedPath(most=100, spacing=0.05)
    for index, base in enumerate(line(20_000, step=0.01)):
        path.add(index, base)
    assert len(path) <= 100
    at = [base[0, 3] for _, base in path]
    assert at[0] < 5.0 and at[-1] > 190.0
    gaps = np.diff(at)
    assert gaps.max() < 2.1 * gaps.min()
    assert [stamp for stamp, _ in path] == sorted(stamp for stamp, _ in path)
    path.clear()
    assert len(path) == 0 and path.add(0, np.eye(4)) and not path.add(1, np.eye(4))


def test_a_robot_that_stands_or_turns_leaves_the_path_it_needs():
    path = ThinnedPath()
    for index in range(1000):
        path.add(index, np.eye(4))
    assert len(path) == 1
    for index in range(10):
        path.add(index, geometry.transform(Rotation.from_euler('z', 0.1 * index).as_matrix(), np.zeros(3)))
    assert len(path) == 10


@pytest.mark.parametrize('most', [5000])
def test_the_default_path_holds_so_many(most):
    path = ThinnedPath()
    for index, base in enumerate(line(3 * most, step=0.03)):
        path.add(index, base)
    assert most // 2 <= len(path) <= most


def test_a_robot_that_is_not_seen_is_where_it_was_or_as_far_as_it_may_have_gone():
    metric = ScaleState(1.0, 0.01, True, 'depth')
    unseen, seen = OdometryIntegrator(CAMERA), OdometryIntegrator(CAMERA)
    assert unseen.coast(5) is None
    last = along(unseen, line(11), metric)[-1]
    along(seen, line(11), metric)
    held = [unseen.coast(last.stamp_ns + seconds * 10**9) for seconds in (0, 1, 2, 40)]
    for state in held:
        np.testing.assert_array_equal(state.odom_from_child, last.odom_from_child)
        assert not state.twist.any() and state.twist_covariance[0, 0] >= 1000
        assert np.linalg.eigvalsh(state.pose_covariance).min() > 0
    grown = [math.sqrt(state.pose_covariance[0, 0] - last.pose_covariance[0, 0]) for state in held]
    np.testing.assert_allclose(grown[1:3], [1.0, 2.0], rtol=0.02)
    assert 15.0 < grown[3] < 25.0, 'not straight on for ever'
    # what was not seen stays uncertain once the robot is seen again; what was seen without a break does not
    again, steady = (along(one, line(13)[12:], metric, first=12)[0] for one in (unseen, seen))
    np.testing.assert_allclose(again.odom_from_child, steady.odom_from_child, atol=1e-9)
    assert again.pose_covariance[0, 0] > steady.pose_covariance[0, 0] + 0.03, '1 m/s for 0.2 s'
    after = along(unseen, line(14)[13:], metric, first=13)[0]
    assert after.pose_covariance[0, 0] < again.pose_covariance[0, 0] + 0.03


def test_an_interruption_of_seconds_leaves_the_twist_unknown_and_a_short_one_does_not():
    for first, known in ((11, True), (31, False)):
        trajectory = OdometryIntegrator(CAMERA)
        along(trajectory, line(11), METRIC, scale=2.0)
        trajectory.interrupt()
        state = along(trajectory, line(12)[11:], METRIC, scale=2.0, first=first)[0]
        assert (state.twist_covariance[0, 0] < 1000) == known


def test_a_clock_set_forward_changes_neither_twist_nor_covariance():
    shifted, steady = OdometryIntegrator(CAMERA), OdometryIntegrator(CAMERA)
    along(shifted, line(11), METRIC)
    shifted.shift_clock(50 * STEP_NS)
    state = along(shifted, line(12)[11:], METRIC, first=61)[0]
    expected = along(steady, line(12), METRIC)[-1]
    np.testing.assert_allclose(state.twist, expected.twist, atol=1e-9)
    np.testing.assert_allclose(state.pose_covariance, expected.pose_covariance, atol=1e-12)
    held = shifted.coast(62 * STEP_NS)
    assert held.pose_covariance[0, 0] < state.pose_covariance[0, 0] + 0.1
