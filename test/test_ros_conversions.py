# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Arrays to messages and back: depth, calibration, clouds, poses. Images are in test_ros_encodings.py."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('sensor_msgs.msg', reason='ROS 2 is not installed here')

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion, Transform, Vector3
from nav_msgs.msg import Odometry
from rclpy.serialization import deserialize_message, serialize_message
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from evict3r_ros import geometry
from evict3r_ros.errors import MessageError
from evict3r_ros.odometry.integrator import OdometryIntegrator
from evict3r_ros.odometry.scale import ScaleState
from evict3r_ros.ros.messages import conversions

HEADER = Header(stamp=Time(sec=1403638538, nanosec=577829377), frame_id='cam0')


def test_depth_survives_the_wire_bit_for_bit():
    depth = np.array([[0.5, np.nan, 3.25], [1e-6, 80.0, 2.0]], np.float32)
    message = conversions.image_from_map(depth, HEADER)
    message = deserialize_message(serialize_message(message), Image)
    assert message.header == HEADER
    assert (message.encoding, message.height, message.width, message.step) == ('32FC1', 2, 3, 12)
    np.testing.assert_array_equal(np.frombuffer(message.data, '<f4').reshape(2, 3), depth)


def test_colours_go_out_as_rgb8():
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)[:, ::2]
    message = deserialize_message(serialize_message(conversions.image_from_rgb(rgb, HEADER)), Image)
    assert message.header == HEADER and (message.encoding, message.step) == ('rgb8', 9)
    np.testing.assert_array_equal(conversions.rgb_from_image(message), rgb)


def test_a_transposed_map_is_not_sent_transposed():
    depth = np.arange(6, dtype=np.float32).reshape(2, 3).T
    message = conversions.image_from_map(depth, HEADER)
    np.testing.assert_array_equal(np.frombuffer(message.data, '<f4').reshape(3, 2), depth)


def test_camera_info_of_an_undistorted_image():
    K = np.array([[450.5, 0, 320.25], [0, 451.5, 240.75], [0, 0, 1]])
    message = deserialize_message(serialize_message(conversions.info_from_K(K, (480, 640), HEADER)), CameraInfo)
    assert message.header == HEADER and (message.height, message.width) == (480, 640)
    assert message.distortion_model == 'plumb_bob' and list(message.d) == [0.0] * 5
    np.testing.assert_array_equal(np.reshape(message.k, (3, 3)), K)
    np.testing.assert_array_equal(np.reshape(message.r, (3, 3)), np.eye(3))
    np.testing.assert_array_equal(np.reshape(message.p, (3, 4)), np.hstack([K, np.zeros((3, 1))]))
    again = conversions.calibration_from_info(message)
    assert again.size == (480, 640)
    np.testing.assert_array_equal(again.K, K.ravel())


def test_camera_info_of_an_uncalibrated_camera_is_none():
    assert conversions.calibration_from_info(CameraInfo(height=480, width=640)) is None


def test_cloud_is_what_rviz_reads():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(4, 5, 3)).astype(np.float32)
    points[1, 2] = np.nan
    rgb = rng.integers(0, 256, (4, 5, 3), np.uint8)
    rgb[0, 0] = 255, 128, 1
    message = conversions.cloud_from_planes(*np.moveaxis(points, 2, 0).copy(), rgb, HEADER)
    message = deserialize_message(serialize_message(message), PointCloud2)
    assert message.header == HEADER
    assert (message.height, message.width, message.point_step, message.row_step) == (4, 5, 16, 80)
    assert not message.is_dense and not message.is_bigendian
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        (name, 4 * i, PointField.FLOAT32, 1) for i, name in enumerate(['x', 'y', 'z', 'rgb'])
    ]
    values = np.frombuffer(message.data, '<f4').reshape(4, 5, 4)
    np.testing.assert_array_equal(values[..., :3], points)
    packed = np.frombuffer(message.data, '<u4').reshape(4, 5, 4)[..., 3]
    assert packed[0, 0] == 0x00FF8001
    np.testing.assert_array_equal(np.stack([packed >> 16, packed >> 8 & 255, packed & 255], 2), rgb)


@given(st.integers(0, 2**32 - 1))
def test_pose_round_trip(seed):
    rng = np.random.default_rng(seed)
    pose = geometry.transform(Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3) * 10)
    transform = conversions.transform_from_pose(pose, HEADER, 'base_link')
    assert transform.header == HEADER and transform.child_frame_id == 'base_link'
    np.testing.assert_allclose(conversions.matrix_from_transform(transform.transform), pose, atol=1e-12)


