# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A map on the disk: what goes in comes out, and what happens to it when things go wrong."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from evict3r_ros import geometry
from evict3r_ros.cli.main import main
from evict3r_ros.errors import UserError
from evict3r_ros.io.ply import read_ply
from evict3r_ros.io.tum import read_tum
from evict3r_ros.mapping.map_file import Keyframe, MapFile
from evict3r_ros.mapping.sim3 import Edge, Sim3
from evict3r_ros.synthetic.clips import render_clips

WEIGHTS = 'feedc0ffee'


def keyframe(number, segment=1, position=None):
    rng = np.random.default_rng(number)
    image = np.full((28, 56, 3), 50, np.uint8)
    image[:, number % 50 : number % 50 + 5] = 200
    pose = geometry.transform(geometry.rotation_from_vector(0.1 * rng.normal(size=3)), rng.normal(size=3))
    if position is not None:
        pose = geometry.transform(np.eye(3), np.asarray(position, dtype=np.float64))
    K = np.array([[40.0, 0.0, 28.0], [0.0, 40.0, 14.0], [0.0, 0.0, 1.0]])
    depth, confidence = (rng.uniform(1.0, 5.0, (7, 14)).astype(np.float16) for _ in range(2))
    return Keyframe(10**9 * number, segment, pose, K, depth, confidence, image)


