# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r view`: clouds in the odom frame, at their own times, from a bag and from live topics."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from evict3r_ros import geometry
from evict3r_ros.cli.main import main
from evict3r_ros.io.answer import AnswerTopics
from evict3r_ros.io.bag import BagWriter

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')
pytest.importorskip('rerun', reason="rerun is not installed here: pip install 'evict3r_ros[view]'")

from geometry_msgs.msg import TransformStamped
from rclpy.serialization import serialize_message
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from evict3r_ros.odometry.integrator import OdometryIntegrator
from evict3r_ros.odometry.scale import ScaleState
from evict3r_ros.ros.messages import conversions
from evict3r_ros.ros.messages.message_types import message_class
from evict3r_ros.ros.node.qos import output
from evict3r_ros.ros.tools.session import Session

pytestmark = pytest.mark.timeout(90)
TOPICS, START_NS, STEP_NS = AnswerTopics.of_node('/evict3r'), 1_700_000_000 * 10**9, 10**8
MOUNT = geometry.transform(np.eye(3), np.array([0.1, 0.0, 0.4])) @ geometry.BODY_FROM_OPTICAL


def base_at(index: int) -> np.ndarray:
    return geometry.transform(Rotation.from_euler('z', 0.2 * index).as_matrix(), np.array([0.5 * index, 0.0, 0.0]))


def answers(count: int):
    """Topic, time and message of what a node would answer: each cloud shows one place in odom, (3, 1, 2)."""
    trajectory = OdometryIntegrator(MOUNT)
    for index in range(count):
        stamp = START_NS + index * STEP_NS
        header, odom = Header(frame_id='cam0'), Header(frame_id='odom')
        for each in (header, odom):
            each.stamp.sec, each.stamp.nanosec = divmod(stamp, 10**9)
        moved = geometry.invert(MOUNT) @ base_at(index) @ MOUNT
        state = trajectory.advance(stamp, moved, ScaleState())
        place = geometry.transform_points(geometry.invert(state.odom_from_child @ MOUNT), np.array([[3.0, 1.0, 2.0]]))
        planes = [np.full((4, 6), value, np.float32) for value in place[0]]
        depth, rgb = planes[2].copy(), np.full((4, 6, 3), (250, 100, 50), np.uint8)
        K = np.array([[5.0, 0, 3], [0, 5, 2], [0, 0, 1]])
        yield TOPICS.points, stamp, conversions.cloud_from_planes(*planes, rgb, header)  # before its odometry
        yield TOPICS.odometry, stamp, conversions.odometry_from_state(state, odom, 'base_link')
        yield TOPICS.depth, stamp, conversions.image_from_map(depth, header)
        yield TOPICS.depth_info, stamp, conversions.info_from_K(K, depth.shape, header)
        yield TOPICS.rgb, stamp, conversions.image_from_rgb(rgb, header)
        yield TOPICS.path, stamp, conversions.path_from_poses(trajectory.path, odom)


def static_message() -> TFMessage:
    transform: TransformStamped = conversions.transform_from_pose(MOUNT, Header(frame_id='base_link'), 'cam0')
    return TFMessage(transforms=[transform])


@pytest.fixture
def bag(tmp_path):
    path = tmp_path / 'demo' / 'answer'
    path.parent.mkdir()
    with BagWriter(path) as writer:
        writer.add_topic('/tf_static', 'tf2_msgs/msg/TFMessage', latched=True)
        writer.write_raw('/tf_static', START_NS, serialize_message(static_message()))
        for topic, time_ns, message in answers(5):
            if topic not in writer.counts:
                writer.add_topic(topic, TOPICS.types()[topic])
            writer.write_raw(topic, time_ns, serialize_message(message))
    return path


