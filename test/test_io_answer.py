# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Reading a recorded answer back: frames joined, clouds moved to odom with the pose of their own stamp, rows picked."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from evict3r_ros.errors import UserError
from evict3r_ros.io.answer import (
    AnswerTopics,
    StaticFrames,
    cloud_arrays,
    collect_cloud,
    image_array,
    last_status,
    pick_rows,
    write_trajectory,
)
from evict3r_ros.io.bag import BagReader, BagWriter
from evict3r_ros.io.bag_types import message_types
from evict3r_ros.io.image_bag import CameraTopics, write_image_bag
from evict3r_ros.io.image_folder import CameraModel
from evict3r_ros.io.ply import VoxelCloud
from evict3r_ros.io.tum import read_tum

TOPICS = AnswerTopics.of_node('/evict3r')
IMAGE_TOPIC = CameraTopics().image
START = 1403638538577829376
FRAMES = 5
BASE_FROM_CAMERA = np.array([[0, 0, 1, 0.1], [-1, 0, 0, 0.2], [0, -1, 0, 0.3], [0, 0, 0, 1]], dtype=float)
STATUS = 'string weights\nuint64 frames_processed\n'


def make(kind, **fields):
    return message_types().types[kind](**fields)


def header(stamp, frame):
    return make(
        'std_msgs/msg/Header',
        frame_id=frame,
        stamp=make('builtin_interfaces/msg/Time', sec=stamp // 10**9, nanosec=stamp % 10**9),
    )


def stamp_of(index):
    return START + index * 100_000_001


def pose_of(index):
    """odom_from_base of a frame, as (rotation, translation)."""
    return Rotation.from_euler('zyx', [0.3 * index, 0.1, -0.2]), np.array([0.5 * index, 1.0, 0.25])


def odometry(index, child='base_link'):
    rotation, translation = pose_of(index)
    pose = make(
        'geometry_msgs/msg/Pose',
        position=make('geometry_msgs/msg/Point', **dict(zip('xyz', translation, strict=True))),
        orientation=make('geometry_msgs/msg/Quaternion', **dict(zip('xyzw', rotation.as_quat(), strict=True))),
    )
    zero = make('geometry_msgs/msg/Vector3', x=0.0, y=0.0, z=0.0)
    return make(
        'nav_msgs/msg/Odometry',
        header=header(stamp_of(index), 'odom'),
        child_frame_id=child,
        pose=make('geometry_msgs/msg/PoseWithCovariance', pose=pose, covariance=np.zeros(36)),
        twist=make(
            'geometry_msgs/msg/TwistWithCovariance',
            covariance=np.zeros(36),
            twist=make('geometry_msgs/msg/Twist', linear=zero, angular=zero),
        ),
    )


def cloud(index, points, colours, big_endian=False, row_padding=0, names='x y z rgb'):
    """Return a PointCloud2 of one row of 20-byte points, rgb before x, y, z, and padding after the row."""
    order = '>' if big_endian else '<'
    layout = np.dtype(
        {
            'names': ['rgb', 'x', 'y', 'z'],
            'formats': [order + 'u4'] + [order + 'f4'] * 3,
            'offsets': [0, 4, 8, 12],
            'itemsize': 20,
        }
    )
    data = np.zeros(len(points), dtype=layout)
    for axis, name in enumerate('xyz'):
        data[name] = points[:, axis]
    data['rgb'] = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    fields = [
        make('sensor_msgs/msg/PointField', name=name, offset=layout.fields[name][1], datatype=7, count=1)
        for name in names.split()
    ]
    raw = np.concatenate([np.frombuffer(data.tobytes(), np.uint8), np.zeros(row_padding, np.uint8)])
    return make(
        'sensor_msgs/msg/PointCloud2',
        header=header(stamp_of(index), 'cam0'),
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=big_endian,
        point_step=20,
        row_step=len(raw),
        data=raw,
        is_dense=False,
    )


def image(index, pixels, encoding, big_endian=False):
    pixels = np.ascontiguousarray(pixels)
    return make(
        'sensor_msgs/msg/Image',
        header=header(stamp_of(index), 'cam0'),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=int(big_endian),
        step=pixels.nbytes // pixels.shape[0],
        data=np.frombuffer(pixels.tobytes(), np.uint8),
    )


def points_of(index):
    random = np.random.default_rng(index)
    return random.normal(size=(20, 3)).astype(np.float32), random.integers(0, 256, (20, 3)).astype(np.uint8)


@pytest.fixture
def played(tmp_path):
    camera = CameraModel.pinhole('cam0', 32, 24, np.array([[30.0, 0, 16], [0, 31, 12], [0, 0, 1]]), BASE_FROM_CAMERA)
    frames = ((stamp_of(index), np.full((24, 32), 10 * index, dtype=np.uint8)) for index in range(FRAMES))
    write_image_bag(tmp_path / 'played', frames, camera)
    with BagReader(tmp_path / 'played') as bag:
        yield bag


@pytest.fixture
def recorded(tmp_path):
    with BagWriter(tmp_path / 'recorded') as bag:
        for topic, name in TOPICS.types().items():
            bag.add_topic(topic, name, definition=STATUS if topic == TOPICS.status else None)
        for index in range(FRAMES):
            time = stamp_of(index)
            bag.write(TOPICS.points, time, cloud(index, *points_of(index)))
            bag.write(TOPICS.depth, time, image(index, np.full((6, 8), index + 1, dtype='<f4'), '32FC1'))
            bag.write(TOPICS.confidence, time, image(index, np.full((6, 8), index + 2, dtype='<f4'), '32FC1'))
            bag.write(TOPICS.odometry, time, odometry(index))
            status = bag._types.types['evict3r_ros/msg/StreamStatus']('random', index + 1)
            bag.write(TOPICS.status, time, status)
    with BagReader(tmp_path / 'recorded') as bag:
        yield bag


def test_the_last_pose_said_again_is_no_part_of_the_trajectory(tmp_path):
    """Odometry that nothing else of its stamp came with: the image was of no use, or there was none."""
    region = make('sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    with BagWriter(tmp_path / 'coasting') as bag:
        for topic in (TOPICS.odometry, TOPICS.depth_info):
            bag.add_topic(topic, TOPICS.types()[topic])
        for index in range(FRAMES):
            bag.write(TOPICS.odometry, stamp_of(index), odometry(index))
            if index % 2 == 0:
                info = make(
                    'sensor_msgs/msg/CameraInfo',
                    header=header(stamp_of(index), 'cam0'),
                    height=6,
                    width=8,
                    distortion_model='plumb_bob',
                    d=np.zeros(0),
                    k=np.eye(3).ravel(),
                    r=np.eye(3).ravel(),
                    p=np.eye(3, 4).ravel(),
                    binning_x=0,
                    binning_y=0,
                    roi=region,
                )
                bag.write(TOPICS.depth_info, stamp_of(index), info)
    with BagReader(tmp_path / 'coasting') as bag:
        assert write_trajectory(tmp_path / 'path.tum', bag, TOPICS) == (FRAMES + 1) // 2
    path = read_tum(tmp_path / 'path.tum')
    assert path.stamps_ns.tolist() == [stamp_of(index) for index in range(0, FRAMES, 2)]


def test_trajectory(tmp_path, recorded):
    assert write_trajectory(tmp_path / 'path.tum', recorded, TOPICS) == FRAMES
    path = read_tum(tmp_path / 'path.tum')
    assert path.stamps_ns.tolist() == [stamp_of(index) for index in range(FRAMES)]
    for index in range(FRAMES):
        rotation, translation = pose_of(index)
        assert np.allclose(path.positions[index], translation)
        assert (Rotation.from_quat(path.quaternions[index]).inv() * rotation).magnitude() < 1e-8


def test_points_end_up_in_odom(played, recorded):
    voxels = VoxelCloud(1e-4, 1000)
    assert collect_cloud(voxels, recorded, played, TOPICS) == FRAMES
    expected = []
    for index in range(FRAMES):
        rotation, translation = pose_of(index)
        in_base = points_of(index)[0].astype(np.float64) @ BASE_FROM_CAMERA[:3, :3].T + BASE_FROM_CAMERA[:3, 3]
        expected.append(rotation.apply(in_base) + translation)
    expected = np.concatenate(expected)
    kept = voxels.cloud()
    assert len(kept) == len(expected)
    distance = np.linalg.norm(kept.points[:, None] - expected[None], axis=-1)
    assert distance.min(axis=1).max() < 1e-5
    colours = np.concatenate([points_of(index)[1] for index in range(FRAMES)])
    assert np.array_equal(kept.colours, colours[distance.argmin(axis=1)])


def test_a_cloud_that_nothing_joins_with_the_odometry_is_refused(tmp_path, played):
    with BagWriter(tmp_path / 'bag') as bag:
        for topic in (TOPICS.points, TOPICS.odometry):
            bag.add_topic(topic, TOPICS.types()[topic])
        bag.write(TOPICS.points, 1, cloud(0, *points_of(0)))
        bag.write(TOPICS.odometry, 1, odometry(0, child='another_robot'))
    with BagReader(tmp_path / 'bag') as bag, pytest.raises(UserError, match='connects cam0 with another_robot'):
        collect_cloud(VoxelCloud(0.1, 100), bag, played, TOPICS)


def test_clouds_without_odometry_are_left_out_and_forgotten(tmp_path, played):
    with BagWriter(tmp_path / 'bag') as bag:
        for topic in (TOPICS.points, TOPICS.odometry):
            bag.add_topic(topic, TOPICS.types()[topic])
        for index in range(100):
            bag.write(TOPICS.points, index, cloud(index, *points_of(index)))
        bag.write(TOPICS.odometry, 100, odometry(99))
    with BagReader(tmp_path / 'bag') as bag:
        assert collect_cloud(VoxelCloud(1e-4, 1000), bag, played, TOPICS) == 1


def test_rows_are_spread_evenly_and_hold_what_belongs_together(played, recorded):
    rows = pick_rows(3, recorded, played, IMAGE_TOPIC, TOPICS)
    assert [row.depth[0, 0] for row in rows] == [1, 3, 5]
    assert [row.confidence[0, 0] for row in rows] == [2, 4, 6]
    assert [row.image[0, 0] for row in rows] == [0, 20, 40]
    assert rows[1].label == 'answer 3 of 5   stamp 1403638538.777829378'
    assert len(pick_rows(50, recorded, played, IMAGE_TOPIC, TOPICS)) == FRAMES


def test_the_last_status_counts(recorded):
    assert last_status(recorded, TOPICS).frames_processed == FRAMES


@pytest.mark.parametrize('big_endian', [False, True])
def test_clouds_are_read_whatever_their_layout(big_endian):
    points, colours = points_of(1)
    points[3, 1] = np.nan
    read_points, read_colours = cloud_arrays(cloud(0, points, colours, big_endian, row_padding=7))
    valid = np.arange(20) != 3
    assert np.array_equal(read_points, points[valid]) and np.array_equal(read_colours, colours[valid])
    with pytest.raises(UserError, match='needs the fields x, y, z and rgb, this one has x, y, z'):
        cloud_arrays(cloud(0, points, colours, names='x y z'))


def test_images_are_read_in_each_encoding():
    colour = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    depth = np.array([[1.5, np.nan]], dtype=np.float32)
    assert np.array_equal(image_array(image(0, colour, 'rgb8')), colour)
    assert np.array_equal(image_array(image(0, colour, 'bgr8')), colour[..., ::-1])
    assert np.array_equal(image_array(image(0, colour[..., 0], 'mono8')), colour[..., 0])
    assert np.array_equal(image_array(image(0, depth, '32FC1')), depth, equal_nan=True)
    assert np.array_equal(image_array(image(0, depth.astype('>f4'), '32FC1', big_endian=True)), depth, equal_nan=True)
    with pytest.raises(UserError, match="'yuv422' cannot be shown"):
        image_array(image(0, colour, 'yuv422'))


def test_static_transforms_are_joined_up_and_down(tmp_path):
    def link(parent, child, x):
        translation = make('geometry_msgs/msg/Vector3', x=x, y=0.0, z=0.0)
        transform = make(
            'geometry_msgs/msg/Transform',
            translation=translation,
            rotation=make('geometry_msgs/msg/Quaternion', x=0.0, y=0.0, z=np.sqrt(0.5), w=np.sqrt(0.5)),
        )
        return make(
            'geometry_msgs/msg/TransformStamped', header=header(0, parent), child_frame_id=child, transform=transform
        )

    with BagWriter(tmp_path / 'bag') as bag:
        bag.add_topic('/tf_static', 'tf2_msgs/msg/TFMessage', latched=True)
        bag.write('/tf_static', 0, make('tf2_msgs/msg/TFMessage', transforms=[link('base', 'mast', 1.0)]))
        bag.write(
            '/tf_static',
            1,
            make('tf2_msgs/msg/TFMessage', transforms=[link('mast', 'left', 2.0), link('mast', 'right', -2.0)]),
        )
    with BagReader(tmp_path / 'bag') as bag:
        frames = StaticFrames(bag)
    assert np.allclose(frames.find('base', 'left')[:3, 3], [1, 2, 0])
    assert np.allclose(frames.find('left', 'base') @ frames.find('base', 'left'), np.eye(4))
    assert np.allclose(frames.find('left', 'right')[:3, 3], [0, 4, 0])
    assert np.array_equal(frames.find('mast', 'mast'), np.eye(4))
    assert frames.find('base', 'moon') is None
