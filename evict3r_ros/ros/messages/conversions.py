# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Messages to numpy arrays and back, as pure functions: no node, no topic, no clock.

Byte fields are written into the array that a new message has, by ``frombytes``. A numpy array assigned there makes the
generated setter go through every single byte in Python, 50 to 250 ms an image instead of 0.1 ms, and from Jazzy on even
an ``array.array`` that is assigned, or given to the constructor, is copied (twice).

Headers are taken over as messages, never through a float: exact-time synchronizers compare nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import (
    Point,
    Pose,
    PoseStamped,
    PoseWithCovariance,
    Quaternion,
    Transform,
    TransformStamped,
    Twist,
    TwistWithCovariance,
    Vector3,
)
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header

from evict3r_ros.camera.calibration import (
    WHOLE_SENSOR,
    Calibration,
    SensorWindow,
    is_camera_matrix,
    is_of_no_pixels,
    is_off_centre,
)
from evict3r_ros.camera.lens import distortion_of
from evict3r_ros.camera.tone import SteadyTone
from evict3r_ros.errors import MessageError
from evict3r_ros.io.encodings import COLOUR_ENCODINGS, DEPTH_ENCODINGS, encoding_name, pixels_of
from evict3r_ros.io.stamps import NANOSECONDS
from evict3r_ros.odometry.integrator import OdometryState
from evict3r_ros.ros.messages.compressed import decode
from evict3r_ros.ros.messages.robot_libraries import (
    empty_cloud,
    matrix_from_quaternion,
    quaternion_from_matrix,
    rgb_from_pixels,
)

FARTHEST = 1e9  # metres: positions beyond are broken messages
MOST_COEFFICIENTS = 14  # of any of OpenCV's distortion models; K and P have fewer numbers


def rgb_from_image(message: Image, tone: SteadyTone | None = None) -> np.ndarray:
    """Return the pixels of a raw image as (height, width, 3) uint8 RGB.

    The array may share the message's memory (rgb8 without padding costs nothing). tone: makes 8 bits of 16; without
    it, the whole range of 16 bits is white. Raises MessageError with the reason when the encoding is not one of
    COLOUR_ENCODINGS or the message's sizes don't agree with each other.
    """
    return _rgb(pixels_of(message, COLOUR_ENCODINGS), encoding_name(message.encoding, COLOUR_ENCODINGS), tone)


def rgb_from_compressed(message: CompressedImage, tone: SteadyTone | None = None) -> np.ndarray:
    """Return a JPEG or PNG image as (height, width, 3) uint8 RGB, as `rgb_from_image` does.

    Raises MessageError, with the name of what it is, when it cannot be decoded.
    """
    return _rgb(*decode(np.frombuffer(message.data, np.uint8), message.format), tone)


def _rgb(pixels: np.ndarray, encoding: str, tone: SteadyTone | None) -> np.ndarray:
    if tone is not None and pixels.dtype == np.uint16:
        is_grey = pixels.ndim == 2 and not encoding.startswith('bayer')
        pixels, encoding = tone.grey(pixels) if is_grey else tone.colour(pixels), encoding.replace('16', '8')
    try:
        return rgb_from_pixels(pixels, encoding)
    except (cv2.error, RuntimeError) as error:  # the latter is cv_bridge's
        height, width = pixels.shape[:2]
        raise MessageError(f'image of {width} x {height} pixels of {encoding} cannot be converted: {error}') from error


def depth_from_image(message: Image) -> np.ndarray:
    """Return a depth image as (height, width) float32 metres along z, NaN where it says nothing (REP-118).

    Raises MessageError like `rgb_from_image`, for other encodings than DEPTH_ENCODINGS.
    """
    pixels = pixels_of(message, DEPTH_ENCODINGS)
    if pixels.dtype == np.float32:
        return np.where(pixels > 0.0, pixels, np.float32(np.nan))
    depth = pixels.astype(np.float32)
    depth *= 1e-3
    depth[pixels == 0] = np.nan
    return depth


