# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bags in both storages: what goes in comes out, in time order; damaged and foreign ones are refused."""

from __future__ import annotations

import numpy as np
import pytest

from evict3r_ros.errors import UserError
from evict3r_ros.geometry import matrix_from_quaternion
from evict3r_ros.io.bag import STORAGES, BagReader, BagWriter, header_stamp_ns
from evict3r_ros.io.bag_types import message_types
from evict3r_ros.io.image_bag import CAMERA_INFO, IMAGE, CameraTopics, write_image_bag
from evict3r_ros.io.image_folder import CameraModel
from evict3r_ros.io.stamps import nanoseconds

START = 1403638538577829376
STATUS = 'string weights\nuint32[] tokens\nstd_msgs/Header header\n'


def camera(**changes):
    base = np.array([[0, 0, 1, 0.1], [-1, 0, 0, 0.2], [0, -1, 0, 0.3], [0, 0, 0, 1]], dtype=float)
    return CameraModel.pinhole(
        'cam0', 32, 24, np.array([[30.0, 0, 16], [0, 31, 12], [0, 0, 1]]), **{'base_from_camera': base, **changes}
    )


def pictures(count, seed=0):
    """Grey and colour images in turn, 0.1 s and an odd nanosecond apart."""
    random = np.random.default_rng(seed)
    for index in range(count):
        shape = (24, 32, 3) if index % 2 else (24, 32)
        yield START + index * 100_000_001, random.integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize('storage', STORAGES)
def test_image_bag_round_trip(tmp_path, storage):
    topics = CameraTopics()
    assert write_image_bag(tmp_path / 'bag', pictures(5), camera(), topics, storage) == 5
    with BagReader(tmp_path / 'bag') as bag:
        assert {name: (topic.message_type, topic.count, topic.latched) for name, topic in bag.topics.items()} == {
            '/tf_static': ('tf2_msgs/msg/TFMessage', 1, True),
            topics.image: (IMAGE, 5, False),
            topics.camera_info: (CAMERA_INFO, 5, False),
        }
        everything = list(bag.messages())
        times = [time for _, time, _ in everything]
        assert times == sorted(times) and len(times) == 11
        assert everything[0][0] == '/tf_static'
        for (stamp, image), (_, time, message) in zip(pictures(5), bag.messages([topics.image]), strict=True):
            assert time == stamp == nanoseconds(message.header.stamp)
            assert message.header.frame_id == 'cam0'
            assert (message.encoding, message.step) == (('rgb8', 96) if image.ndim == 3 else ('mono8', 32))
            assert np.array_equal(message.data.reshape(image.shape), image)
        info = next(bag.messages([topics.camera_info]))[2]
        assert info.k.tolist() == camera().K.reshape(-1).tolist() and info.d.tolist() == [0] * 5
        assert (info.width, info.height, info.distortion_model) == (32, 24, 'plumb_bob')
        assert info.p.reshape(3, 4)[:, :3].tolist() == camera().K.tolist()


def test_the_static_transform_says_where_the_camera_is(tmp_path):
    write_image_bag(tmp_path / 'bag', pictures(1), camera())
    with BagReader(tmp_path / 'bag') as bag:
        (transform,) = next(bag.messages(['/tf_static']))[2].transforms
    assert (transform.header.frame_id, transform.child_frame_id) == ('base_link', 'cam0')
    rotation, translation = transform.transform.rotation, transform.transform.translation
    matrix = matrix_from_quaternion([rotation.x, rotation.y, rotation.z, rotation.w])
    assert np.allclose(matrix, camera().base_from_camera[:3, :3])
    assert [translation.x, translation.y, translation.z] == [0.1, 0.2, 0.3]


def test_without_a_place_on_the_robot_there_is_no_transform(tmp_path):
    write_image_bag(tmp_path / 'bag', pictures(1), camera(base_from_camera=None))
    with BagReader(tmp_path / 'bag') as bag:
        assert '/tf_static' not in bag.topics


