# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Messages to arrays and back: every encoding, padded rows, both byte orders, and messages that lie."""
from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip('sensor_msgs.msg', reason='ROS 2 is not installed here')

from builtin_interfaces.msg import Time  # noqa: E402
from geometry_msgs.msg import Quaternion, Transform, Vector3  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from evict3r_ros import geometry  # noqa: E402
from evict3r_ros.ros import conversions  # noqa: E402

HEADER = Header(stamp=Time(sec=1403638538, nanosec=577829377), frame_id='cam0')


def image_message(rows: np.ndarray, encoding: str, width: int, big: bool = False, padding: int = 0) -> Image:
    """Return a message of rows that are already in the encoding's memory layout, (h, bytes a row) uint8."""
    padded = np.concatenate([rows, np.full((rows.shape[0], padding), 0xAB, np.uint8)], axis=1)
    return Image(header=HEADER, height=rows.shape[0], width=width, encoding=encoding, is_bigendian=big,
                 step=padded.shape[1], data=padded.tobytes())


def encode(rgb: np.ndarray, encoding: str, big: bool = False, padding: int = 0) -> Image:
    """Return an RGB image as a message; for mono encodings the red channel is the grey value."""
    alpha = np.full_like(rgb[..., :1], 77)
    order = '>u2' if big else '<u2'
    pixels = {
        'rgb8': rgb, 'bgr8': rgb[..., ::-1], 'rgba8': np.concatenate([rgb, alpha], 2),
        'bgra8': np.concatenate([rgb[..., ::-1], alpha], 2), 'mono8': rgb[..., 0],
        'mono16': (rgb[..., 0].astype(np.uint16) * 256 + 200).astype(order)}[encoding]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(rgb.shape[0], -1)
    return image_message(rows, encoding, rgb.shape[1], big, padding)


def test_table_holds_what_the_first_release_promises():
    assert {'rgb8', 'bgr8', 'mono8'} <= set(conversions.ENCODINGS)


@settings(max_examples=150, deadline=None)
@given(encoding=st.sampled_from(sorted(conversions.ENCODINGS)), height=st.integers(1, 9), width=st.integers(1, 9),
       padding=st.integers(0, 5), big=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_every_encoding_comes_back_as_rgb(encoding, height, width, padding, big, seed):
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    wanted = rgb[..., :1].repeat(3, 2) if encoding.startswith('mono') else rgb
    message = encode(rgb, encoding, big, padding)
    answer = conversions.rgb_from_image(message)
    assert answer.dtype == np.uint8 and answer.flags.c_contiguous
    np.testing.assert_array_equal(answer, wanted)


@pytest.mark.parametrize('big', [False, True])
def test_mono16_respects_byte_order(big):
    message = image_message(np.array([[0x12, 0x34]], np.uint8), 'mono16', 1, big)
    assert conversions.rgb_from_image(message)[0, 0, 0] == (0x12 if big else 0x34)


def test_big_endian_means_nothing_for_bytes():
    rgb = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(conversions.rgb_from_image(encode(rgb, 'bgr8', big=True)), rgb)


@pytest.mark.parametrize(('change', 'reason'), [
    ({'encoding': 'yuv999'}, "encoding 'yuv999'"),
    ({'encoding': ''}, "encoding ''"),
    ({'step': 11}, 'step of 11 bytes'),
    ({'step': 0}, 'step of 0 bytes'),
    ({'step': 13}, '39'),
    ({'height': 0}, 'empty'),
    ({'width': 0}, 'empty'),
    ({'width': 5}, 'step of 12 bytes'),
    ({'height': 4}, '48'),
    ({'data': b''}, '0 bytes of data'),
    ({'data': bytes(35)}, '35 bytes of data'),
    ({'width': 2**31, 'height': 2**31, 'step': 2**32 - 1}, 'larger than'),
])
def test_messages_that_lie_are_refused(change, reason):
    message = encode(np.zeros((3, 4, 3), np.uint8), 'rgb8')
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ValueError, match=reason):
        conversions.rgb_from_image(message)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_mutated_message_is_refused_or_decoded(data):
    message = Image(
        height=data.draw(st.integers(0, 2**32 - 1) | st.integers(0, 4)), encoding=data.draw(
            st.sampled_from([*conversions.ENCODINGS, 'rgb', '32FC1']) | st.text(max_size=8)),
        width=data.draw(st.integers(0, 2**32 - 1) | st.integers(0, 4)), is_bigendian=data.draw(st.integers(0, 255)),
        step=data.draw(st.integers(0, 2**32 - 1) | st.integers(0, 16)), data=data.draw(st.binary(max_size=64)))
    try:
        answer = conversions.rgb_from_image(message)
    except ValueError:
        return
    assert answer.shape == (message.height, message.width, 3)


