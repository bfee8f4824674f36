# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read a recorded bag of a node's outputs as trajectory, coloured cloud, cameras and contact sheet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evict3r_ros.errors import MessageError, UserError
from evict3r_ros.geometry import matrix_from_quaternion, transform, transform_points
from evict3r_ros.io.bag import BagReader, header_stamp_ns
from evict3r_ros.io.contact_sheet import SheetRow
from evict3r_ros.io.encodings import COLOUR_ENCODINGS, DEPTH_ENCODINGS, encoding_name, pixels_of, rgb_by_opencv
from evict3r_ros.io.frame_tree import FrameTree
from evict3r_ros.io.image_bag import CAMERA_INFO, IMAGE, TF
from evict3r_ros.io.ply import VoxelCloud
from evict3r_ros.io.scene_camera import SceneCamera
from evict3r_ros.io.stamps import nanoseconds
from evict3r_ros.io.tum import TumWriter, format_stamp

_MOST_WAITING = 32
"""Clouds and poses without their counterpart: those of one frame arrive close together."""


@dataclass(frozen=True)
class AnswerTopics:
    """Names of the node's outputs."""

    depth: str
    depth_info: str
    confidence: str
    points: str
    odometry: str
    tf: str
    status: str
    rgb: str
    rgb_info: str
    path: str

    @classmethod
    def of_node(cls, node: str) -> AnswerTopics:
        """Return the topics of a node, given its name such as '/evict3r'."""
        node = '/' + node.lstrip('/')
        return cls(
            depth=f'{node}/depth/image_rect',
            depth_info=f'{node}/depth/camera_info',
            confidence=f'{node}/depth/confidence',
            points=f'{node}/points',
            odometry=f'{node}/odometry',
            tf='/tf',
            status=f'{node}/status',
            rgb=f'{node}/rgb/image_rect',
            rgb_info=f'{node}/rgb/camera_info',
            path=f'{node}/path',
        )

    def types(self) -> dict[str, str]:
        """Return the type of each topic."""
        return {
            self.depth: IMAGE,
            self.depth_info: CAMERA_INFO,
            self.confidence: IMAGE,
            self.points: 'sensor_msgs/msg/PointCloud2',
            self.odometry: 'nav_msgs/msg/Odometry',
            self.tf: TF,
            self.status: 'evict3r_ros/msg/StreamStatus',
            self.rgb: IMAGE,
            self.rgb_info: CAMERA_INFO,
            self.path: 'nav_msgs/msg/Path',
        }

    def of_every_frame(self) -> set[str]:
        """Return the topics with a message for each answered image, with the image's stamp."""
        return {self.depth, self.depth_info, self.points, self.odometry}


class StaticFrames(FrameTree):
    """Transforms of a bag's /tf_static, joined along the tree."""

    def __init__(self, bag: BagReader) -> None:
        super().__init__()
        if '/tf_static' in bag.topics:
            for _, _, message in bag.messages(['/tf_static']):
                for link in message.transforms:
                    matrix = _matrix(link.transform.translation, link.transform.rotation)
                    self.add(link.header.frame_id, link.child_frame_id, matrix)