@pytest.mark.parametrize('quaternion', [(0, 0, 0, 0), (0, 0, 0, 2), (np.nan, 0, 0, 1)])
def test_a_transform_that_is_not_rigid_is_refused(quaternion):
    x, y, z, w = map(float, quaternion)
    with pytest.raises(ValueError, match='not rigid'):
        conversions.matrix_from_transform(Transform(translation=Vector3(), rotation=Quaternion(x=x, y=y, z=z, w=w)))


def test_a_cloud_may_become_the_next_one_of_its_size():
    rng = np.random.default_rng(2)
    first, second = (
        [*rng.normal(size=(3, 4, 6)).astype(np.float32), rng.integers(0, 256, (4, 6, 3), np.uint8)] for _ in range(2)
    )
    sent = conversions.cloud_from_planes(*first, Header())
    data = sent.data
    again = conversions.cloud_from_planes(*second, HEADER, again=sent)
    assert again.data is data and again == conversions.cloud_from_planes(*second, HEADER)
    smaller = conversions.cloud_from_planes(*(plane[:2] for plane in first), HEADER, again=sent)
    assert smaller.data is not data and len(smaller.data) == 2 * 6 * 16


def test_a_cloud_takes_every_other_pixel_of_larger_arrays():
    x = np.arange(48, dtype=np.float32).reshape(6, 8)
    rgb = np.arange(144, dtype=np.uint8).reshape(6, 8, 3)
    taken = (slice(None, None, 2),) * 2
    message = conversions.cloud_from_planes(x[taken], x[taken], x[taken], rgb[taken], HEADER)
    wanted = conversions.cloud_from_planes(*[x[taken].copy()] * 3, rgb[taken].copy(), HEADER)
    assert message == wanted


def test_odometry_carries_pose_twist_and_both_covariances():
    trajectory = OdometryIntegrator(np.eye(4))
    trajectory.advance(0, np.eye(4), ScaleState())
    turn = Rotation.from_euler('z', 0.1).as_matrix()
    state = trajectory.advance(10**8, geometry.transform(turn, np.array([0.2, 0.0, 0.0])), ScaleState())
    message = conversions.odometry_from_state(state, HEADER, 'base_link')
    message = deserialize_message(serialize_message(message), Odometry)
    assert message.header == HEADER and message.child_frame_id == 'base_link'
    np.testing.assert_allclose(conversions.pose_from_odometry(message), state.odom_from_child, atol=1e-12)
    twist = message.twist.twist
    np.testing.assert_allclose([twist.linear.x, twist.linear.y, twist.angular.z], [*state.twist[:2], state.twist[5]])
    np.testing.assert_allclose(np.reshape(message.pose.covariance, (6, 6)), state.pose_covariance)
    np.testing.assert_allclose(np.reshape(message.twist.covariance, (6, 6)), state.twist_covariance)


def test_a_path_has_the_stamps_and_poses_it_was_given():
    poses = [(3 * 10**9 + 7, np.eye(4)), (4 * 10**9, geometry.transform(np.eye(3), np.array([1.0, 2.0, 3.0])))]
    path = conversions.path_from_poses(poses, HEADER)
    assert path.header == HEADER and [entry.header.frame_id for entry in path.poses] == [HEADER.frame_id] * 2
    assert (path.poses[0].header.stamp.sec, path.poses[0].header.stamp.nanosec) == (3, 7)
    assert (path.poses[1].pose.position.x, path.poses[1].pose.orientation.w) == (1.0, 1.0)


def test_odometry_that_is_no_pose_is_refused():
    message = Odometry()
    message.pose.pose.orientation.w = 0.0
    with pytest.raises(MessageError, match=r'odometry .* not rigid'):
        conversions.pose_from_odometry(message)


def test_large_messages_are_made_without_checking_every_byte():
    """An assignment of numpy to the byte field takes 50 ms and more; three clouds' worth has to be far from that."""
    depth, rgb = np.zeros((392, 518), np.float32), np.zeros((392, 518, 3), np.uint8)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        conversions.cloud_from_planes(*[depth] * 3, rgb, HEADER)
        conversions.image_from_map(depth, HEADER)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.02