@pytest.fixture
def filled(tmp_path):
    path = tmp_path / 'map.db'
    with MapFile(path, WEIGHTS, write=True) as written:
        written.add_segment(Sim3.identity())
        moved = Sim3(2.0, geometry.rotation_from_vector(np.array([0.1, 0.2, 0.3])), np.array([1.0, 2.0, 3.0]))
        written.add_segment(moved, Edge(moved, np.full(7, 0.1), 14))
        for number in range(10):
            written.add_keyframe(keyframe(number, 1 + number // 5))
    return path


def test_what_goes_in_comes_out(filled):
    with MapFile(filled, WEIGHTS) as read:
        found = list(read.keyframes())
        segments = dict(read.segments())
        poses = list(read.poses())
        summary = read.summary()
    assert [each.stamp_ns for each in found] == [10**9 * number for number in range(10)]
    for number, each in enumerate(found):
        put = keyframe(number, 1 + number // 5)
        for name in ('segment', 'world_from_camera', 'intrinsics', 'depth', 'confidence'):
            np.testing.assert_array_equal(getattr(each, name), getattr(put, name))
        assert np.abs(each.image.astype(int) - put.image).mean() < 5.0
        np.testing.assert_allclose(poses[number][2], segments[put.segment].pose(put.world_from_camera))
    assert segments[2].scale == 2.0
    assert (summary.keyframes, summary.segments, summary.weights) == (10, 2, WEIGHTS)
    assert summary.bytes == filled.stat().st_size


def test_a_map_goes_on_where_it_ended(filled):
    with MapFile(filled, WEIGHTS, write=True) as again:
        again.add_keyframe(keyframe(10, 2))
        with MapFile(filled) as reader:
            assert reader.summary().keyframes == 11, 'others read while it is written'


def test_thinning_keeps_the_ends_and_opens_no_hole(tmp_path):
    with MapFile(tmp_path / 'map.db', WEIGHTS, write=True) as target:
        target.add_segment(Sim3.identity())
        places = [0.0, 1.0, 1.1, 1.2, 1.3, 2.3, 3.3, 4.3]
        for number, place in enumerate(places):
            target.add_keyframe(keyframe(number, position=(place, 0.0, 0.0)))
        assert target.thin(8) == 0
        assert target.thin(6) == 2
        left = [pose[0, 3] for _, _, pose in target.poses()]
        assert left[0] == 0.0 and left[-1] == 4.3 and len(left) == 6
        assert np.diff(left).max() <= 1.1 + 1e-9
        assert target.thin(3) == 3 and target.summary().keyframes == 3


def test_a_map_of_other_weights_or_another_format_is_refused_with_a_line(filled):
    with pytest.raises(UserError, match='made with weights feedc0ffee, and these are 123'):
        MapFile(filled, '123')
    with sqlite3.connect(filled) as database:
        database.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    with pytest.raises(UserError, match='format 99, and this version reads 2'):
        MapFile(filled, WEIGHTS, write=True)


@pytest.mark.parametrize('share', [0.0, 0.001, 0.3, 0.9])
def test_a_map_that_was_cut_off_is_refused_with_a_line(filled, share):
    content = filled.read_bytes()
    filled.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r'map\.db'), MapFile(filled, WEIGHTS) as read:
        list(read.keyframes())


def test_what_is_no_map_is_left_alone(tmp_path):
    path = tmp_path / 'notes.txt'
    path.write_text('not a map at all')
    for write in (False, True):
        with pytest.raises(UserError, match='not a map'):
            MapFile(path, WEIGHTS, write=write)
    assert path.read_text() == 'not a map at all'
    other = tmp_path / 'other.db'
    with sqlite3.connect(other) as database:
        database.execute('CREATE TABLE songs (name TEXT)')
    with pytest.raises(UserError, match='not a map'):
        MapFile(other)
    with pytest.raises(UserError, match='there is no map'):
        MapFile(tmp_path / 'nowhere.db')


def test_two_robots_do_not_write_one_file(filled):
    with MapFile(filled, WEIGHTS, write=True), pytest.raises(UserError, match='another process writes'):
        MapFile(filled, WEIGHTS, write=True)
    MapFile(filled, WEIGHTS, write=True).close()


WRITER = """
import sys
sys.path.insert(0, 'test')
from pathlib import Path
from test_mapping_map_file import WEIGHTS, keyframe
from evict3r_ros.mapping.map_file import MapFile
with MapFile(Path(sys.argv[1]), WEIGHTS, write=True) as target:
    number = target.summary().keyframes
    while True:
        target.add_keyframe(keyframe(number))
        number += 1
        print(number, flush=True)
"""


def test_killed_in_mid_write_the_map_is_whole_and_goes_on(tmp_path):
    path = tmp_path / 'map.db'
    with MapFile(path, WEIGHTS, write=True) as target:
        target.add_segment(Sim3.identity())
    written = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, '-c', WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        lines = [process.stdout.readline() for _ in range(25)]
        assert int(lines[0]) == written + 1, 'nothing that was written is lost'
        time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
        reported = int(rest[-1]) if rest else int(lines[-1])
        with MapFile(path, WEIGHTS) as read:
            found = [each.stamp_ns // 10**9 for each in read.keyframes()]
        # One more may be in than was told.
        assert found == list(range(len(found))) and len(found) - reported in (0, 1)
        written = len(found)


def test_a_full_disk_is_told_and_leaves_the_map_whole(tmp_path):
    path = tmp_path / 'map.db'
    with MapFile(path, WEIGHTS, write=True) as target:
        target.add_segment(Sim3.identity())
    child = os.fork()
    if not child:
        # A limit on the size of files stands in for the disk; it ends this process at the latest.
        code = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            with MapFile(path, WEIGHTS, write=True) as target:
                try:
                    for number in range(1000):
                        target.add_keyframe(keyframe(number))
                except UserError:
                    code = 0 if number > 5 and target.summary().keyframes == number else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with MapFile(path, WEIGHTS, write=True) as target:
        before = target.summary().keyframes
        assert before == len(list(target.keyframes())) > 5
        target.add_keyframe(keyframe(before))


def test_the_command_records_a_map_and_takes_everything_out(tmp_path, capsys):
    import cv2

    folder = tmp_path / 'images'
    folder.mkdir()
    clip = render_clips([3], 24, 4, (42, 56), loop=True)
    for index, image in enumerate(clip.images[0].numpy()):
        cv2.imwrite(str(folder / f'{index:03d}.png'), image[..., ::-1])
    path = tmp_path / 'map.db'
    network = ['--weights', 'random', '--preset', 'nano', '--image-width', '56', '--device', 'cpu']
    command = ['map', str(path), '--record', str(folder), '--fps', '10', '--spacing', '0.001', *network]
    outputs = {name: tmp_path / f'out.{name}' for name in ('tum', 'ply', 'png')}
    taken = ['--trajectory', str(outputs['tum']), '--cloud', str(outputs['ply']), '--picture', str(outputs['png'])]
    assert main([*command, *taken, '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['segments'] == 1 and 2 <= found['keyframes'] <= 24 and found['bytes'] == path.stat().st_size
    assert len(read_tum(outputs['tum'])) == found['keyframes']
    assert len(read_ply(outputs['ply'])) > 10
    assert cv2.imread(str(outputs['png'])) is not None
    assert main(['map', str(path)]) == 0
    assert f'{found["keyframes"]} keyframes in 1 segments' in capsys.readouterr().out
    assert main(command) == 2 and 'already there' in capsys.readouterr().err
    assert main(['map', str(tmp_path / 'none.db')]) == 2 and 'there is no map' in capsys.readouterr().err