def calibration_from_info(message: CameraInfo) -> Calibration | None:
    """Return the calibration in a CameraInfo, or None if it says that the camera is not calibrated (K[0] is 0).

    Raises MessageError for numbers that are none: a calibration with NaN would never be equal to itself.
    """
    if message.k[0] == 0.0:
        return None
    K, P = (tuple(float(v) for v in values) for values in (message.k, message.p))
    if not np.isfinite(K).all():
        raise MessageError('camera_info has a K of numbers that are not finite')
    if not is_camera_matrix(np.reshape(K, (3, 3))):
        raise MessageError(f'K = {list(K)} is not a camera matrix')
    size = message.height, message.width
    if is_of_no_pixels(K, size):
        raise MessageError(f'K has a focal length of {K[0]:.3g}, which is not in pixels of {size[1]} x {size[0]}')
    # One more than there can be is enough to see that there are too many.
    model, D, assumed = distortion_of(message.distortion_model, message.d[: MOST_COEFFICIENTS + 1])
    if not np.isfinite(P).all():
        P, assumed = (0.0,) * 12, '; '.join(filter(None, (assumed, 'its P has numbers that are not finite: K is used')))
    roi = message.roi
    window = SensorWindow(
        (max(1, message.binning_y), max(1, message.binning_x)), (roi.y_offset, roi.x_offset), (roi.height, roi.width)
    )
    if window == WHOLE_SENSOR and is_off_centre(K, size):
        doubt = f'the centre of K is far from that of {size[1]} x {size[0]} pixels: is it for another resolution?'
        assumed = '; '.join(filter(None, (assumed, doubt)))
    return Calibration(size=size, model=model, K=K, D=D, P=P, window=window, assumed=assumed)


def image_from_map(values: np.ndarray, header: Header) -> Image:
    """Return a (h, w) map as 32FC1; depth as in REP-118: metres along the optical z axis, NaN where invalid."""
    height, width = values.shape
    message = Image(header=header, height=height, width=width, encoding='32FC1', is_bigendian=0, step=4 * width)
    message.data.frombytes(_bytes_of(values.astype('<f4', copy=False)))
    return message


def image_from_rgb(rgb: np.ndarray, header: Header) -> Image:
    """Return (h, w, 3) uint8 RGB as rgb8."""
    height, width = rgb.shape[:2]
    message = Image(header=header, height=height, width=width, encoding='rgb8', is_bigendian=0, step=3 * width)
    message.data.frombytes(_bytes_of(rgb))
    return message


def info_from_K(K: np.ndarray, size: tuple[int, int], header: Header) -> CameraInfo:
    """Return the CameraInfo of an undistorted image of `size` (height, width) with the (3, 3) matrix `K`."""
    K = np.asarray(K, np.float64)
    return CameraInfo(
        header=header,
        height=size[0],
        width=size[1],
        distortion_model='plumb_bob',
        d=[0.0] * 5,
        k=K.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([K, np.zeros((3, 1))]).ravel(),
    )


def cloud_from_planes(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, rgb: np.ndarray, header: Header, again: PointCloud2 | None = None
) -> PointCloud2:
    """Return an organised cloud of (h, w) float32 coordinates in metres, NaN where invalid, and (h, w, 3) uint8 RGB.

    The colour is one float32 field `rgb` whose bits are 0x00RRGGBB: what PCL began and rviz2 expects. The top byte
    stays 0 so that no colour is a NaN. again: a cloud made here that nobody needs any more; if it has the size, it
    becomes this one, since fresh memory costs a third more.
    """
    height, width = z.shape
    if again is not None and (again.height, again.width) == (height, width):
        message = again
    else:
        fields = [
            PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
            for i, name in enumerate(('x', 'y', 'z', 'rgb'))
        ]
        message = empty_cloud(height, width, fields)
    message.header = header
    bgra = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGRA).view(np.uint32)[..., 0]
    np.bitwise_and(bgra, np.uint32(0x00FFFFFF), out=bgra)
    # One pass over the message's memory, which for 1280 x 720 is 15 MB, instead of one for each field.
    cv2.merge([x, y, z, bgra.view(np.float32)], dst=np.frombuffer(message.data, np.float32).reshape(height, width, 4))
    return message


