# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Messages to numpy arrays and back, as pure functions: no node, no topic, no clock.

Byte fields are handed to messages as ``array.array('B')`` filled by ``frombytes``. Assigning a numpy array there
makes the generated setter go through every single byte in Python: 50 to 250 ms an image instead of 0.1 ms.

Headers are taken over as messages, never through a float: exact-time synchronizers compare nanoseconds.
"""

from __future__ import annotations

import array
from collections.abc import Callable
from dataclasses import dataclass

import cv2
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header

from evict3r_ros import geometry
from evict3r_ros.rectify import Calibration

MAX_PIXELS = 64_000_000  # larger images are taken for broken messages: nothing the node could answer in time
CLOUD_POINT_STEP = 16


@dataclass(frozen=True)
class Encoding:
    """How the pixels of one `sensor_msgs/Image` encoding lie in memory and become RGB."""

    channels: int
    dtype: str
    to_rgb: Callable[[np.ndarray], np.ndarray]


def _from_mono16(pixels: np.ndarray) -> np.ndarray:
    # The whole range of 16 bits is white, as in cv_bridge; a 12 bit camera has to fill it or comes out dark.
    return cv2.cvtColor((pixels >> 8).astype(np.uint8), cv2.COLOR_GRAY2RGB)


def _convert(code: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: cv2.cvtColor(pixels, code)


ENCODINGS = {
    'rgb8': Encoding(3, 'u1', lambda pixels: pixels),
    'bgr8': Encoding(3, 'u1', _convert(cv2.COLOR_BGR2RGB)),
    'rgba8': Encoding(4, 'u1', _convert(cv2.COLOR_RGBA2RGB)),
    'bgra8': Encoding(4, 'u1', _convert(cv2.COLOR_BGRA2RGB)),
    'mono8': Encoding(1, 'u1', _convert(cv2.COLOR_GRAY2RGB)),
    'mono16': Encoding(1, 'u2', _from_mono16),
}


def rgb_from_image(message: Image) -> np.ndarray:
    """Return the pixels of a raw image as (height, width, 3) uint8 RGB.

    The array may share the message's memory (rgb8 without padding costs nothing). Raises ValueError with the
    reason when the encoding is not one of ENCODINGS or the message's sizes don't agree with each other.
    """
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise ValueError(f'encoding {message.encoding!r} is not supported (known: {", ".join(ENCODINGS)})')
    height, width, step = message.height, message.width, message.step
    _check_size(height, width)
    item = np.dtype(encoding.dtype).itemsize
    row = width * encoding.channels * item
    if step < row:
        raise ValueError(f'step of {step} bytes is less than a row: {width} pixels of {message.encoding} are {row}')
    if len(message.data) != height * step:
        raise ValueError(f'{len(message.data)} bytes of data, but {height} rows of {step} bytes are {height * step}')
    rows = np.frombuffer(message.data, np.uint8).reshape(height, step)[:, :row]
    if item > 1:
        rows = np.ascontiguousarray(rows).view(('>' if message.is_bigendian else '<') + encoding.dtype)
        rows = rows.astype(encoding.dtype, copy=False)
    pixels = rows if encoding.channels == 1 else rows.reshape(height, width, encoding.channels)
    return np.ascontiguousarray(encoding.to_rgb(np.ascontiguousarray(pixels)))


def rgb_from_compressed(message: CompressedImage) -> np.ndarray:
    """Return a jpeg or png image as (height, width, 3) uint8 RGB; raises ValueError when it cannot be decoded."""
    data = np.frombuffer(message.data, np.uint8)
    if data.size == 0:
        raise ValueError('compressed image without data')
    # OpenCV 4 fills the missing rest of a JPEG with grey. The end marker may be followed by a driver's padding.
    if data[:2].tobytes() == b'\xff\xd8' and b'\xff\xd9' not in data[-1024:].tobytes():
        raise ValueError(f'compressed image ({data.size} bytes of JPEG) is truncated')
    # The stored bytes say what they are; `format` is free text that image_transport and drivers fill differently.
    # IGNORE_ORIENTATION: an EXIF turn would move pixels away from where camera_info says they are.
    try:
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ValueError(f'compressed image ({message.format!r}) cannot be decoded: {error.err}') from error
    if bgr is None:
        raise ValueError(f'compressed image ({message.format!r}, {data.size} bytes) cannot be decoded')
    _check_size(*bgr.shape[:2])
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def calibration_from_info(message: CameraInfo) -> Calibration | None:
    """Return the calibration in a CameraInfo, or None if it says that the camera is not calibrated (K[0] is 0)."""
    if message.k[0] == 0.0:
        return None
    return Calibration(size=(message.height, message.width), model=message.distortion_model or 'plumb_bob',
                       K=tuple(float(v) for v in message.k), D=tuple(float(v) for v in message.d),
                       P=tuple(float(v) for v in message.p))


def image_from_map(values: np.ndarray, header: Header) -> Image:
    """Return a (h, w) map as 32FC1; depth as in REP-118: metres along the optical z axis, NaN where invalid."""
    height, width = values.shape
    return Image(header=header, height=height, width=width, encoding='32FC1', is_bigendian=0, step=4 * width,
                 data=_bytes_field(values.astype('<f4', copy=False)))


def image_from_rgb(pixels: np.ndarray, header: Header) -> Image:
    """Return an (h, w, 3) uint8 RGB image as rgb8."""
    height, width = pixels.shape[:2]
    return Image(header=header, height=height, width=width, encoding='rgb8', is_bigendian=0, step=3 * width,
                 data=_bytes_field(pixels))


def info_from_K(K: np.ndarray, size: tuple[int, int], header: Header) -> CameraInfo:
    """Return the CameraInfo of an undistorted image of `size` (height, width) with the (3, 3) matrix `K`."""
    K = np.asarray(K, np.float64)
    return CameraInfo(header=header, height=size[0], width=size[1], distortion_model='plumb_bob', d=[0.0] * 5,
                      k=K.ravel(), r=np.eye(3).ravel(), p=np.hstack([K, np.zeros((3, 1))]).ravel())


def cloud_from_points(points: np.ndarray, rgb: np.ndarray, header: Header) -> PointCloud2:
    """Return an organised cloud of (h, w, 3) points in metres, NaN where invalid, with (h, w, 3) uint8 colours.

    The colour is one float32 field `rgb` whose bits are 0x00RRGGBB: what PCL began and rviz2 expects. The top byte
    stays 0 so that no colour is a NaN.
    """
    height, width = points.shape[:2]
    # Written straight into the message's memory by two passes of OpenCV: 0.5 ms at 518 x 392 instead of 2.
    data = array.array('B', [0]) * (CLOUD_POINT_STEP * width * height)
    cloud = np.frombuffer(data, np.float32).reshape(height, width, 4)
    cv2.cvtColor(np.ascontiguousarray(points), cv2.COLOR_RGB2RGBA, dst=cloud)
    bgra = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGRA).view(np.uint32)[..., 0]
    np.bitwise_and(bgra, np.uint32(0x00FFFFFF), out=cloud.view(np.uint32)[..., 3])
    return PointCloud2(header=header, height=height, width=width, is_bigendian=False, is_dense=False,
                       point_step=CLOUD_POINT_STEP, row_step=CLOUD_POINT_STEP * width, data=data,
                       fields=[PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
                               for i, name in enumerate(('x', 'y', 'z', 'rgb'))])


def transform_from_pose(odom_from_child: np.ndarray, header: Header, child_frame: str) -> TransformStamped:
    """Return the pose (4, 4) of `child_frame` in the header's frame as a transform for /tf."""
    return TransformStamped(header=header, child_frame_id=child_frame, transform=Transform(
        translation=Vector3(**_xyz(odom_from_child)), rotation=_quaternion(odom_from_child)))


