# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r replay`: each image answered offline, real time live, bags that are whole whenever they are stopped."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

import torch
from processes import children_of
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import Reader
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from evict3r_ros.cli.main import main
from evict3r_ros.geometry import BODY_FROM_OPTICAL
from evict3r_ros.io.answer import AnswerTopics, last_status
from evict3r_ros.io.bag import BagReader, BagWriter
from evict3r_ros.io.image_bag import CameraTopics, _header, _make, write_image_bag
from evict3r_ros.io.image_folder import CameraModel
from evict3r_ros.io.stamps import nanoseconds
from evict3r_ros.ros.messages.conversions import transform_from_pose
from evict3r_ros.stream import Prediction, Stream

pytestmark = [pytest.mark.ros, pytest.mark.timeout(120)]

TOPICS, ANSWERS = CameraTopics(), AnswerTopics.of_node('/evict3r')
SIZE, FRAMES, STEP_NS, START_NS = (60, 80), 6, 100_000_000, 10**18
NODE = [
    '-p',
    'weights:=random',
    '-p',
    'preset:=nano',
    '-p',
    'device:=cpu',
    '-p',
    'cache.tokens:=512',
    '-p',
    'publish_tf:=true',
]


def picture(index: int) -> np.ndarray:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    waves = [np.sin((x + 3 * index) / 9), np.cos(y / 7), np.sin((x - y) / 11)]
    return (127 + 100 * np.stack(waves, 2)).astype(np.uint8)


def write_bag(path: Path, frames: int = FRAMES, storage: str = 'mcap') -> Path:
    camera = CameraModel.pinhole(
        'cam0', SIZE[1], SIZE[0], np.array([[60.0, 0, 40], [0, 60, 30], [0, 0, 1]]), BODY_FROM_OPTICAL
    )
    images = ((START_NS + index * STEP_NS, picture(index)) for index in range(frames))
    write_image_bag(path, images, camera, storage=storage)
    return path


@pytest.fixture
def bag(tmp_path):
    return write_bag(tmp_path / 'walk')


def counts(path: Path) -> dict[str, int]:
    with BagReader(path) as bag:
        return {name: topic.count for name, topic in bag.topics.items()}


def test_offline_answers_each_image_with_its_stamp_and_time(bag, tmp_path, capsys):
    out = tmp_path / 'answer'
    assert main(['replay', str(bag), '--out', str(out), *NODE]) == 0
    said = capsys.readouterr().out
    assert f'{FRAMES} of {FRAMES} read, {FRAMES} answered, 0 failed' in said and 'UNTRAINED' in said
    found = counts(out)
    assert all(
        found[topic] == FRAMES
        for topic in (
            ANSWERS.depth,
            ANSWERS.depth_info,
            ANSWERS.confidence,
            ANSWERS.odometry,
            ANSWERS.points,
            ANSWERS.rgb,
            ANSWERS.rgb_info,
            '/tf',
        )
    )
    assert found['/tf_static'] == 1 and found[ANSWERS.status] >= 1 and found[ANSWERS.path] >= 1
    with BagReader(out) as answer:
        for topic in (ANSWERS.depth, ANSWERS.points, ANSWERS.odometry):
            times = [(time_ns, nanoseconds(message.header.stamp)) for _, time_ns, message in answer.messages([topic])]
            assert times == [(START_NS + index * STEP_NS,) * 2 for index in range(FRAMES)]
        status = last_status(answer, ANSWERS)
        assert (status.frames_received, status.frames_processed, status.frames_failed) == (FRAMES, FRAMES, 0)
        path = [message for _, _, message in answer.messages([ANSWERS.path])][-1]
        assert path.header.frame_id == 'odom'


def test_the_answer_carries_its_definitions(bag, tmp_path):
    """Foxglove knows no types but those in the file; rosbags' plain reader, given no types, is as strict."""
    main(['replay', str(bag), '--out', str(tmp_path / 'answer'), *NODE])
    with Reader(tmp_path / 'answer') as reader:
        texts = {connection.msgtype: connection.msgdef.data for connection in reader.connections}
    assert 'float32[] ' not in texts['sensor_msgs/msg/Image'] and 'uint8[] data' in texts['sensor_msgs/msg/Image']
    assert 'uint64 frames_processed' in texts['evict3r_ros/msg/StreamStatus']


