# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rotations and cameras against SciPy, and against each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.spatial.transform import Rotation, Slerp

from evict3r_ros import geometry

component = st.floats(-1.0, 1.0, allow_nan=False)
quaternions = (
    st.tuples(component, component, component, component).map(np.array).filter(lambda q: np.linalg.norm(q) > 1e-3)
)


@given(quaternions)
def test_matrix_from_quaternion_is_scipys(quaternion):
    expected = Rotation.from_quat(quaternion).as_matrix()
    np.testing.assert_allclose(geometry.matrix_from_quaternion(quaternion), expected, atol=1e-12)


@given(quaternions)
def test_quaternion_from_matrix_is_scipys(quaternion):
    rotation = Rotation.from_quat(quaternion)
    ours = geometry.quaternion_from_matrix(rotation.as_matrix())
    assert ours[3] >= 0.0
    assert (Rotation.from_quat(ours).inv() * rotation).magnitude() < 1e-7
    assert np.linalg.norm(ours) == pytest.approx(1.0)


@pytest.mark.parametrize('axis', ['x', 'y', 'z'])
def test_half_turns(axis):
    rotation = Rotation.from_euler(axis, 180, degrees=True)
    ours = geometry.quaternion_from_matrix(rotation.as_matrix())
    assert (Rotation.from_quat(ours).inv() * rotation).magnitude() < 1e-7


def test_quaternion_of_length_zero_is_refused():
    with pytest.raises(ValueError, match='zero'):
        geometry.matrix_from_quaternion(np.zeros(4))


@given(quaternions, st.tuples(component, component, component))
def test_invert(quaternion, translation):
    matrix = geometry.transform(geometry.matrix_from_quaternion(quaternion), np.array(translation))
    np.testing.assert_allclose(geometry.invert(matrix) @ matrix, np.eye(4), atol=1e-12)


@given(quaternions)
def test_rotation_vector_is_scipys_and_comes_back(quaternion):
    rotation = Rotation.from_quat(quaternion)
    ours = geometry.rotation_vector(rotation.as_matrix())
    assert np.linalg.norm(ours) <= math.pi + 1e-9
    np.testing.assert_allclose(geometry.rotation_from_vector(ours), rotation.as_matrix(), atol=1e-9)
    np.testing.assert_allclose(Rotation.from_rotvec(ours).as_matrix(), rotation.as_matrix(), atol=1e-9)


@pytest.mark.parametrize('angle', [0.0, 1e-12, 1e-6, 1.0, math.pi])
def test_rotation_vectors_of_any_length(angle):
    vector = np.array([angle, 0.0, 0.0])
    np.testing.assert_allclose(geometry.rotation_vector(geometry.rotation_from_vector(vector)), vector, atol=1e-9)


@given(quaternions, quaternions, st.floats(0.0, 1.0))
def test_interpolated_poses_are_scipys(first, second, share):
    ends = Rotation.from_quat([first, second])
    if (ends[0].inv() * ends[1]).magnitude() > 3.1:
        return  # two ways round
    places = [1, 2, 3], [5, 2, 1]
    a, b = (geometry.transform(turn.as_matrix(), np.array(place)) for turn, place in zip(ends, places, strict=True))
    middle = geometry.interpolate_pose(a, b, share)
    np.testing.assert_allclose(middle[:3, :3], Slerp([0, 1], ends)(share).as_matrix(), atol=1e-7)
    np.testing.assert_allclose(middle[:3, 3], [1 + 4 * share, 2, 3 - 2 * share], atol=1e-12)


def test_body_from_optical_is_rep_103():
    forward, left, up = np.eye(3)
    turn = geometry.BODY_FROM_OPTICAL[:3, :3]
    np.testing.assert_array_equal(turn @ [0, 0, 1], forward)
    np.testing.assert_array_equal(turn @ [-1, 0, 0], left)
    np.testing.assert_array_equal(turn @ [0, -1, 0], up)
    assert np.linalg.det(turn) == pytest.approx(1.0)


def test_world_from_camera_inverts_the_encoding():
    rotation = Rotation.from_euler('xyz', [10, 20, 30], degrees=True)
    encoding = np.concatenate(([1.0, 2.0, 3.0], 2.5 * rotation.as_quat(), [0.8, 1.1]))
    camera_from_world = np.linalg.inv(geometry.world_from_camera(encoding))
    np.testing.assert_allclose(camera_from_world[:3, :3], rotation.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(camera_from_world[:3, 3], [1.0, 2.0, 3.0], atol=1e-12)


def test_intrinsics():
    encoding = np.array([0, 0, 0, 0, 0, 0, 1, math.radians(60), math.radians(90)])
    matrix = geometry.intrinsics(encoding, (100, 200))
    np.testing.assert_allclose(matrix, [[100, 0, 100], [0, 50 / math.tan(math.radians(30)), 50], [0, 0, 1]])


@pytest.mark.parametrize('fov', [0.0, math.pi, 40.0])
def test_impossible_fields_of_view_stay_finite(fov):
    matrix = geometry.intrinsics(np.array([0, 0, 0, 0, 0, 0, 1, fov, fov]), (100, 200))
    assert np.isfinite(matrix).all()
    assert matrix[0, 0] > 0.0


@pytest.mark.parametrize('kind', [np.asarray, torch.as_tensor])
def test_unproject_projects_back(kind):
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.5, 5.0, (6, 9)).astype(np.float32)
    depth[2, 3] = np.nan
    matrix = np.array([[50.0, 0, 4.2], [0, 60.0, 2.9], [0, 0, 1]])
    points = np.asarray(geometry.unproject(kind(depth), matrix))
    assert points.dtype == np.float32
    pixels = points @ matrix.T
    v, u = np.mgrid[0:6, 0:9]
    good = np.isfinite(depth)
    np.testing.assert_allclose((pixels[..., 0] / pixels[..., 2])[good], u[good], atol=1e-4)
    np.testing.assert_allclose((pixels[..., 1] / pixels[..., 2])[good], v[good], atol=1e-4)
    np.testing.assert_array_equal(points[..., 2][good], depth[good])
    assert np.isnan(points[2, 3]).all()


def test_transform_points():
    matrix = geometry.transform(Rotation.from_euler('z', 90, degrees=True).as_matrix(), np.array([1.0, 2.0, 3.0]))
    points = geometry.transform_points(matrix, np.array([[[1.0, 0.0, 0.0]]], dtype=np.float32))
    np.testing.assert_allclose(points, [[[1.0, 3.0, 3.0]]], atol=1e-6)
    assert points.dtype == np.float32


@pytest.mark.parametrize('turn', [0.0, 1e-6, 1e-3, 0.5, 3.0])
def test_a_twist_makes_the_motion_that_it_was_taken_from(turn):
    random = np.random.default_rng(7)
    axis = random.normal(size=3)
    twist = np.concatenate([random.normal(size=3), turn * axis / np.linalg.norm(axis)])
    generator = np.zeros((4, 4))
    generator[:3, :3], generator[:3, 3] = geometry.skew(twist[3:]), twist[:3]
    motion = geometry.motion_of_twist(twist)
    np.testing.assert_allclose(motion, expm(generator), atol=1e-9)
    np.testing.assert_allclose(geometry.constant_twist(motion), twist, atol=1e-7)
