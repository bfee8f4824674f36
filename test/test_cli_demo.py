# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r demo` itself: a live node over DDS in processes of their own, and everything that it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from processes import children_of

from evict3r_ros.io.answer import AnswerTopics
from evict3r_ros.io.bag import BagReader, header_stamp_ns
from evict3r_ros.io.image_bag import CameraTopics
from evict3r_ros.io.image_folder import read_image_folder
from evict3r_ros.io.ply import read_ply
from evict3r_ros.io.stamps import nanoseconds
from evict3r_ros.io.tum import read_tum

pytest.importorskip('rclpy', reason='ROS is not installed')

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(240)]

TOPICS = AnswerTopics.of_node('/evict3r')
ROOT = Path(__file__).resolve().parent.parent
IN_OUR_ENVIRONMENT = Path(sys.prefix) == ROOT / '.venv'


def start_demo(out, *arguments, images=None, with_make=False):
    environment = {name: value for name, value in os.environ.items() if name != 'EVICT3R_DEMO_IMAGES'}
    if images is not None:
        environment['EVICT3R_DEMO_IMAGES'] = str(images)
    command = [
        sys.executable,
        '-m',
        'evict3r_ros.cli.main',
        'demo',
        '--out',
        str(out),
        '--weights',
        'random',
        *arguments,
    ]
    if with_make:
        command = [
            'make',
            '-C',
            str(ROOT),
            'demo',
            f'OUT={out}',
            f'DEMO_ARGS={" ".join(("--weights random", *arguments))}',
        ]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_demo(out, *arguments, **how):
    demo = start_demo(out, *arguments, **how)
    try:
        said, complained = demo.communicate(timeout=200)
    finally:
        demo.kill()
    assert demo.returncode == 0, said + complained
    return said


def check_output(out, said, frames, frame_id):
    """Everything that a run leaves, against what was played. Returns the stamps."""
    with BagReader(out / 'input') as played:
        stamps = [header_stamp_ns(raw) for _, _, raw in played.raw([CameraTopics().image])]
    assert len(stamps) == frames
    with BagReader(out / 'answer') as answer:
        for topic in (TOPICS.depth, TOPICS.depth_info, TOPICS.confidence, TOPICS.points, TOPICS.odometry):
            assert [header_stamp_ns(raw) for _, _, raw in answer.raw([topic])] == stamps, topic
        transforms = [message.transforms[0] for _, _, message in answer.messages([TOPICS.tf])]
        assert [nanoseconds(transform.header.stamp) for transform in transforms] == stamps
        assert {(transform.header.frame_id, transform.child_frame_id) for transform in transforms} == {
            ('odom', 'base_link')
        }
        depth = next(answer.messages([TOPICS.depth]))[2]
        assert (depth.header.frame_id, depth.encoding) == (frame_id, '32FC1')
        *_, (_, _, status) = answer.messages([TOPICS.status])
        assert status.frames_processed == frames and status.untrained
    assert read_tum(out / 'trajectory.tum').stamps_ns.tolist() == stamps
    cloud = read_ply(out / 'points.ply')
    assert len(cloud) > 1000 and np.isfinite(cloud.points).all() and cloud.colours.std() > 10
    sheet = cv2.imread(str(out / 'contact_sheet.png'))
    assert sheet.std() > 30 and sheet.shape[0] > 600
    assert cv2.imread(str(out / 'scene.png')).std() > 10
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['frames'] == {
        'played': frames,
        'answered': frames,
        'received': frames,
        'processed': frames,
        'dropped': 0,
        'failed': 0,
    }
    assert summary['poses'] == frames and summary['points'] == len(cloud) and summary['node']['untrained']
    assert 0 < summary['latency_ms']['p50'] <= summary['latency_ms']['p99'] < 30_000
    for name, size in summary['written_bytes'].items():
        path = out / name
        assert size == sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir())), name
    assert {'answer', 'trajectory.tum', 'points.ply', 'scene.png', 'contact_sheet.png'} <= summary[
        'written_bytes'
    ].keys()
    for words in ('UNTRAINED', f'{frames} in, {frames} processed, 0 dropped, 0 failed', 'p50', 'points.ply'):
        assert words in said
    return stamps


def test_make_demo_in_a_synthetic_room_and_again_into_the_same_folder(tmp_path):
    out = tmp_path / 'out'
    # Elsewhere than in what `make setup` made, colcon's for example, make would set up another environment.
    check_output(out, run_demo(out, '--frames', '8', with_make=IN_OUR_ENVIRONMENT), 8, 'camera')
    (out / 'notes.txt').write_text('mine')
    said = run_demo(out, '--frames', '3', '--policy', 'sliding_window')
    check_output(out, said, 3, 'camera')
    assert 'policy sliding_window' in said and (out / 'notes.txt').read_text() == 'mine'


def test_on_real_images(tmp_path, euroc_dir):
    out = tmp_path / 'out'
    stamps = check_output(out, run_demo(out, '--frames', '6', images=euroc_dir), 6, 'cam0')
    folder = read_image_folder(euroc_dir)
    assert stamps[0] == folder.frames[0].stamp_ns and stamps[-1] == folder.frames[-1].stamp_ns


def test_at_a_fixed_rate_what_is_dropped_is_counted(tmp_path):
    out = tmp_path / 'out'
    run_demo(out, '--frames', '30', '--rate', '30')
    frames = json.loads((out / 'summary.json').read_text())['frames']
    assert frames['played'] == 30 and frames['failed'] == 0
    assert frames['processed'] + frames['dropped'] == frames['received']
    assert frames['dropped'] > 0 and 2 <= frames['processed'] == frames['answered'] < 30
    with BagReader(out / 'input') as played, BagReader(out / 'answer') as answer:
        last = [header_stamp_ns(raw) for _, _, raw in played.raw([CameraTopics().image])][-1]
        answered = [header_stamp_ns(raw) for _, _, raw in answer.raw([TOPICS.depth])]
    assert answered[-1] == last and len(answered) == frames['answered']


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_and_closes_the_bag(tmp_path, number):
    out = tmp_path / 'out'
    demo = start_demo(out, '--frames', '60')
    try:
        deadline = time.monotonic() + 120
        # The first megabyte: answers are being recorded.
        while not any(file.stat().st_size > 1_000_000 for file in (out / 'answer').glob('*.mcap')):
            assert demo.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        children = children_of(demo)
        assert children
        demo.send_signal(number)
        said, complained = demo.communicate(timeout=20)
    finally:
        demo.kill()
    assert demo.returncode == 130, said + complained
    assert complained.endswith('evict3r: interrupted\n')
    assert not any(Path(f'/proc/{child}').exists() for child in children)
    with BagReader(out / 'answer') as answer:
        assert len(list(answer.messages([TOPICS.depth]))) >= 1


@pytest.mark.parametrize(
    'arguments, said',
    [
        (['--policy', 'psychic'], 'psychic is not one of'),
        (['--weights', 'no.pth'], 'no.pth does not exist'),
        (['--images', 'nowhere'], 'nowhere: no such folder of images'),
    ],
)
def test_wrong_input_is_told_before_anything_is_made(tmp_path, arguments, said):
    demo = start_demo(tmp_path / 'out', *arguments)
    _, complained = demo.communicate(timeout=60)
    assert demo.returncode == 2 and said in complained and complained.count('\n') == 1
    assert not (tmp_path / 'out').exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / 'thesis.tex').write_text('mine')
    demo = start_demo(tmp_path, '--frames', '2')
    _, complained = demo.communicate(timeout=60)
    assert demo.returncode == 2 and 'was not made by `evict3r demo`' in complained
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']