def test_a_device_that_is_lost_ends_offline_with_a_reason(bag, tmp_path, capsys, monkeypatch):
    """Every further image would fail: that is no bag of images that cannot be answered."""
    step = Stream.step

    def fail_after_two(stream: Stream, image: np.ndarray) -> Prediction:
        if stream.stats().frames == 2:
            raise torch.AcceleratorError('CUDA error: an illegal memory access was encountered')
        return step(stream, image)

    monkeypatch.setattr(Stream, 'step', fail_after_two)
    assert main(['replay', str(bag), '--out', str(tmp_path / 'answer'), *NODE]) == 2
    said = capsys.readouterr().err
    assert 'answers nothing any more' in said and 'illegal memory access' in said and 'Traceback' not in said
    assert counts(tmp_path / 'answer')[ANSWERS.depth] == 2  # what was answered before is there


def test_offline_twice_is_the_same(bag, tmp_path):
    """But for the last bits, which depend on where memory happens to lie."""
    answers = []
    for name in ('first', 'second'):
        main(['replay', str(bag), '--out', str(tmp_path / name), *NODE])
        with BagReader(tmp_path / name) as answer:
            answers.append(
                np.stack(
                    [
                        np.frombuffer(message.data.tobytes(), np.float32)
                        for _, _, message in answer.messages([ANSWERS.depth])
                    ]
                )
            )
    np.testing.assert_allclose(*answers, rtol=1e-4)


def test_a_part_of_a_bag(bag, tmp_path):
    out = tmp_path / 'answer'
    assert main(['replay', str(bag), '--out', str(out), '--start', '0.15', '--frames', '2', *NODE]) == 0
    with BagReader(out) as answer:
        assert [time_ns - START_NS for _, time_ns, _ in answer.raw([ANSWERS.depth])] == [2 * STEP_NS, 3 * STEP_NS]
    assert main(['replay', str(bag), '--out', str(tmp_path / 'short'), '--duration', '0.15', *NODE]) == 0
    assert counts(tmp_path / 'short')[ANSWERS.depth] == 2


