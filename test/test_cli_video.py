# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r video` as a user runs it: what it leaves, how it goes on, how it stops, what it refuses."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import av
import cv2
import numpy as np
import pytest
import torch
import trimesh
from safetensors.torch import save_file

from evict3r_ros.cli.main import main
from evict3r_ros.io.ply import read_ply
from evict3r_ros.io.tum import read_tum
from evict3r_ros.io.video_file import VideoWriter
from evict3r_ros.network import load_network
from evict3r_ros.synthetic.clips import WorldStream

pytestmark = pytest.mark.timeout(120)

SIZE, COUNT = (48, 64), 10
NETWORK = ['--weights', 'random', '--preset', 'nano', '--image-width', '56', '--device', 'cpu', '--tokens', '60']


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp('video') / 'walk.mp4'
    with VideoWriter(path, 10.0, SIZE) as writer:
        for frame in WorldStream(7, COUNT, size=SIZE, effects=False):
            writer.write(frame.image)
    return path


def run(source, out, *more):
    return main(['video', str(source), '--out', str(out), *NETWORK, *more])


def content(out):
    """Every file of the frames, by name."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for folder in ('image', 'depth', 'confidence')
        for path in sorted((out / folder).iterdir())
    }


def summary(out):
    return json.loads((out / 'summary.json').read_text())


def test_a_video_becomes_all_that_was_promised(video, tmp_path, capsys):
    out = tmp_path / 'out'
    assert run(video, out, '--points', 'head', '--predictions') == 0
    said = capsys.readouterr()
    assert 'UNTRAINED' in said.out and 'UNTRAINED' in said.err and 'points.ply' in said.out
    assert read_tum(out / 'trajectory.tum').stamps_ns.tolist() == [index * 10**8 for index in range(COUNT)]
    depth = np.load(out / 'depth' / '000003.npz')['depth']
    levels = cv2.imread(str(out / 'depth' / '000003.png'), cv2.IMREAD_UNCHANGED)
    assert depth.shape == levels.shape == (42, 56) and np.abs(levels / 1000 - depth).max() <= 0.00051
    assert np.load(out / 'confidence' / '000003.npz')['confidence'].min() >= 1
    points = np.load(out / 'points' / '000003.npz')['points']
    cloud = read_ply(out / 'points.ply')
    figures = summary(out)
    assert points.shape == (42, 56, 3) and len(cloud) == figures['points'] > 100
    scene = trimesh.load(out / 'scene.glb')
    assert len(scene.geometry['points'].vertices) == len(cloud) and len(scene.geometry) == 1 + COUNT
    with np.load(out / 'predictions.npz') as arrays:
        assert np.array_equal(arrays['depth'][3], depth) and np.array_equal(arrays['points'][3], points)
    assert figures['frames'] == figures['answered_now'] == COUNT and figures['untrained']
    assert figures['settings']['cache']['tokens'] == 60 and max(figures['tokens_per_layer']) <= 120
    assert {path.name for path in out.iterdir()} >= {'depth.mp4', 'contact_sheet.png', 'intrinsics.csv', 'run.json'}


def test_a_run_made_longer_is_the_long_run_and_then_only_exports(video, tmp_path, capsys):
    whole, out = tmp_path / 'whole', tmp_path / 'out'
    assert run(video, whole) == 0
    assert run(video, out, '--frames', '4') == 0
    short = content(out)
    assert len(short) == 4 * 4
    times = {name: (out / name).stat().st_mtime_ns for name in short}
    assert run(video, out) == 0
    assert summary(out)['replayed'] == 4 and summary(out)['answered_now'] == COUNT - 4
    assert summary(out)['replay_pose_difference'] < 1e-5
    # What was there has not been written again, and what came is what an unbroken run says.
    assert times == {name: (out / name).stat().st_mtime_ns for name in short}
    assert content(out) == content(whole)
    capsys.readouterr()
    before = summary(out)['points']
    assert run(video, out, '--confidence', '80%', '--no-show-cameras') == 0
    assert 'only the exports' in capsys.readouterr().out
    assert summary(out)['answered_now'] == summary(out)['replayed'] == 0 and summary(out)['points'] < before
    assert set(trimesh.load(out / 'scene.glb').geometry) == {'points'}
    assert run('nowhere.mp4', out, '--export-only') == 0 and summary(out)['points'] == before


def test_other_settings_are_refused_by_name_and_overwrite_begins_anew(video, tmp_path, capsys):
    out = tmp_path / 'out'
    assert run(video, out, '--frames', '3') == 0
    assert run(video, out, '--policy', 'uniform') == 2
    said = capsys.readouterr().err
    assert 'policy was evict3r and is uniform' in said and '--overwrite' in said
    assert run(video, out, '--interval', '0.2') == 2
    assert run(video, out, '--policy', 'uniform', '--frames', '2', '--overwrite') == 0
    assert len(content(out)) == 2 * 4 and summary(out)['settings']['cache']['policy'] == 'uniform'
    assert run(video, out, '--export-only', '--points', 'head') == 2
    assert 'without the point head' in capsys.readouterr().err


def test_an_input_that_changed_between_two_runs_is_noticed(tmp_path, capsys):
    shots = tmp_path / 'shots'
    shots.mkdir()
    for index, frame in enumerate(WorldStream(7, 4, size=SIZE, effects=False)):
        cv2.imwrite(str(shots / f'{index}.png'), frame.image)
    assert run(shots, tmp_path / 'out', '--frames', '3') == 0
    (shots / '1.png').rename(shots / '1b.png')
    assert run(shots, tmp_path / 'out') == 2
    assert 'frame 1 was 1.png at 0.0333333 s and is now 1b.png' in capsys.readouterr().err


def test_the_papers_budget_is_a_share_of_the_whole_input(video, tmp_path):
    assert run(video, tmp_path / 'out', '--P', '0.5', '--temp', '0.3', '--interval', '0.2') == 0
    cache = summary(tmp_path / 'out')['settings']['cache']
    # 5 frames of 12 patches and 5 special tokens.
    assert (cache['share'], cache['sequence_length'], cache['temperature']) == (0.5, 5, 0.3)
    assert sum(summary(tmp_path / 'out')['tokens_per_layer']) <= 4 * (0.5 * 5 * 17 + 1)


@pytest.mark.parametrize(
    'policy', ['sliding_window', 'uniform', 'first_last', 'random', 'xstreamvggt', 'infinitevggt', 'ovggt', 'unbounded']
)
def test_every_policy(video, tmp_path, policy):
    assert run(video, tmp_path / 'out', '--policy', policy, '--frames', '5', '--half') == 0
    assert summary(tmp_path / 'out')['settings']['dtype'] == 'bfloat16'


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_leaves_a_valid_result_and_goes_on(video, tmp_path, number):
    out = tmp_path / 'out'
    # Some hundred frames, so that it is stopped in their midst.
    shots = tmp_path / 'shots'
    shots.mkdir()
    picture = np.full((*SIZE, 3), 90, np.uint8)
    for index in range(400):
        cv2.imwrite(str(shots / f'{index:03d}.png'), picture + np.uint8(index % 100))
    command = [sys.executable, '-m', 'evict3r_ros.cli.main', 'video', str(shots), '--out', str(out), *NETWORK]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'}
    )
    try:
        deadline = time.monotonic() + 60
        while not (out / 'depth' / '000020.npz').exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        said, complained = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, said + complained
    assert 'interrupted: exporting' in complained and 'Traceback' not in complained
    there = summary(out)['frames']
    assert 20 <= there < 400 and summary(out)['interrupted']
    assert len(read_tum(out / 'trajectory.tum')) == there and len(read_ply(out / 'points.ply')) > 0
    assert run(shots, out, '--frames', str(there + 3)) == 0
    assert summary(out)['frames'] == there + 3 and summary(out)['replayed'] == there
    assert summary(out)['replay_pose_difference'] < 1e-4


@pytest.mark.parametrize(
    'arguments, said',
    [
        (['none.mp4'], 'no such video'),
        (['VIDEO', '--confidence', 'much'], 'confidence'),
        (['VIDEO', '--fps', '0'], '--fps'),
        (['VIDEO', '--voxel', '0'], '--voxel'),
        (['VIDEO', '--start', '99'], 'no frame in the time'),
        (['VIDEO', '--weights', 'none.pth'], 'does not exist'),
        (['VIDEO', '--tokens', '20'], 'too small'),
        (['VIDEO', '--mask-sky', 'none.onnx'], 'neither contains nor downloads'),
        (['VIDEO', '--max-points', '1'], '--max-points'),
        (['VIDEO', '--image-width', '50'], 'multiple of 14'),
        (['VIDEO', '--depth-scale', '-1'], '--depth-scale'),
        (['VIDEO', '--export-only'], 'no frames of an earlier run'),
        (['VIDEO', '--P', '2'], 'share 2.0'),
        (['0', '--P', '0.5'], 'number of frames of a camera is not known'),
        (['93'], 'camera 93 cannot be opened'),
    ],
)
def test_wrong_input_is_told_in_a_line_before_anything_is_made(video, tmp_path, capsys, arguments, said):
    source, *more = [str(video) if word == 'VIDEO' else word for word in arguments]
    assert run(source, tmp_path / 'out', *more) == 2
    complained = [line for line in capsys.readouterr().err.splitlines() if line.startswith('evict3r: error')]
    assert len(complained) == 1 and said in complained[0]
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('part, said', [('camera_head.', 'no answer'), ('depth_head.', 'not finite')])
def test_weights_that_answer_nothing_are_told(video, tmp_path, capsys, part, said):
    state = load_network('random', 'nano').state_dict()
    for name, values in state.items():
        if name.startswith(part):
            values.fill_(torch.nan)
    save_file(state, tmp_path / 'broken.safetensors')
    assert run(video, tmp_path / 'out', '--weights', str(tmp_path / 'broken.safetensors')) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize('text, value', [('90', 90.0), ('1:30', 90.0), ('1:00:01.5', 3601.5)])
def test_times_of_a_video(text, value):
    from evict3r_ros.cli.options.values import seconds

    assert seconds(text) == value


@pytest.mark.parametrize('text', ['1:75', '-3', 'soon', '1:2:3:4', 'nan'])
def test_times_that_are_none(text, capsys):
    with pytest.raises(SystemExit):
        main(['video', 'x.mp4', f'--start={text}'])
    assert '--start' in capsys.readouterr().err


def test_the_packages_own_weights_have_no_point_head_and_say_so(video, tmp_path, capsys):
    assert main(['video', str(video), '--out', str(tmp_path / 'out'), '--points', 'head', '--device', 'cpu']) == 2
    assert 'have no point head' in capsys.readouterr().err


def test_a_raw_stream_and_a_folder_of_shards_end_as_any_other(tmp_path, capsys):
    """Stamps rise by the stream's rate, and the summary tells where they come from."""
    with av.open(str(tmp_path / 'raw.h264'), 'w', format='h264') as container:
        stream = container.add_stream('libx264', rate=10)
        stream.height, stream.width, stream.pix_fmt = *SIZE, 'yuv420p'
        for frame in WorldStream(7, 4, size=SIZE, effects=False):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, format='rgb24')))
        container.mux(stream.encode(None))
    save_file(load_network('random', 'nano').state_dict(), tmp_path / 'model.safetensors')
    options = ['--preset', 'nano', '--image-width', '56', '--device', 'cpu', '--tokens', '60']
    out = tmp_path / 'out'
    command = ['video', str(tmp_path / 'raw.h264'), '--weights', str(tmp_path), '--out', str(out), *options]
    assert main(command) == 0
    assert read_tum(out / 'trajectory.tum').stamps_ns.tolist() == [index * 10**8 for index in range(4)]
    assert '4 frames have no stamps' in summary(out)['notes'][0] and 'no stamps' in capsys.readouterr().err
    assert main(command) == 0 and 'all 4 frames exist' in capsys.readouterr().out


def test_ctrl_c_ends_the_wait_for_a_stream_that_says_nothing(tmp_path):
    """FFmpeg waits for an answer in its own code, in which Python hears no signal."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        server.settimeout(60)
        address = f'rtsp://127.0.0.1:{server.getsockname()[1]}/camera'
        process = subprocess.Popen(
            [sys.executable, '-m', 'evict3r_ros.cli.main', 'video', address, '--out', str(tmp_path / 'out'), *NETWORK],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        connection, _ = server.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=8)[0]
    assert process.returncode == 130 and 'Traceback' not in said, said
    assert not (tmp_path / 'out').exists()