def printed(path: Path) -> str:
    """Return what rerun's own tool finds in a file."""
    rerun = Path(sys.executable).parent / 'rerun'
    result = subprocess.run([str(rerun), 'rrd', 'print', '-vvv', str(path)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def triples(text: str, entity: str) -> np.ndarray:
    """All the vectors of three numbers (n, 3) that a file has for an entity."""
    chunks = [chunk for chunk in text.split('Chunk(')[1:] if f' - {entity} - ' in chunk.splitlines()[0]]
    number = r'(-?\d+(?:\.\d+)?(?:e-?\d+)?)'
    found = re.findall(rf'\[{number}, {number}, {number}\]', ''.join(chunks))
    return np.array(found, dtype=float).reshape(-1, 3)


def test_a_bag_becomes_a_file(bag, tmp_path, capsys):
    file = tmp_path / 'view.rrd'
    assert main(['view', str(bag), '--save', str(file)]) == 0
    assert '5 clouds' in capsys.readouterr().out
    text = printed(file)
    for entity in ('/odom/points/now', '/odom/camera', '/odom/camera/image', '/odom/path', '/depth'):
        assert f' - {entity} - ' in text, entity
    places = triples(text, '/odom/points/now')
    assert len(places) >= 5
    np.testing.assert_allclose(places, np.tile([3.0, 1.0, 2.0], (len(places), 1)), atol=1e-5)
    cameras = [(base_at(index) @ MOUNT)[:3, 3] for index in range(5)]
    assert all((np.abs(triples(text, '/odom/camera') - place).max(axis=1) < 1e-5).any() for place in cameras)
    assert main(['view', str(bag.parent), '--save', str(tmp_path / 'demo.rrd'), '--frames', '2']) == 0
    assert '2 clouds' in capsys.readouterr().out


@pytest.mark.ros
def test_a_running_node_becomes_a_file(tmp_path, capsys):
    file, stop = tmp_path / 'live.rrd', threading.Event()

    def play() -> None:
        with Session('player') as session:
            latched = output()
            latched.durability = latched.durability.TRANSIENT_LOCAL
            static = session.node.create_publisher(TFMessage, '/tf_static', latched)
            publishers = {
                topic: session.node.create_publisher(message_class(TOPICS.types()[topic]), topic, output())
                for topic, _, _ in answers(1)
            }
            static.publish(static_message())
            while not stop.is_set():
                for topic, _, message in answers(5):
                    publishers[topic].publish(message)
                time.sleep(0.2)

    player = threading.Thread(target=play)
    player.start()
    try:
        assert main(['view', '--save', str(file), '--frames', '6']) == 0
    finally:
        stop.set()
        player.join(10)
    assert re.search(r'\d+ clouds', capsys.readouterr().out)
    assert len(triples(printed(file), '/odom/points/now'))


def test_what_cannot_be_shown_is_told(bag, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    there = tmp_path / 'there.rrd'
    there.write_text('mine')
    for arguments, said in (
        ([], 'no screen here'),
        (['--save', str(there)], 'is there already'),
        (['--save', str(tmp_path / 'no' / 'folder.rrd')], 'does not exist'),
        (['--connect', 'nonsense'], 'no address'),
        (['--node', 'other'], 'no /other/points'),
        (['--save', 'a.rrd', '--connect', 'b'], 'one or the other'),
    ):
        extra = ['--save', str(tmp_path / 'x.rrd')] if '--node' in arguments else []
        assert main(['view', str(bag), *arguments, *extra]) == 2
        assert said in capsys.readouterr().err, arguments
    assert there.read_text() == 'mine'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['demo', 'there.rrd']  # nothing half made


def test_a_full_disk_is_told(bag, tmp_path, monkeypatch, capsys):
    """Before rerun opens its file: on a disk that takes not a byte it would wait for ever."""
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=0))
    assert main(['view', str(bag), '--save', str(tmp_path / 'view.rrd')]) == 2
    assert 'the disk is full' in capsys.readouterr().err
    assert not (tmp_path / 'view.rrd').exists()


def test_without_rerun_it_says_what_to_install(bag):
    code = (
        "import sys; sys.modules['rerun'] = None\n"
        f"from evict3r_ros.cli.main import main; sys.exit(main(['view', {str(bag)!r}, '--save', 'never.rrd']))"
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and "pip install 'evict3r_ros[view]'" in result.stderr