def test_broken_messages_are_counted_and_the_rest_is_answered(tmp_path, capsys):
    with BagWriter(tmp_path / 'broken') as bag:
        transform = transform_from_pose(np.eye(4), Header(frame_id='odom'), 'base_link')
        for topic in ('/tf', '/tf_static'):
            bag.add_topic(topic, 'tf2_msgs/msg/TFMessage', latched=topic == '/tf_static')
            for index in (0, 3):
                cut_off = serialize_message(TFMessage(transforms=[transform]))[:40]
                bag.write_raw(topic, START_NS + index * STEP_NS, cut_off)
        bag.add_topic('/camera/image_raw', 'sensor_msgs/msg/Image')
        for index in range(FRAMES):
            pixels = picture(index)
            image = _make(
                'sensor_msgs/msg/Image',
                header=_header(START_NS + index * STEP_NS, 'cam0'),
                height=SIZE[0],
                width=SIZE[1],
                encoding='rgb8' if index != 2 else 'what',
                is_bigendian=0,
                step=3 * SIZE[1],
                data=pixels.reshape(-1) if index != 4 else pixels.reshape(-1)[:100],
            )
            bag.write('/camera/image_raw', START_NS + index * STEP_NS, image)
    assert (
        main(
            ['replay', str(tmp_path / 'broken'), '--out', str(tmp_path / 'answer'), '-p', 'startup_timeout:=0.0', *NODE]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert f'{FRAMES} read, {FRAMES - 2} answered, 2 failed' in said and 'broken_image 2' in said
    assert 'broken_input' in said and 'no_transform' in said


@pytest.fixture
def unusable(tmp_path):
    """Return a bag of images that nobody can answer."""
    with BagWriter(tmp_path / 'unusable') as bag:
        bag.add_topic('/camera/image_raw', 'sensor_msgs/msg/Image')
        for index in range(FRAMES):
            stamp = START_NS + index * STEP_NS
            fields = {'height': 2, 'width': 2, 'encoding': 'what', 'is_bigendian': 0, 'step': 2}
            data = np.zeros(4, np.uint8)
            image = _make('sensor_msgs/msg/Image', header=_header(stamp, 'cam0'), data=data, **fields)
            bag.write('/camera/image_raw', stamp, image)
    return tmp_path / 'unusable'


def test_no_answer_at_all_is_no_success(unusable, tmp_path, capsys):
    assert main(['replay', str(unusable), '--out', str(tmp_path / 'answer'), *NODE]) == 2
    said = capsys.readouterr()
    assert f'{FRAMES} of {FRAMES} read, 0 answered' in said.out
    assert f"none of {FRAMES} images was answered: encoding 'what' is not supported" in said.err


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_bag_whose_metadata_is_wrong_is_answered_whole(tmp_path, storage, capsys):
    bag = write_bag(tmp_path / 'walk', storage=storage)
    metadata = (bag / 'metadata.yaml').read_text()
    (bag / 'metadata.yaml').write_text(re.sub(r'durability: \w+', 'durability: unknown', metadata))
    out = tmp_path / 'answer'
    assert main(['replay', str(bag), '--out', str(out), *NODE]) == 0
    assert f'{FRAMES} of {FRAMES} read, {FRAMES} answered' in capsys.readouterr().out
    with BagReader(out) as answer:
        assert answer.topics['/tf_static'].latched
        infos = [message.k[0] for _, _, message in answer.messages([ANSWERS.depth_info])]
        odometry = next(message for _, _, message in answer.messages([ANSWERS.odometry]))
    assert len(set(infos)) == 1 and odometry.child_frame_id == 'base_link'


def test_messages_of_tf_that_cannot_be_read_cost_themselves(tmp_path, capsys):
    with BagReader(write_bag(tmp_path / 'walk')) as whole, BagWriter(tmp_path / 'broken') as bag:
        bag.add_topic('/tf', 'tf2_msgs/msg/TFMessage')
        for name, topic in whole.topics.items():
            bag.add_topic(name, topic.message_type, latched=topic.latched)
        bag.write_raw('/tf_static', START_NS - 2, b'\0\1\0\0\7\0\0\0\0\0')
        bag.write_raw('/tf', START_NS - 1, b'\0\1\0\0\7\0\0\0\0\0')
        for topic, time_ns, raw in whole.raw():
            bag.write_raw(topic, time_ns, raw)
    assert main(['replay', str(tmp_path / 'broken'), '--out', str(tmp_path / 'answer'), *NODE]) == 0
    said = capsys.readouterr().out
    assert f'{FRAMES} read, {FRAMES} answered' in said and 'broken_input' in said
    with BagReader(tmp_path / 'answer') as answer:
        odometry = next(message for _, _, message in answer.messages([ANSWERS.odometry]))
    assert odometry.child_frame_id == 'base_link'


def test_compressed_images_and_a_depth_sensor_for_the_scale(tmp_path, capsys):
    """The sensor's depth is recorded after its image, as it often is."""
    with BagWriter(tmp_path / 'robot') as bag:
        bag.add_topic('/cam/image/compressed', 'sensor_msgs/msg/CompressedImage')
        bag.add_topic('/cam/depth', 'sensor_msgs/msg/Image')
        for index in range(FRAMES):
            time_ns = START_NS + index * STEP_NS
            data = np.frombuffer(cv2.imencode('.png', picture(index)[..., ::-1])[1].tobytes(), np.uint8)
            bag.write(
                '/cam/image/compressed',
                time_ns,
                _make('sensor_msgs/msg/CompressedImage', header=_header(time_ns, 'cam0'), format='png', data=data),
            )
            depth = np.full(SIZE, 2500, np.uint16)
            bag.write(
                '/cam/depth',
                time_ns + 50_000_000,
                _make(
                    'sensor_msgs/msg/Image',
                    header=_header(time_ns, 'cam0'),
                    height=SIZE[0],
                    width=SIZE[1],
                    encoding='16UC1',
                    is_bigendian=0,
                    step=2 * SIZE[1],
                    data=depth.view(np.uint8).reshape(-1),
                ),
            )
    assert (
        main(
            [
                'replay',
                str(tmp_path / 'robot'),
                '--out',
                str(tmp_path / 'answer'),
                '--depth',
                '/cam/depth',
                '-p',
                'scale.source:=depth',
                '-p',
                'startup_timeout:=0.0',
                *NODE,
            ]
        )
        == 0
    )
    assert 'metres per unit of the network' in capsys.readouterr().out
    with BagReader(tmp_path / 'answer') as answer:
        status = last_status(answer, ANSWERS)
        assert status.is_metric and status.scale_source == 'depth' and status.frames_processed == FRAMES
        last = [message for _, _, message in answer.messages([ANSWERS.depth])][-1]
    depth = np.frombuffer(last.data.tobytes(), np.float32)
    assert abs(np.nanmedian(depth) / 2.5 - 1) < 0.25, 'untrained depth has some median, and it is brought to the metres'


def moving_bag(path: Path) -> Path:
    """Write images with the wheels' odom -> base_link beside them, from before the first on."""
    with BagWriter(path) as bag:
        bag.add_topic('/camera/image_raw', 'sensor_msgs/msg/Image')
        for topic, parent, child in (('/tf_static', 'base_link', 'cam0'), ('/tf', 'odom', 'base_link')):
            bag.add_topic(topic, 'tf2_msgs/msg/TFMessage', latched=topic == '/tf_static')
            header = Header(frame_id=parent)
            transform = transform_from_pose(BODY_FROM_OPTICAL if child == 'cam0' else np.eye(4), header, child)
            bag.write_raw(topic, START_NS, serialize_message(TFMessage(transforms=[transform])))
        for index in range(FRAMES):
            time_ns = START_NS + (index + 1) * STEP_NS
            image = _make(
                'sensor_msgs/msg/Image',
                header=_header(time_ns, '/cam0'),
                height=SIZE[0],
                width=SIZE[1],
                encoding='rgb8',
                is_bigendian=0,
                step=3 * SIZE[1],
                data=picture(index).reshape(-1),
            )
            bag.write('/camera/image_raw', time_ns, image)
    return path


def test_offline_decides_about_tf_like_the_live_node(bag, tmp_path, capsys):
    """Nobody vouches for untrained weights; and where the wheels move the base, nothing of ours is written."""
    for name, source, parameters, why in (
        ('auto', bag, NODE[:-2], 'the weights are untrained and the scale is not metric'),
        ('wheels', moving_bag(tmp_path / 'moving'), NODE, 'somebody else publishes odom -> base_link'),
    ):
        out = tmp_path / name
        assert main(['replay', str(source), '--out', str(out), *parameters]) == 0
        said = capsys.readouterr().out
        assert counts(out).get('/tf', 0) == 0 and counts(out)[ANSWERS.odometry] == FRAMES
        assert why in said.split('no /tf ')[1]
        with BagReader(out) as answer:
            assert why in last_status(answer, ANSWERS).tf_withheld
            assert {message.header.frame_id for _, _, message in answer.messages([ANSWERS.depth])} == {'cam0'}


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        ([], 'parameter weights is empty|weights'),
        (['-p', 'cache.tokens:=many'], "'many' is no int"),
        (['-p', 'no_such:=1'], "no parameter 'no_such'"),
        (['-p', 'weights'], 'NAME:=VALUE'),
        (['--image', '/nowhere'], 'no messages on /nowhere'),
        (['--image', '/camera/camera_info'], 'is sensor_msgs/msg/CameraInfo'),
        (['--rate', '2'], '--rate needs --live'),
        (['--loop', '--live'], '--loop needs --attach'),
        (['--depth', '/camera/image_raw'], 'needs -p scale'),
        (['-p', 'scale.source:=odometry'], 'needs --odom'),
        (['--start', '100'], 'no image in that time'),
        (['--params-file', '/nowhere.yaml'], 'cannot be read'),
    ],
)
def test_what_cannot_be_is_told_and_leaves_nothing(bag, tmp_path, capsys, arguments, said):
    out = tmp_path / 'answer'
    assert main(['replay', str(bag), '--out', str(out), '-p', 'device:=cpu', '-p', 'preset:=nano', *arguments]) == 2
    error = capsys.readouterr().err
    assert any(part in error for part in said.split('|')) and 'Traceback' not in error
    assert not out.exists()