def cloud_arrays(message: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return finite points (n, 3) float32 and colours (n, 3) uint8 of a PointCloud2 with x, y, z and rgb.

    Raises UserError for a cloud with other fields.
    """
    offsets = {entry.name: entry.offset for entry in message.fields}
    if not {'x', 'y', 'z', 'rgb'} <= offsets.keys():
        raise UserError(f'a cloud needs the fields x, y, z and rgb, this one has {", ".join(offsets) or "none"}')
    order = '>' if message.is_bigendian else '<'
    names = [*'xyz', 'rgb']
    layout = np.dtype(
        {
            'names': names,
            'formats': [order + 'f4'] * 3 + [order + 'u4'],
            'offsets': [offsets[name] for name in names],
            'itemsize': message.point_step,
        }
    )
    data = np.frombuffer(message.data, np.uint8).reshape(message.height, message.row_step)
    rows = np.ascontiguousarray(data[:, : message.width * message.point_step])
    cloud = rows.reshape(-1).view(layout)
    points = np.stack([cloud[name] for name in 'xyz'], axis=-1).astype(np.float32)
    valid = np.isfinite(points).all(axis=-1)
    packed = cloud['rgb'][valid]
    colours = np.stack([(packed >> shift) & 255 for shift in (16, 8, 0)], axis=-1).astype(np.uint8)
    return points[valid], colours


def image_array(message: Any) -> np.ndarray:
    """Return an Image as (h, w, 3) uint8 RGB, (h, w) uint8 grey or (h, w) float32.

    Raises UserError for other encodings, and for sizes that disagree with the data.
    """
    try:
        if message.encoding == '32FC1':
            return pixels_of(message, DEPTH_ENCODINGS)
        pixels, encoding = pixels_of(message, COLOUR_ENCODINGS), encoding_name(message.encoding, COLOUR_ENCODINGS)
    except MessageError as error:
        raise UserError(f'images of encoding {message.encoding!r} cannot be shown: {error}') from error
    return pixels if encoding == 'mono8' else rgb_by_opencv(pixels, encoding)


def write_trajectory(path: str | Path, recorded: BagReader, topics: AnswerTopics) -> int:
    """Write the odometry of the answered images as a TUM trajectory, and return the number of poses."""
    with TumWriter(path) as writer:
        for message in _measured(recorded, topics):
            pose = message.pose.pose
            writer.write(nanoseconds(message.header.stamp), _vector(pose.position), _vector(pose.orientation))
    return writer.count


def collect_cloud(cloud: VoxelCloud, recorded: BagReader, played: BagReader, topics: AnswerTopics) -> int:
    """Add the recorded points, in the odometry's frame, to ``cloud``; return the number of messages used.

    A PointCloud2 is used with the odometry of the same stamp. played: the input bag, for its static transforms. Raises
    UserError if no static transform connects the cloud's frame with the odometry's child frame.
    """
    static = StaticFrames(played)
    waiting: OrderedDict[int, dict[str, Any]] = OrderedDict()
    used = 0
    for topic, _, message in recorded.messages([topics.odometry, topics.points]):
        stamp = nanoseconds(message.header.stamp)
        pair = waiting.setdefault(stamp, {})
        pair[topic] = message
        if len(pair) == 2:
            del waiting[stamp]
            odometry, points = pair[topics.odometry], pair[topics.points]
            positions, colours = cloud_arrays(points)
            cloud.add(transform_points(_odom_from(points.header.frame_id, odometry, static), positions), colours)
            used += 1
        elif len(waiting) > _MOST_WAITING:
            waiting.popitem(last=False)
    return used


def read_cameras(recorded: BagReader, played: BagReader, topics: AnswerTopics) -> list[SceneCamera]:
    """Return the camera at each answered image. Raises UserError if no static transform connects the two frames."""
    static = StaticFrames(played)
    info = next((message for _, _, message in recorded.messages([topics.depth_info])), None)
    if info is None:
        return []
    camera_matrix, size = np.asarray(info.k, np.float64).reshape(3, 3), (info.height, info.width)
    return [
        SceneCamera(f'camera_{index:06d}', _odom_from(info.header.frame_id, odometry, static), camera_matrix, size)
        for index, odometry in enumerate(_measured(recorded, topics))
    ]


def pick_rows(
    count: int, recorded: BagReader, played: BagReader, image_topic: str, topics: AnswerTopics
) -> list[SheetRow]:
    """Return up to ``count`` evenly spread rows of a contact sheet, with the images of the input bag."""
    total = recorded.topics[topics.depth].count
    wanted = set(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist())
    picked = {
        header_stamp_ns(raw): index for index, (_, _, raw) in enumerate(recorded.raw([topics.depth])) if index in wanted
    }
    depths = _maps(recorded, topics.depth, picked.keys())
    confidences = _maps(recorded, topics.confidence, picked.keys()) if topics.confidence in recorded.topics else {}
    images = _maps(played, image_topic, picked.keys())
    return [
        SheetRow(
            f'answer {index + 1} of {total}   stamp {format_stamp(stamp)}',
            images[stamp],
            depths[stamp],
            confidences.get(stamp),
        )
        for stamp, index in picked.items()
        if stamp in images
    ]


def last_status(recorded: BagReader, topics: AnswerTopics) -> Any | None:
    """Return the node's last StreamStatus, or None."""
    last = None
    for _, _, raw in recorded.raw([topics.status]):
        last = raw
    return None if last is None else recorded.decode(topics.status, last)


def pose_matrix(odometry: Any) -> np.ndarray:
    """Return the (4, 4) pose of an Odometry: frame_id from child_frame_id."""
    return _matrix(odometry.pose.pose.position, odometry.pose.pose.orientation)


def _measured(recorded: BagReader, topics: AnswerTopics) -> Iterator[Any]:
    """Yield the odometry of images that were answered, and not where the last pose was said again for one of no use."""
    names = [topics.depth_info] if topics.depth_info in recorded.topics else []
    answered = {header_stamp_ns(raw) for name in names for _, _, raw in recorded.raw([name])}
    for _, _, raw in recorded.raw([topics.odometry]):
        # Who recorded the odometry alone gets all of it.
        if not answered or header_stamp_ns(raw) in answered:
            yield recorded.decode(topics.odometry, raw)


def _maps(bag: BagReader, topic: str, stamps: Set[int]) -> dict[int, np.ndarray]:
    """Return the images of these stamps, without decoding others."""
    return {
        stamp: image_array(bag.decode(topic, raw))
        for _, _, raw in bag.raw([topic])
        if (stamp := header_stamp_ns(raw)) in stamps
    }


def _odom_from(frame: str, odometry: Any, static: StaticFrames) -> np.ndarray:
    """Return the (4, 4) matrix odom_from_frame."""
    child_from_frame = static.find(odometry.child_frame_id, frame)
    if child_from_frame is None:
        raise UserError(f'no static transform connects {frame} with {odometry.child_frame_id}')
    odom_from_frame: np.ndarray = pose_matrix(odometry) @ child_from_frame
    return odom_from_frame


def _matrix(position: Any, orientation: Any) -> np.ndarray:
    return transform(matrix_from_quaternion(_vector(orientation)), _vector(position))


def _vector(message: Any) -> np.ndarray:
    """Return x, y, z and, for a quaternion, w."""
    return np.array([getattr(message, name) for name in 'xyzw' if hasattr(message, name)], dtype=np.float64)