def odometry_from_state(state: OdometryState, header: Header, child_frame: str) -> Odometry:
    """Return pose of `child_frame` in the header's frame and its twist in its own axes, both with covariance."""
    linear, angular = (Vector3(**_named(part)) for part in (state.twist[:3], state.twist[3:]))
    return Odometry(
        header=header,
        child_frame_id=child_frame,
        pose=PoseWithCovariance(pose=_pose(state.odom_from_child), covariance=state.pose_covariance.ravel()),
        twist=TwistWithCovariance(
            twist=Twist(linear=linear, angular=angular), covariance=state.twist_covariance.ravel()
        ),
    )


def path_from_poses(poses: Iterable[tuple[int, np.ndarray]], header: Header) -> Path:
    """Return a path of stamps in nanoseconds and poses (4, 4) in the header's frame."""
    return Path(
        header=header,
        poses=[
            PoseStamped(
                header=Header(
                    stamp=Time(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS), frame_id=header.frame_id
                ),
                pose=_pose(pose),
            )
            for stamp_ns, pose in poses
        ],
    )


def transform_from_pose(odom_from_child: np.ndarray, header: Header, child_frame: str) -> TransformStamped:
    """Return the same pose as a transform for /tf."""
    return TransformStamped(
        header=header,
        child_frame_id=child_frame,
        transform=Transform(translation=Vector3(**_xyz(odom_from_child)), rotation=_quaternion(odom_from_child)),
    )


def matrix_from_transform(transform: Transform) -> np.ndarray:
    """Return a geometry_msgs/Transform as a (4, 4) matrix; raises MessageError if it is not a rigid transform."""
    return _rigid(transform.translation, transform.rotation, 'transform')


def pose_from_odometry(message: Odometry) -> np.ndarray:
    """Return the (4, 4) pose in an Odometry, header frame from child; raises MessageError if it is not a rigid one."""
    return _rigid(message.pose.pose.position, message.pose.pose.orientation, 'odometry')


def _rigid(position: Point | Vector3, orientation: Quaternion, what: str) -> np.ndarray:
    xyzw = np.array([orientation.x, orientation.y, orientation.z, orientation.w])
    xyzw = np.clip(xyzw, -2.0, 2.0)  # so that no square of a broken one overflows
    matrix = np.eye(4)
    matrix[:3, 3] = position.x, position.y, position.z
    norm = np.linalg.norm(xyzw)
    # Written so that NaN is refused as well.
    if not (np.abs(matrix[:3, 3]).max() < FARTHEST and abs(norm - 1.0) < 0.01):
        raise MessageError(f'{what} with translation {matrix[:3, 3]} and quaternion xyzw {xyzw} is not rigid')
    matrix[:3, :3] = matrix_from_quaternion(xyzw / norm)
    return matrix


def _bytes_of(values: np.ndarray) -> memoryview:
    return np.ascontiguousarray(values).data.cast('B')


def _pose(matrix: np.ndarray) -> Pose:
    return Pose(position=Point(**_xyz(matrix)), orientation=_quaternion(matrix))


def _xyz(matrix: np.ndarray) -> dict[str, float]:
    return _named(matrix[:3, 3])


def _named(vector: np.ndarray) -> dict[str, float]:
    return dict(zip('xyz', vector.tolist(), strict=True))


def _quaternion(matrix: np.ndarray) -> Quaternion:
    x, y, z, w = (float(v) for v in quaternion_from_matrix(matrix[:3, :3]))
    return Quaternion(x=x, y=y, z=z, w=w)
