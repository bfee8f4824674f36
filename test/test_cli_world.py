# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r world`: what it leaves on the disk is the world that its seed says."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from evict3r_ros.cli.demo.inputs import folder_input
from evict3r_ros.cli.main import main
from evict3r_ros.io.bag import BagReader, header_stamp_ns
from evict3r_ros.io.image_bag import CameraTopics
from evict3r_ros.io.image_folder import read_image_folder
from evict3r_ros.synthetic.clips import WorldStream

SIZE = (48, 64)
ASKED = ['world', '--seed', '7', '--frames', '5', '--stride', '4', '--size', '48', '64']


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Make a folder and a bag of the same world."""
    folder = tmp_path_factory.mktemp('world')
    assert main([*ASKED, '--out', str(folder / 'out'), '--bag', str(folder / 'bag')]) == 0
    return folder


def test_the_folder_is_the_seeds_world(made):
    expected = list(WorldStream(7, 5, 4, SIZE))
    folder = read_image_folder(made / 'out')
    assert len(folder) == len(expected) == len(folder.ground_truth)
    assert (
        np.allclose(folder.camera.K, WorldStream(7, 5, 4, SIZE).intrinsics)
        and folder.camera.base_from_camera is not None
    )
    for frame, truth, position in zip(folder.frames, expected, folder.ground_truth.positions, strict=True):
        assert frame.path.parent.name == 'rgb' and np.array_equal(frame.read(), truth.image)
        depth = cv2.imread(str(made / 'out' / 'depth' / frame.path.name), cv2.IMREAD_UNCHANGED)
        assert depth.dtype == np.uint16 and np.abs(depth * 0.001 - truth.depth).max() <= 0.000501
        assert np.allclose(position, truth.world_from_camera[:3, 3], atol=1e-8)
    assert [frame.stamp_ns for frame in folder.frames] == folder.ground_truth.stamps_ns.tolist()
    about = json.loads((made / 'out' / 'world.json').read_text())
    assert about['seed'] == 7 and about['stride'] == 4 and about['depth_unit_m'] == 0.001
    assert cv2.imread(str(made / 'out' / 'contact_sheet.png')).std() > 20
    assert folder_input(made / 'out', 3).count == 3


def test_the_bag_has_the_same_images(made):
    images = [frame.read() for frame in read_image_folder(made / 'out').frames]
    with BagReader(made / 'bag') as bag:
        messages = [message for _, _, message in bag.messages([CameraTopics().image])]
        stamps = [header_stamp_ns(raw) for _, _, raw in bag.raw([CameraTopics().image])]
    assert stamps == [frame.stamp_ns for frame in read_image_folder(made / 'out').frames]
    for message, image in zip(messages, images, strict=True):
        assert np.array_equal(np.asarray(message.data).reshape(*SIZE, 3), image)


def test_a_second_run_replaces_the_first_and_nothing_else(made, tmp_path):
    out = tmp_path / 'out'
    for frames in ('4', '2'):
        assert main([*ASKED, '--frames', frames, '--loop', '--no-effects', '--out', str(out)]) == 0
    assert len(list((out / 'rgb').iterdir())) == len(list((out / 'depth').iterdir())) == 2
    (out / 'rgb' / 'notes.txt').write_text('mine')
    assert main([*ASKED, '--out', str(out)]) == 2
    assert (out / 'rgb' / 'notes.txt').exists() and len(list((out / 'rgb').iterdir())) == 3


@pytest.mark.parametrize(
    ('wrong', 'said'),
    [
        ([], 'nowhere to write'),
        (['--out', '{}', '--frames', '0'], '--frames 0'),
        (['--out', '{}', '--seed', '-1'], '--seed -1'),
        (['--out', '{}', '--stride', '0'], '--stride 0'),
        (['--out', '{}', '--size', '8', '64'], '--size 8 64'),
        (['--out', '{}', '--rate', 'nan'], '--rate nan'),
        (['--bag', '{}'], 'already there'),
        (['--out', '/dev/null/x'], 'cannot be written'),
    ],
)
def test_what_cannot_work_is_refused(wrong, said, tmp_path, capsys):
    assert main([*ASKED, *(word.format(tmp_path) for word in wrong)]) == 2
    assert said in capsys.readouterr().err
    assert not list(Path(tmp_path).iterdir())


def test_places_with_photographs_whose_sky_has_no_depth(tmp_path):
    (tmp_path / 'photos').mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    assert cv2.imwrite(str(tmp_path / 'photos' / 'a.png'), noise)
    asked = ['world', '--seed', '3', '--frames', '1', '--size', '48', '64', '--family', 'places']
    for name, more in (('plain', []), ('painted', ['--textures', str(tmp_path / 'photos')])):
        assert main([*asked, *more, '--out', str(tmp_path / name)]) == 0
    plain, painted = (cv2.imread(str(tmp_path / name / 'rgb' / '000000.png')) for name in ('plain', 'painted'))
    assert not np.array_equal(plain, painted)
    about = json.loads((tmp_path / 'painted' / 'world.json').read_text())
    assert about['family'] == 'places' and about['textures'] and about['kind'] == 'open'
    depth = cv2.imread(str(tmp_path / 'painted' / 'depth' / '000000.png'), cv2.IMREAD_UNCHANGED)
    truth = next(iter(WorldStream(3, 1, 1, SIZE, family='places'))).depth
    assert np.array_equal(depth == 0, np.isinf(truth)) and 0 < (depth == 0).mean() < 1


def test_laps_go_round_a_loop_again(tmp_path, capsys):
    out = tmp_path / 'out'
    command = ['world', '--seed', '5', '--frames', '4', '--stride', '4', '--size', '48', '64', '--no-effects']
    assert main([*command, '--loop', '--laps', '2', '--out', str(out)]) == 0
    assert '8 frames' in capsys.readouterr().out
    folder = read_image_folder(out)
    positions = np.array(folder.ground_truth.positions)
    assert len(folder) == 8 and np.allclose(positions[4:], positions[:4], atol=1e-6)
    about = json.loads((out / 'world.json').read_text())
    assert about['laps'] == 2 and about['frames'] == 8
    assert main([*command, '--laps', '2', '--out', str(tmp_path / 'no')]) == 2
    assert 'only with --loop' in capsys.readouterr().err
