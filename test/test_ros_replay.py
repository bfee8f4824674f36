# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Replaying into a node that doesn't start, that ends, or that falls silent: always an error, always soon."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from evict3r_ros.errors import UserError
from evict3r_ros.io.answer import AnswerTopics
from evict3r_ros.io.bag import BagReader, BagWriter
from evict3r_ros.io.image_bag import CameraTopics, write_image_bag
from evict3r_ros.io.image_folder import CameraModel

pytest.importorskip('rclpy', reason='ROS is not installed')
from lifecycle_msgs.srv import GetState

from evict3r_ros.ros.tools.live import LiveReplay, playable
from evict3r_ros.ros.tools.node_process import NodeProcess
from evict3r_ros.ros.tools.offline import Span
from evict3r_ros.ros.tools.replay import replay
from evict3r_ros.ros.tools.session import Session

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(120)]

TOPICS = CameraTopics()
FRAMES = 40


@pytest.fixture
def played(tmp_path):
    camera = CameraModel.pinhole('camera', 80, 60, np.array([[60.0, 0, 40], [0, 60, 30], [0, 0, 1]]), np.eye(4))
    random = np.random.default_rng(0)
    frames = ((10**18 + index * 10**8, random.integers(0, 256, (60, 80, 3), dtype=np.uint8)) for index in range(FRAMES))
    write_image_bag(tmp_path / 'played', frames, camera)
    with BagReader(tmp_path / 'played') as bag:
        yield bag


def node_arguments(**parameters):
    parameters = {'weights': 'random', 'preset': 'small', 'device': 'cpu', **parameters}
    words = [word for name, value in parameters.items() for word in ('-p', f'{name}:={json.dumps(value)}')]
    return [
        '--localhost',
        '--ros-args',
        *words,
        '-r',
        f'image:={TOPICS.image}',
        '-r',
        f'camera_info:={TOPICS.camera_info}',
    ]


def test_a_node_that_cannot_start_is_quoted(tmp_path):
    with (
        Session('tool') as session,
        NodeProcess(node_arguments(weights='nowhere.pth'), tmp_path / 'log') as process,
        pytest.raises(UserError, match='ended by itself') as refusal,
    ):
        process.wait_until_active(session.node, '/evict3r', 60)
    assert 'nowhere.pth' in str(refusal.value)


def test_a_node_that_does_not_get_active_is_given_up(tmp_path):
    with Session('tool') as session, NodeProcess(['--no-autostart', *node_arguments()], tmp_path / 'log') as process:
        client = session.node.create_client(GetState, '/evict3r/get_state')
        assert client.wait_for_service(60)
        with pytest.raises(UserError, match='not active after 1 s'):
            process.wait_until_active(session.node, '/evict3r', 1)
        assert process.stop() == 0
        with pytest.raises(UserError, match='exit code 0'):
            process.check()


def test_a_stopped_node_leaves_no_shared_memory(tmp_path):
    with Session('tool') as session:
        there_before = {str(segment) for segment in Path('/dev/shm').iterdir()}
        with NodeProcess(node_arguments(), tmp_path / 'log') as process:
            process.wait_until_active(session.node, '/evict3r', 60)
            maps = Path(f'/proc/{process.pid}/maps').read_text().splitlines()
            # Its own segments are fastdds_<random>, before Kilted fastrtps_<random>; ports are shared with others.
            held = {line.split()[-1] for line in maps if re.search(r'/dev/shm/fast(dds|rtps)_[0-9a-f]{16}', line)}
            assert process.stop() == 0
    assert held - there_before, 'the node used no shared memory: this test shows nothing'
    assert [segment for segment in held - there_before if Path(segment).exists()] == []


def test_answers_that_nobody_records_are_heard(tmp_path, played):
    """What `evict3r replay --live --attach` counts without --out: images that were answered."""
    with Session('tool') as session, NodeProcess(node_arguments(), tmp_path / 'log') as process:
        process.wait_until_active(session.node, '/evict3r', 60)
        topics, reasons = playable(played)
        assert not reasons
        live = LiveReplay(session, played, topics, TOPICS.image, AnswerTopics.of_node('/evict3r'), None, process.check)
        heard = live.run(Span(), 2.0, 30.0, lambda: None, lambda: False)
        assert heard.played == FRAMES and heard.answered > 0


@pytest.mark.parametrize(
    'number, rate, said',
    [
        (signal.SIGKILL, None, 'ended by itself'),
        (signal.SIGSTOP, None, '2 images in a row without an answer'),
        (signal.SIGSTOP, 20.0, 'did not answer the last image'),
    ],
)
def test_a_node_that_ends_or_falls_silent_ends_the_replay(tmp_path, played, number, rate, said):
    started = None

    def progress():
        nonlocal started
        if started is None:
            started = time.monotonic()
            os.kill(process.pid, number)

    with (
        Session('tool') as session,
        NodeProcess(node_arguments(), tmp_path / 'log') as process,
        BagWriter(tmp_path / 'answer') as answer,
    ):
        process.wait_until_active(session.node, '/evict3r', 60)
        with pytest.raises(UserError, match=said) as refusal:
            replay(
                session, process, played, TOPICS.image, AnswerTopics.of_node('/evict3r'), answer, rate, 2.0, progress
            )
        took = time.monotonic() - started
        assert 'its last words' in str(refusal.value) and 'UNTRAINED' in str(refusal.value)
        assert took < (FRAMES * 0.1 / rate if rate else 0) + 10
        stopping = time.monotonic()
        process.stop()
        assert time.monotonic() - stopping < 20