def matrix_from_transform(transform: Transform) -> np.ndarray:
    """Return a geometry_msgs/Transform as a (4, 4) matrix; raises ValueError if it is not a rigid transform."""
    t, q = transform.translation, transform.rotation
    xyzw = np.array([q.x, q.y, q.z, q.w])
    matrix = np.eye(4)
    matrix[:3, 3] = t.x, t.y, t.z
    norm = np.linalg.norm(xyzw)
    if not np.isfinite(matrix).all() or not np.isfinite(norm) or abs(norm - 1.0) > 0.01:
        raise ValueError(f'transform with translation {matrix[:3, 3]} and quaternion xyzw {xyzw} is not rigid')
    matrix[:3, :3] = geometry.matrix_from_quaternion(xyzw / norm)
    return matrix


def _check_size(height: int, width: int) -> None:
    if height == 0 or width == 0:
        raise ValueError(f'image of {width} x {height} pixels is empty')
    if height * width > MAX_PIXELS:
        raise ValueError(f'image of {width} x {height} pixels is larger than the {MAX_PIXELS} accepted')


def _bytes_field(values: np.ndarray) -> array.array:
    """Return the bytes of an array as what a uint8[] field takes without checking each one (see the module)."""
    field = array.array('B')
    field.frombytes(memoryview(np.ascontiguousarray(values)).cast('B'))
    return field


def _xyz(matrix: np.ndarray) -> dict[str, float]:
    return dict(zip('xyz', (float(v) for v in matrix[:3, 3])))


def _quaternion(matrix: np.ndarray) -> Quaternion:
    x, y, z, w = (float(v) for v in geometry.quaternion_from_matrix(matrix[:3, :3]))
    return Quaternion(x=x, y=y, z=z, w=w)
