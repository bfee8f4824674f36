# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Both sides of robot_libraries.py give the same answers: ours, and those of the libraries that come with ROS.

Each test is skipped where its library is not installed, which is everywhere but on a machine with ROS from apt.
"""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

pytest.importorskip('sensor_msgs.msg', reason='ROS 2 is not installed here')

from ros_images import HEADER, encode
from scipy.spatial.transform import Rotation

from evict3r_ros import geometry
from evict3r_ros.io.encodings import COLOUR_ENCODINGS, pixels_of, rgb_by_opencv
from evict3r_ros.ros.messages import conversions, robot_libraries


@pytest.fixture(autouse=True)
def fresh():
    """Forget, before and after, which libraries were found."""
    for find in (robot_libraries._cv_bridge, robot_libraries._point_cloud2, robot_libraries._tf_transformations):
        find.cache_clear()
    yield
    for find in (robot_libraries._cv_bridge, robot_libraries._point_cloud2, robot_libraries._tf_transformations):
        find.cache_clear()


def cv_bridge():
    found = robot_libraries._cv_bridge()
    if found is None:
        pytest.skip('cv_bridge is not installed here, or numpy is not version 1')
    return found


@pytest.mark.parametrize(
    'encoding',
    sorted(name for name, layout in COLOUR_ENCODINGS.items() if not layout.assumed and not layout.chroma_rows),
)
@pytest.mark.parametrize(('big', 'padding'), [(False, 0), (True, 8)])
def test_cv_bridge_and_opencv_agree(encoding, big, padding):
    convert, random = cv_bridge(), np.random.default_rng(1)
    message = encode(random.integers(0, 256, (36, 48, 3), np.uint8), encoding, big, padding)
    message.data = random.integers(0, 256, len(message.data), np.uint8).tobytes()
    pixels = pixels_of(message, COLOUR_ENCODINGS)
    np.testing.assert_array_equal(conversions.rgb_from_image(message), rgb_by_opencv(pixels, encoding))
    if encoding in ('yuyv', 'yuv422_yuy2'):  # which not every release knows: then ours was taken
        return
    theirs = convert(pixels, robot_libraries._NAMES_BEFORE_IRON.get(encoding, encoding), 'rgb8')
    np.testing.assert_array_equal(theirs, rgb_by_opencv(pixels, encoding))


def test_cv_bridge_and_opencv_agree_on_every_shade_of_16_bits():
    convert, shades = cv_bridge(), np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(convert(shades, 'mono16', 'rgb8'), rgb_by_opencv(shades, 'mono16'))


def test_tf_transformations_and_geometry_agree():
    pytest.importorskip('tf_transformations', reason='tf_transformations is not installed here')
    assert robot_libraries._tf_transformations() is not None
    for seed in range(200):
        rotation = Rotation.random(random_state=seed)
        theirs = robot_libraries.quaternion_from_matrix(rotation.as_matrix())
        ours = geometry.quaternion_from_matrix(rotation.as_matrix())
        np.testing.assert_allclose(theirs * np.sign(theirs @ ours), ours, atol=1e-9)
        np.testing.assert_allclose(robot_libraries.matrix_from_quaternion(ours), rotation.as_matrix(), atol=1e-9)


def test_sensor_msgs_py_reads_the_clouds_we_write():
    point_cloud2 = pytest.importorskip('sensor_msgs_py.point_cloud2', reason='sensor_msgs_py is not installed here')
    random = np.random.default_rng(3)
    planes = random.normal(size=(3, 5, 7)).astype(np.float32)
    planes[2, 1, 2] = np.nan
    cloud = conversions.cloud_from_planes(*planes, random.integers(0, 256, (5, 7, 3), np.uint8), HEADER)
    theirs = point_cloud2.read_points_numpy(cloud, ['x', 'y', 'z'])
    np.testing.assert_array_equal(theirs.reshape(5, 7, 3), np.moveaxis(planes, 0, 2))
    # Written by create_cloud, with the axes swapped as it wants them, the same bytes come out.
    points = np.frombuffer(cloud.data, np.float32).reshape(35, 4)
    again = point_cloud2.create_cloud(cloud.header, cloud.fields, points)
    assert again.data == cloud.data and again.point_step == cloud.point_step


def test_an_empty_cloud_of_sensor_msgs_py_is_ours(monkeypatch):
    pytest.importorskip('sensor_msgs_py.point_cloud2', reason='sensor_msgs_py is not installed here')
    assert robot_libraries._point_cloud2() is not None
    planes, rgb = np.random.default_rng(4).normal(size=(3, 5, 7)).astype(np.float32), np.zeros((5, 7, 3), np.uint8)
    theirs = conversions.cloud_from_planes(*planes, rgb, HEADER)
    monkeypatch.setattr(robot_libraries, '_point_cloud2', lambda: None)
    assert conversions.cloud_from_planes(*planes, rgb, HEADER) == theirs


def test_sensor_msgs_py_is_asked_once_a_size(monkeypatch):
    """A stand-in shows only who is asked and what for; the real one is held to our answers above."""
    asked = []

    def create_cloud(header, fields, points):
        asked.append(points.shape)
        monkeypatch.setattr(robot_libraries, '_point_cloud2', lambda: None)
        return robot_libraries.empty_cloud(points.shape[1], points.shape[0], fields)

    library = types.SimpleNamespace(create_cloud=create_cloud, dtype_from_fields=lambda fields: np.dtype('V16'))
    monkeypatch.setattr(robot_libraries, '_point_cloud2', lambda: library)
    planes, rgb = np.zeros((3, 5, 7), np.float32), np.zeros((5, 7, 3), np.uint8)
    cloud = conversions.cloud_from_planes(*planes, rgb, HEADER)
    assert asked == [(7, 5)] and (cloud.height, cloud.width, cloud.row_step) == (5, 7, 112)
    assert conversions.cloud_from_planes(*planes, rgb, HEADER, again=cloud) is cloud and len(asked) == 1


def test_without_the_libraries_our_own_way_is_taken(monkeypatch):
    for name in (
        'cv_bridge',
        'cv_bridge.boost',
        'cv_bridge.boost.cv_bridge_boost',
        'sensor_msgs_py',
        'tf_transformations',
    ):
        monkeypatch.setitem(sys.modules, name, None)  # import of these now raises ImportError
    assert robot_libraries._cv_bridge() is None and robot_libraries._tf_transformations() is None
    assert robot_libraries._point_cloud2() is None
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    np.testing.assert_array_equal(conversions.rgb_from_image(encode(rgb, 'bgr8')), rgb)
    rotation = Rotation.random(random_state=1).as_matrix()
    back = robot_libraries.matrix_from_quaternion(robot_libraries.quaternion_from_matrix(rotation))
    np.testing.assert_allclose(back, rotation, atol=1e-12)


def test_cv_bridge_is_asked_where_it_is_safe(monkeypatch):
    """A stand-in shows only who is asked and what for; the real one is held to our answers above."""
    asked = []
    boost = types.ModuleType('cv_bridge.boost.cv_bridge_boost')
    boost.cvtColor2 = lambda pixels, *names: asked.append(names) or rgb_by_opencv(pixels, 'yuyv')
    for name, module in (
        ('cv_bridge', types.ModuleType('cv_bridge')),
        ('cv_bridge.boost', types.ModuleType('boost')),
        ('cv_bridge.boost.cv_bridge_boost', boost),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    message = encode(np.zeros((2, 4, 3), np.uint8), 'yuyv')
    monkeypatch.setattr(robot_libraries.np, '__version__', '2.1.0')
    conversions.rgb_from_image(message)
    assert asked == [], 'built for numpy 1, it ends the process under numpy 2'
    robot_libraries._cv_bridge.cache_clear()
    monkeypatch.setattr(robot_libraries.np, '__version__', '1.26.4')
    conversions.rgb_from_image(message)
    assert asked == [('yuv422_yuy2', 'rgb8')]