def test_a_bag_with_two_cameras_wants_to_know_which(tmp_path, capsys):
    with BagWriter(tmp_path / 'two') as bag:
        for topic in ('/left/image', '/right/image'):
            bag.add_topic(topic, 'sensor_msgs/msg/Image')
            bag.write(
                topic,
                1,
                _make(
                    'sensor_msgs/msg/Image',
                    header=_header(1, 'c'),
                    height=1,
                    width=1,
                    encoding='mono8',
                    is_bigendian=0,
                    step=1,
                    data=np.zeros(1, np.uint8),
                ),
            )
    assert main(['replay', str(tmp_path / 'two'), *NODE]) == 2
    assert 'choose one with --image: /left/image, /right/image' in capsys.readouterr().err


def test_no_bag_and_an_answer_that_is_there(bag, tmp_path, capsys):
    assert main(['replay', str(tmp_path / 'nowhere')]) == 2
    (tmp_path / 'answer').mkdir()
    assert main(['replay', str(bag), '--out', str(tmp_path / 'answer'), *NODE]) == 2
    assert 'exists: choose another' in capsys.readouterr().err


def test_parameters_come_from_a_file_and_the_line_goes_before(bag, tmp_path):
    file = tmp_path / 'parameters.yaml'
    file.write_text(
        '/**:\n  ros__parameters:\n    weights: random\n    preset: nano\n    device: cpu\n'
        '    cache: {tokens: 512, policy: uniform}\n    points.stride: 2\n'
    )
    out = tmp_path / 'answer'
    assert main(['replay', str(bag), '--out', str(out), '--params-file', str(file), '-p', 'points.stride:=4']) == 0
    with BagReader(out) as answer:
        assert last_status(answer, ANSWERS).policy == 'uniform'
        depth, cloud = (
            next(message for _, _, message in answer.messages([topic])) for topic in (ANSWERS.depth, ANSWERS.points)
        )
    assert cloud.width == -(-depth.width // 4)


def start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, '-m', 'evict3r_ros.cli.main', 'replay', *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, 'PYTHONUNBUFFERED': '1'},
    )