@pytest.mark.parametrize(('format_', 'extension', 'error'), [
    ('png', '.png', 0), ('rgb8; jpeg compressed bgr8', '.jpg', 8)])
def test_compressed(format_, extension, error):
    y, x = np.mgrid[:48, :64]
    rgb = np.stack([y * 4, x * 3, (x + y) * 2], 2).astype(np.uint8)
    data = cv2.imencode(extension, rgb[..., ::-1])[1].tobytes()
    answer = conversions.rgb_from_compressed(CompressedImage(format=format_, data=data))
    assert answer.shape == rgb.shape and answer.dtype == np.uint8
    assert np.abs(answer.astype(int) - rgb).max() <= error


def test_compressed_grey_becomes_rgb():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    data = cv2.imencode('.png', grey)[1].tobytes()
    answer = conversions.rgb_from_compressed(CompressedImage(format='png', data=data))
    np.testing.assert_array_equal(answer, grey[..., None].repeat(3, 2))


@pytest.mark.parametrize('data', [b'', b'\x00', b'not an image at all', b'\xff\xd8\xff\xe0' + bytes(40)])
def test_corrupt_compressed_is_refused(data):
    with pytest.raises(ValueError, match='compressed image'):
        conversions.rgb_from_compressed(CompressedImage(format='jpeg', data=data))


@pytest.mark.parametrize('extension', ['.png', '.jpg'])
@pytest.mark.parametrize('part', [0.1, 0.5, 0.95])
def test_truncated_compressed_is_refused(extension, part):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = cv2.imencode(extension, noise)[1].tobytes()
    with pytest.raises(ValueError, match='compressed image'):
        conversions.rgb_from_compressed(CompressedImage(format='any', data=whole[:int(part * len(whole))]))


def test_jpeg_with_padding_behind_its_end_is_taken():
    data = cv2.imencode('.jpg', np.full((16, 16, 3), 90, np.uint8))[1].tobytes() + bytes(200)
    assert conversions.rgb_from_compressed(CompressedImage(format='jpeg', data=data)).shape == (16, 16, 3)


def test_depth_survives_the_wire_bit_for_bit():
    depth = np.array([[0.5, np.nan, 3.25], [1e-6, 80.0, 2.0]], np.float32)
    message = conversions.image_from_map(depth, HEADER)
    message = deserialize_message(serialize_message(message), Image)
    assert message.header == HEADER
    assert (message.encoding, message.height, message.width, message.step) == ('32FC1', 2, 3, 12)
    np.testing.assert_array_equal(np.frombuffer(message.data, '<f4').reshape(2, 3), depth)


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
    assert again.size == (480, 640) and again.K == tuple(K.ravel())


def test_camera_info_of_an_uncalibrated_camera_is_none():
    assert conversions.calibration_from_info(CameraInfo(height=480, width=640)) is None


def test_cloud_is_what_rviz_reads():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(4, 5, 3)).astype(np.float32)
    points[1, 2] = np.nan
    rgb = rng.integers(0, 256, (4, 5, 3), np.uint8)
    rgb[0, 0] = 255, 128, 1
    message = conversions.cloud_from_points(points, rgb, HEADER)
    message = deserialize_message(serialize_message(message), PointCloud2)
    assert message.header == HEADER
    assert (message.height, message.width, message.point_step, message.row_step) == (4, 5, 16, 80)
    assert not message.is_dense and not message.is_bigendian
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        (name, 4 * i, PointField.FLOAT32, 1) for i, name in enumerate(['x', 'y', 'z', 'rgb'])]
    values = np.frombuffer(message.data, '<f4').reshape(4, 5, 4)
    np.testing.assert_array_equal(values[..., :3], points)
    packed = np.frombuffer(message.data, '<u4').reshape(4, 5, 4)[..., 3]
    assert packed[0, 0] == 0x00FF8001
    np.testing.assert_array_equal(np.stack([packed >> 16, packed >> 8 & 255, packed & 255], 2), rgb)


def test_colours_come_out_as_rgb8():
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    message = conversions.image_from_rgb(pixels, HEADER)
    assert (message.header, message.encoding, message.step) == (HEADER, 'rgb8', 21)
    np.testing.assert_array_equal(conversions.rgb_from_image(message), pixels)


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


def test_large_messages_are_made_without_checking_every_byte():
    """An assignment of numpy to the byte field takes 50 ms and more; three clouds' worth has to be far from that."""
    points = np.zeros((392, 518, 3), np.float32)
    rgb = np.zeros((392, 518, 3), np.uint8)
    took = []
    for _ in range(5):
        began = time.perf_counter()
        conversions.cloud_from_points(points, rgb, HEADER)
        conversions.image_from_map(points[..., 0], HEADER)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.02
