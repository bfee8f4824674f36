# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Libraries that come with ROS on a robot and are not on PyPI: used where they import, and else our own way.

Both ways give the same answers; test_ros_libraries.py holds them to that wherever both are there.

- cv_bridge turns encodings into RGB. Only its conversion is used, not `imgmsg_to_cv2`: that shears rows whose padding
  is no multiple of a pixel, fails on big-endian images with numpy 2 (it calls `ndarray.newbyteorder`), and does not
  know 'uyvy' and 'yuyv', the names that sensor_msgs gives yuv422 and yuv422_yuy2 since Iron. Nor is
  `compressed_imgmsg_to_cv2`: it takes 16 bits or one channel for bgr8, and a truncated JPEG for a whole one.
- tf_transformations turns rotations into quaternions and back.
- sensor_msgs_py makes an empty cloud, once for each size: fields, steps and memory. The points of each frame are then
  written into it in one pass, since `create_cloud` copies them, as (width, height), against everybody else's order.
  `read_points` is not used: it takes a row for `point_step * width` bytes, whatever `row_step` says.

tf2_ros is no dependency: see perception/transforms.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from evict3r_ros import geometry
from evict3r_ros.io.encodings import COLOUR_ENCODINGS, rgb_by_opencv

_NAMES_BEFORE_IRON = {'uyvy': 'yuv422', 'yuyv': 'yuv422_yuy2'}


def rgb_from_pixels(pixels: np.ndarray, encoding: str) -> np.ndarray:
    """Return pixels of one of COLOUR_ENCODINGS as (h, w, 3) uint8 RGB; what is RGB already is not copied."""
    layout = COLOUR_ENCODINGS[encoding]
    is_ours = encoding == 'rgb8' or layout.chroma_rows or layout.assumed  # no colour to cv_bridge, or not the same one
    convert = None if is_ours else _cv_bridge()
    if convert is not None:
        try:
            return convert(pixels, _NAMES_BEFORE_IRON.get(encoding, encoding), 'rgb8')
        except RuntimeError:  # an encoding that this release does not know: yuv422_yuy2 came late
            return rgb_by_opencv(pixels, encoding)
    return rgb_by_opencv(pixels, encoding)


def matrix_from_quaternion(xyzw: np.ndarray) -> np.ndarray:
    """Return the rotation (3, 3) of a unit quaternion."""
    library = _tf_transformations()
    return geometry.matrix_from_quaternion(xyzw) if library is None else library.quaternion_matrix(xyzw)[:3, :3]


def quaternion_from_matrix(rotation: np.ndarray) -> np.ndarray:
    """Return the unit quaternion xyzw (4,) of a rotation (3, 3)."""
    library = _tf_transformations()
    if library is None:
        return geometry.quaternion_from_matrix(rotation)
    return np.asarray(library.quaternion_from_matrix(geometry.transform(rotation, np.zeros(3))))


def empty_cloud(height: int, width: int, fields: list[PointField]) -> PointCloud2:
    """Return an organised cloud of zeros whose points are these fields, each of four bytes, one after the other."""
    library = _point_cloud2()
    if library is not None:
        zeros = np.zeros((width, height), library.dtype_from_fields(fields))
        return library.create_cloud(Header(), fields, zeros)
    step = 4 * len(fields)
    message = PointCloud2(
        height=height,
        width=width,
        is_bigendian=sys.byteorder != 'little',
        is_dense=False,
        point_step=step,
        row_step=step * width,
        fields=fields,
    )
    data = message.data
    data.append(0)
    data *= step * width * height
    return message


@cache
def _cv_bridge() -> Callable[[np.ndarray, str, str], np.ndarray] | None:
    """Return cv_bridge's conversion of encodings, None where there is none that is safe to call."""
    # The distributions' cv_bridge is built for numpy 1. Under numpy 2, which pip likes to bring, it imports and then
    # ends the process with a segmentation fault at its first call (seen with Debian's 1.16.2 and numpy 2.4).
    if int(np.__version__.split('.')[0]) >= 2:
        return None
    try:
        # What CvBridge.imgmsg_to_cv2 ends in: C++, and the same table of encodings as for C++ nodes.
        from cv_bridge.boost.cv_bridge_boost import cvtColor2
    except (ImportError, AttributeError):
        return None
    convert: Callable[[np.ndarray, str, str], np.ndarray] = cvtColor2
    return convert


@cache
def _point_cloud2() -> Any:
    """Return the module, None where it is not installed."""
    try:
        from sensor_msgs_py import point_cloud2
    except ImportError:
        return None
    return point_cloud2


@cache
def _tf_transformations() -> Any:
    """Return the module, None where it is not installed."""
    try:
        import tf_transformations
    except (ImportError, AttributeError):  # the latter: Ubuntu 22.04's transforms3d under a numpy from pip
        return None
    return tf_transformations