def until_answered(process: subprocess.Popen, answer: Path, timeout_s: float = 60.0) -> None:
    """Wait until something of the answer is on the disk."""
    deadline = time.monotonic() + timeout_s
    while not any(file.stat().st_size > 300_000 for file in answer.glob('*.mcap')):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.05)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_whole_bag(tmp_path, number):
    bag, out = write_bag(tmp_path / 'long', 1500), tmp_path / 'answer'
    process = start(str(bag), '--out', str(out), *NODE)
    until_answered(process, out)
    process.send_signal(number)
    said = process.communicate(timeout=20)[0]
    assert process.returncode == 130 and 'stopping after this image' in said and 'Traceback' not in said
    found = counts(out)
    assert 0 < found[ANSWERS.depth] == found[ANSWERS.odometry] == found['/tf'] < 1500
    with BagReader(out) as answer:
        assert last_status(answer, ANSWERS).frames_processed == found[ANSWERS.depth], 'the last status counts all'


def test_a_full_disk_is_one_line(bag, tmp_path):
    """A limit on the size of a file stands in for the disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = [
        sys.executable,
        '-m',
        'evict3r_ros.cli.main',
        'replay',
        str(bag),
        '--out',
        str(tmp_path / 'answer'),
        *NODE,
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, preexec_fn=limit)
    assert result.returncode == 2 and 'cannot be written: File too large' in result.stderr
    assert 'Traceback' not in result.stderr


@pytest.mark.slow
def test_live_plays_with_clock_into_a_node_of_its_own(bag, tmp_path):
    out = tmp_path / 'answer'
    file = tmp_path / 'parameters.yaml'
    file.write_text(
        '/**/evict3r:\n  ros__parameters:\n    use_sim_time: false\n    publish_tf: true\n    qos_overrides:\n'
        f'      {ANSWERS.odometry}: {{publisher: {{reliability: best_effort}}}}\n'
    )
    process = start(str(bag), '--live', '--rate', '0.5', '--out', str(out), *NODE, '--params-file', str(file))
    said = process.communicate(timeout=100)[0]
    assert process.returncode == 0, said
    assert f'{FRAMES} played' in said
    found = counts(out)
    assert found['/tf_static'] == 1 and 0 < found[ANSWERS.odometry] <= FRAMES
    with BagReader(out) as answer:
        status = last_status(answer, ANSWERS)
        stamps = [nanoseconds(message.header.stamp) for _, _, message in answer.messages([ANSWERS.depth])]
    assert status.frames_received == FRAMES == status.frames_processed + status.frames_dropped + status.frames_failed
    assert set(stamps) <= {START_NS + index * STEP_NS for index in range(FRAMES)}
    assert nanoseconds(status.header.stamp) >= START_NS, 'the node goes by /clock'


@pytest.mark.slow
def test_live_plays_what_was_latched_before_the_start(bag, tmp_path):
    """The mount and the calibration are told once, at 0 s; the mount by a recorder that forgot that it is latched."""
    with BagReader(bag) as recorded, BagWriter(tmp_path / 'late') as late:
        for name, latched in (('/tf_static', False), (TOPICS.camera_info, True), (TOPICS.image, False)):
            late.add_topic(name, recorded.topics[name].message_type, latched)
        for name in ('/tf_static', TOPICS.camera_info):
            _, time_ns, raw = next(recorded.raw([name]))
            late.write_raw(name, time_ns, raw)
        for _, time_ns, raw in recorded.raw([TOPICS.image]):
            late.write_raw(TOPICS.image, time_ns + STEP_NS, raw)
    answered = []
    for mode in ('--live', '--offline'):
        out = tmp_path / f'answer{mode}'
        process = start(str(tmp_path / 'late'), mode, '--start', '0.25', '--out', str(out), *NODE)
        said = process.communicate(timeout=100)[0]
        assert process.returncode == 0, said
        with BagReader(out) as answer:
            odometry = next(message for _, _, message in answer.messages([ANSWERS.odometry]))
            info = next(message for _, _, message in answer.messages([ANSWERS.depth_info]))
            answered.append((odometry.child_frame_id, info.k.tolist()))
    assert answered[0] == answered[1] and answered[0][0] == 'base_link'


@pytest.mark.slow
def test_no_answer_at_all_is_no_success_live(unusable, tmp_path):
    process = start(str(unusable), '--live', '--out', str(tmp_path / 'answer'), *NODE)
    said = process.communicate(timeout=100)[0]
    assert process.returncode == 2 and f'none of {FRAMES} images was answered: ' in said, said


@pytest.mark.slow
def test_a_signal_ends_live_with_a_whole_bag_and_without_its_node(tmp_path):
    bag, out = write_bag(tmp_path / 'long', 900), tmp_path / 'answer'
    process = start(str(bag), '--live', '--out', str(out), *NODE)
    until_answered(process, out)
    children = children_of(process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[0]
    assert process.returncode == 130 and 'Traceback' not in said, said
    assert 0 < counts(out)[ANSWERS.depth] < 900
    assert children and not [child for child in children if Path(f'/proc/{child}').exists()]