def test_raw_messages_are_the_bytes_that_were_written(tmp_path):
    times = [30, 10, 20]
    with BagWriter(tmp_path / 'bag') as bag:
        bag.add_topic('/words', 'std_msgs/msg/String')
        for time in times:
            bag.write('/words', time, message_types().types['std_msgs/msg/String'](data=str(time)))
        raw = bytes(
            message_types().serialize_cdr(
                message_types().types['std_msgs/msg/String'](data='40'), 'std_msgs/msg/String'
            )
        )
        bag.write_raw('/words', 40, raw)
        assert bag.counts == {'/words': 4}
    with BagReader(tmp_path / 'bag') as bag:
        assert [time for _, time, _ in bag.raw()] == [10, 20, 30, 40]
        assert list(bag.raw())[-1] == ('/words', 40, raw)
        assert [message.data for _, _, message in bag.messages()] == ['10', '20', '30', '40']


def test_types_of_our_own_are_written_with_their_definition(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        with pytest.raises(UserError, match='not known'):
            bag.add_topic('/status', 'our_msgs/msg/Status')
        bag.add_topic('/status', 'our_msgs/msg/Status', definition=STATUS)
        header = message_types().types['std_msgs/msg/Header'](
            stamp=message_types().types['builtin_interfaces/msg/Time'](sec=1, nanosec=2), frame_id=''
        )
        status = bag._types.types['our_msgs/msg/Status']('random', np.array([3, 4], dtype=np.uint32), header)
        bag.write('/status', 5, status)
    with BagReader(tmp_path / 'bag') as bag:
        message = next(bag.messages())[2]
    assert message.weights == 'random' and message.tokens.tolist() == [3, 4] and message.header.stamp.nanosec == 2


@pytest.mark.parametrize('little', [True, False])
def test_stamps_are_read_from_the_wire(little):
    types = message_types()
    time = types.types['builtin_interfaces/msg/Time'](sec=START // 10**9, nanosec=START % 10**9)
    header = types.types['std_msgs/msg/Header'](stamp=time, frame_id='camera')
    raw = bytes(types.serialize_cdr(header, 'std_msgs/msg/Header', little_endian=little))
    assert header_stamp_ns(raw) == START


def test_a_bag_is_never_overwritten(tmp_path):
    write_image_bag(tmp_path / 'bag', pictures(1), camera())
    with pytest.raises(UserError, match='exists already'):
        write_image_bag(tmp_path / 'bag', pictures(1), camera())
    with pytest.raises(UserError, match='not one of mcap, sqlite3'):
        BagWriter(tmp_path / 'other', storage='tape')


def test_an_image_of_another_size_is_refused(tmp_path):
    wrong = [(START, np.zeros((24, 31), dtype=np.uint8))]
    with pytest.raises(UserError, match='31 x 24, but the camera file says 32 x 24'):
        write_image_bag(tmp_path / 'bag', wrong, camera())


def test_unknown_topics_are_named(tmp_path):
    write_image_bag(tmp_path / 'bag', pictures(1), camera())
    with BagReader(tmp_path / 'bag') as bag, pytest.raises(UserError, match='no topic /lidar; it has /camera/'):
        list(bag.raw(['/lidar']))


def test_foreign_folders_and_files_are_refused(tmp_path):
    with pytest.raises(UserError, match='no such bag'):
        BagReader(tmp_path / 'none')
    with pytest.raises(UserError, match='not a bag'):
        BagReader(tmp_path)
    (tmp_path / 'metadata.yaml').write_text('rosbag2_bagfile_information: [1, 2')
    with pytest.raises(UserError, match='not a bag'):
        BagReader(tmp_path)
    (tmp_path / 'page.html').write_text('<html></html>')
    with pytest.raises(UserError, match='not a bag'):
        BagReader(tmp_path / 'page.html')


def test_a_message_that_does_not_fit_its_type_is_refused(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.add_topic('/image', IMAGE)
        bag.write_raw('/image', 1, b'\x00\x01\x00\x00\x07')
    with (
        BagReader(tmp_path / 'bag') as bag,
        pytest.raises(UserError, match=r'/image cannot be read: .* is no sensor_msg'),
    ):
        list(bag.messages())


def test_a_message_that_is_cut_off_has_no_stamp():
    assert [header_stamp_ns(b'\0\1\0\0\7\0\0\0\0\0'[:length]) for length in (0, 1, 4, 10)] == [0] * 4
