# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Write bags as a camera driver would: images, calibration, and the pose of the camera on the robot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.geometry import quaternion_from_matrix
from evict3r_ros.io.bag import BagWriter
from evict3r_ros.io.bag_types import message_types
from evict3r_ros.io.image_folder import CameraModel
from evict3r_ros.io.stamps import NANOSECONDS

IMAGE, CAMERA_INFO, TF = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CameraInfo', 'tf2_msgs/msg/TFMessage'


@dataclass(frozen=True)
class CameraTopics:
    """Topics of a camera in a bag, and the frame on which it is mounted."""

    image: str = '/camera/image_raw'
    camera_info: str = '/camera/camera_info'
    base_frame: str = 'base_link'


def write_image_bag(
    path: str | Path,
    frames: Iterable[tuple[int, np.ndarray]],
    camera: CameraModel,
    topics: CameraTopics | None = None,
    storage: str = 'mcap',
) -> int:
    """Write a camera's bag: Image and CameraInfo for each frame, and /tf_static if the camera's pose is known.

    frames: (stamp in ns, image (h, w) or (h, w, 3) uint8 RGB) in time order, read one at a time. The camera's name is
    the frame_id. Returns the number of frames. Raises UserError for an image of another size than the camera's.
    """
    topics = topics or CameraTopics()
    count = 0
    with BagWriter(path, storage) as bag:
        if camera.base_from_camera is not None:
            bag.add_topic('/tf_static', TF, latched=True)
        bag.add_topic(topics.image, IMAGE)
        bag.add_topic(topics.camera_info, CAMERA_INFO)
        for stamp, image in frames:
            if count == 0 and camera.base_from_camera is not None:
                bag.write(
                    '/tf_static',
                    stamp,
                    _static_transform(stamp, topics.base_frame, camera.name, camera.base_from_camera),
                )
            if image.shape[:2] != (camera.height, camera.width):
                raise UserError(
                    f'image {count} (stamp {stamp}) is {image.shape[1]} x {image.shape[0]}, but the camera'
                    f' file says {camera.width} x {camera.height}'
                )
            bag.write(topics.camera_info, stamp, _camera_info(stamp, camera))
            bag.write(topics.image, stamp, _image(stamp, image, camera.name))
            count += 1
    return count


def _make(name: str, **fields: Any) -> Any:
    return message_types().types[name](**fields)


def _header(stamp: int, frame: str) -> Any:
    time = _make('builtin_interfaces/msg/Time', sec=stamp // NANOSECONDS, nanosec=stamp % NANOSECONDS)
    return _make('std_msgs/msg/Header', stamp=time, frame_id=frame)


def _image(stamp: int, image: np.ndarray, frame: str) -> Any:
    image = np.ascontiguousarray(image, dtype=np.uint8)
    return _make(
        IMAGE,
        header=_header(stamp, frame),
        height=image.shape[0],
        width=image.shape[1],
        encoding='mono8' if image.ndim == 2 else 'rgb8',
        is_bigendian=0,
        step=image.nbytes // image.shape[0],
        data=image.reshape(-1),
    )


def _camera_info(stamp: int, camera: CameraModel) -> Any:
    roi = _make('sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return _make(
        CAMERA_INFO,
        header=_header(stamp, camera.name),
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model,
        d=camera.D.astype(np.float64),
        k=camera.K.reshape(-1),
        r=camera.R.reshape(-1),
        p=camera.P.reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def _static_transform(stamp: int, parent: str, child: str, parent_from_child: np.ndarray) -> Any:
    x, y, z, w = quaternion_from_matrix(parent_from_child[:3, :3]).tolist()
    translation = dict(zip('xyz', parent_from_child[:3, 3].tolist(), strict=True))
    transform = _make(
        'geometry_msgs/msg/Transform',
        translation=_make('geometry_msgs/msg/Vector3', **translation),
        rotation=_make('geometry_msgs/msg/Quaternion', x=x, y=y, z=z, w=w),
    )
    return _make(
        TF,
        transforms=[
            _make(
                'geometry_msgs/msg/TransformStamped',
                header=_header(stamp, parent),
                child_frame_id=child,
                transform=transform,
            )
        ],
    )
