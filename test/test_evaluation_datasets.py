# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The field's data sets, tiny ones in each layout: what is read is what was rendered, and the commands run on them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import dataset_layouts as layouts
import numpy as np
import pytest
import torch

from evict3r_ros.camera.view import ImageView
from evict3r_ros.cli.main import build_parser, main
from evict3r_ros.errors import UserError
from evict3r_ros.evaluation import tasks
from evict3r_ros.evaluation.configurations import Configuration, parse_policy
from evict3r_ros.evaluation.datasets import DATASETS
from evict3r_ros.evaluation.datasets import TASKS as DATASET_TASKS
from evict3r_ros.evaluation.datasets.sequence import TrueSequence, nearest
from evict3r_ros.evaluation.reports.published import PUBLISHED
from evict3r_ros.geometry import invert
from evict3r_ros.io.image_folder import read_camera_file, write_camera_file
from evict3r_ros.io.tum import read_tum
from evict3r_ros.stream import Prediction

TASK_OF = [(name, task) for name, dataset in DATASETS.items() for task in dataset.tasks]
UNIT = 0.3
"""Metres to the oracle's own unit."""


@pytest.fixture(scope='module')
def world() -> layouts.World:
    return layouts.make_world()


def load(name: str, task: str, root, world) -> TrueSequence:
    layouts.WRITERS[name](root, world)
    (sequence,) = DATASETS[name].load(root, task)
    return sequence


def kept(name: str, world: layouts.World) -> list[int]:
    """Frames of the world that the data set has."""
    return [number for number in range(len(world.images)) if number != 1 or name not in ('scannet', 'nrgbd')]


class Oracle(tasks.Runner):
    """Answers the truth, in a unit and a frame of its own, as the network would."""

    def __init__(self, world: layouts.World, numbers: list[int], width: int):
        super().__init__(None, Configuration('uniform', '100%'), width)
        self._world, self._numbers = world, numbers

    def stream(self, sequence: TrueSequence):
        """See Runner.stream."""
        assert len(sequence) == len(self._numbers)
        origin = invert(self._world.poses[self._numbers[0]])
        for index, number in enumerate(self._numbers):
            image = sequence.read_image(index)
            view = ImageView.of(image.shape[:2], self.image_width)
            depth = cv2.resize(self._world.depth[number], image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
            camera = sequence.intrinsics if sequence.intrinsics is not None else self._world.K
            pose = origin @ self._world.poses[number]
            pose[:3, 3] *= UNIT
            yield (
                index,
                Prediction(
                    index,
                    torch.as_tensor(UNIT * view.to_network(depth)),
                    torch.ones(view.network_size),
                    torch.as_tensor(image),
                    pose,
                    view.to_network_K(camera),
                    view,
                ),
            )

    singles = stream


@pytest.mark.parametrize(('name', 'task'), TASK_OF)
def test_what_is_read_is_what_was_rendered(name, task, tmp_path, world):
    sequence, numbers = load(name, task, tmp_path, world), kept(name, world)
    assert len(sequence) == len(sequence.images) == len(numbers)
    for index in (0, len(numbers) - 1):
        image, true = sequence.read_image(index).astype(float), world.images[numbers[index]].astype(float)
        if image.shape != true.shape:
            image = cv2.resize(image, true.shape[1::-1], interpolation=cv2.INTER_AREA)
        others = world.images[numbers[-1 if index == 0 else 0]].astype(float)
        # ScanNet's JPEGs are not exact.
        assert np.abs(image - true).mean() < 0.5 * np.abs(image - others).mean()
        if sequence.read_depth is not None:
            depth = sequence.read_depth(index)
            assert depth.dtype == np.float32
            true = cv2.resize(world.depth[numbers[index]], depth.shape[::-1], interpolation=cv2.INTER_NEAREST)
            known = np.isfinite(depth)
            assert known.mean() > 0.99
            np.testing.assert_allclose(depth[known], true[known], atol=0.6 / 256)
            if name not in ('sintel', 'nyu'):
                assert not known[0, 0]
    if sequence.world_from_camera is not None:
        np.testing.assert_allclose(sequence.world_from_camera, world.poses[numbers], atol=1e-5)
    assert (sequence.read_depth is not None) == (task != 'pose')
    assert (sequence.world_from_camera is not None) == (task in ('pose', 'mv-recon'))
    some = sequence.take([2, 0])
    np.testing.assert_array_equal(some.read_image(1), sequence.read_image(0))
    assert [some.images[0], some.images[1]] == [sequence.images[2], sequence.images[0]]


@pytest.mark.parametrize(('name', 'task'), TASK_OF)
def test_the_truth_itself_has_no_error(name, task, tmp_path, world):
    """Right answers, in another unit and frame, through association, crop, depth scale, alignment and metrics."""
    sequence, numbers = load(name, task, tmp_path, world), kept(name, world)
    width = 168 if name == '7-scenes' else 56
    if task == 'mv-recon':
        sequence, numbers = sequence.take([0, 3, 6]), numbers[:7:3]
    found = tasks.TASKS[task](Oracle(world, numbers, width), sequence)['figures']
    if task in ('monodepth', 'video-depth'):
        assert found['absrel'] < 2e-3 and found['delta_1_25'] > 0.999
    if task == 'video-depth':
        assert found['absrel_shift'] < 2e-3
        assert found['absrel_frame'] < 2e-3 and found['delta_1_25_frame'] > 0.999
        assert found['absrel_metric'] == pytest.approx(1 - UNIT, abs=1e-3)
    if task == 'pose':
        assert found['ate'] < 1e-6 and found['rotation_deg'] < 1e-4 and found['rpe_rotation_deg'] < 1e-4
    if task == 'mv-recon':
        assert found['accuracy_mean'] < 2e-3 and found['completeness_mean'] < 2e-3
        assert found['normals_mean'] > 0.95


@pytest.mark.parametrize(('name', 'task'), TASK_OF)
def test_the_command_runs(name, task, tmp_path, world, capsys):
    layouts.WRITERS[name](tmp_path / 'data', world)
    arguments = [
        'eval',
        task,
        '--dataset',
        name,
        str(tmp_path / 'data'),
        '--weights',
        'random',
        '--preset',
        'nano',
        '--image-width',
        '56',
        '--device',
        'cpu',
        '--out',
        str(tmp_path / 'out'),
    ]
    if task == 'mv-recon':
        arguments += ['--every', '4']
    assert main([*arguments, '--frames', '4', '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['frames'] == len(kept(name, world)[:: 4 if task == 'mv-recon' else 1][:4])
    assert found['untrained'] and found['frames_per_second'] > 0 and found['peak_gib'] > 0
    assert all(np.isfinite(found[figure]) for figure in tasks.FIGURES[task])
    table = (tmp_path / 'out' / f'{task}_{name}.md').read_text()
    assert 'UNTRAINED' in table and '**evict3r_ros**' in table
    assert all(entry.source in table for entry in PUBLISHED if (entry.task, entry.dataset) == (task, name))
    if task == 'pose':
        assert found['still_camera']['ate'] > 0 and found['random_walk']['rotation_deg'] > 20
        (trajectory,), (picture,) = (list((tmp_path / 'out').glob(f'*.{suffix}')) for suffix in ('tum', 'png'))
        assert len(read_tum(trajectory)) == 4 and cv2.imread(str(picture)).std() > 10


def test_a_recording_in_segments_says_how_many_answered(tmp_path, world, capsys):
    layouts.WRITERS['folder'](tmp_path / 'data', world)
    command = ['eval', 'pose', '--dataset', 'folder', str(tmp_path / 'data'), '--weights', 'random', '--preset', 'nano']
    command += ['--image-width', '56', '--device', 'cpu', '--budget', '60', '--json']
    assert main([*command, '--mapping', 'odometry:length=6:overlap=5:motion=0:patience=0']) == 0
    segmented = json.loads(capsys.readouterr().out)
    assert main(command) == 0
    whole = json.loads(capsys.readouterr().out)
    (count,) = segmented['segments'].values()
    assert count >= 2 and 'segments' not in whole
    assert segmented['cache_gib'] == pytest.approx(2 * whole['cache_gib'], rel=0.01)
    assert segmented['rotation_deg'] != whole['rotation_deg']
    assert main([*command, '--mapping', 'odometry:length=2']) == 2


def test_tum_and_scannet_as_they_are_published(tmp_path, world):
    layouts.tum(tmp_path / 'tum', world, prepared=False)
    layouts.scannet(tmp_path / 'scannet', world, prepared=False)
    for name in ('tum', 'scannet'):
        (sequence,) = DATASETS[name].load(tmp_path / name, 'pose')
        np.testing.assert_allclose(sequence.world_from_camera, world.poses[kept(name, world)], atol=1e-5)


def test_seven_scenes_without_projected_depth(tmp_path, world):
    layouts.seven_scenes(tmp_path, world, projected=False)
    (sequence,) = DATASETS['7-scenes'].load(tmp_path, 'mv-recon')
    assert sequence.name == 'chess/seq-03'
    true = cv2.resize(world.depth[0], (640, 480), interpolation=cv2.INTER_NEAREST)
    assert np.nanmax(np.abs(sequence.read_depth(0) - true)) < 1e-3


def test_euroc_images_lose_their_distortion(tmp_path, world):
    layouts.euroc(tmp_path, world, distortion=(-0.28, 0.07, 0.0002, 0.0))
    (sequence,) = DATASETS['euroc'].load(tmp_path / 'MH_01_easy', 'pose')
    image = sequence.read_image(0)
    assert image.shape == world.images[0].shape and np.abs(image.astype(int) - world.images[0]).mean() > 1.0


def test_the_real_flight(euroc_dir):
    (sequence,) = DATASETS['euroc'].load(euroc_dir, 'pose')
    assert len(sequence) > 100 and sequence.read_image(5).shape == (480, 752, 3)
    assert 5.0 < np.linalg.norm(np.diff(sequence.world_from_camera[:, :3, 3], axis=0), axis=1).sum() < 200.0


def test_sintel_leaves_out_what_is_too_far_and_scenes_without_motion(tmp_path, world):
    far = layouts.World(world.images, world.depth * 10.0, world.poses, world.K)
    layouts.sintel(tmp_path, far)
    layouts.sintel(tmp_path, far, scene='mountain_1')
    assert len(DATASETS['sintel'].load(tmp_path, 'video-depth')) == 2
    assert [sequence.name for sequence in DATASETS['sintel'].load(tmp_path, 'pose')] == ['alley_2']
    sequence = DATASETS['sintel'].load(tmp_path, 'video-depth')[0]
    found = tasks.video_depth(Oracle(world, kept('sintel', world), 56), sequence)
    assert found['weight'] == (far.depth < 70.0).sum() < far.depth.size


def test_a_recording_says_what_a_constant_scores_and_whether_confidence_means_something(tmp_path, world):
    """Depth that is wrong in the lower half of the image, and less sure of itself there."""
    sequence = load('folder', 'video-depth', tmp_path, world)

    class HalfRight(Oracle):
        def stream(self, sequence: TrueSequence):
            for index, prediction in super().stream(sequence):
                rows = torch.arange(prediction.depth.shape[0])[:, None] < prediction.depth.shape[0] / 2
                depth = torch.where(rows, prediction.depth, prediction.depth * 1.2)
                confidence = rows.float().expand_as(depth) + 1
                yield index, replace(prediction, depth=depth, confidence=confidence)

    record = tasks.video_depth(HalfRight(world, list(range(len(sequence))), 56), sequence)
    found, constant = record['figures'], record['constant']
    assert found['absrel_sure'] + found['absrel_unsure'] == pytest.approx(2 * found['absrel_frame'], rel=0.05)
    assert abs(found['absrel_sure'] - found['absrel_unsure']) > 0.02
    medians = np.median(world.depth, axis=(1, 2), keepdims=True)
    assert constant['absrel_frame'] == pytest.approx((np.abs(medians - world.depth) / world.depth).mean(), rel=0.02)


def test_a_recording_without_depth_is_refused_for_depth_alone(tmp_path, world):
    layouts.folder(tmp_path, world)
    for path in (tmp_path / 'depth').iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r'000000\.png: missing, as are those of all 12 images'):
        DATASETS['folder'].load(tmp_path, 'video-depth')
    assert len(DATASETS['folder'].load(tmp_path, 'pose')[0]) == len(world.images)


def drop_line(path: Path, number: int) -> None:
    lines = path.read_text().splitlines()
    del lines[number]
    path.write_text('\n'.join(lines) + '\n')


def drop_pose_of_tum(root: Path) -> None:
    last = max((root / 'rgbd_dataset_freiburg3_walking_xyz' / 'rgb_90').glob('*.png'))
    last.rename(last.with_name(f'{float(last.stem) + 10.0:.6f}.png'))


def drop_states_of_euroc(root: Path) -> None:
    path = next(root.rglob('state_groundtruth_estimate0/data.csv'))
    path.write_text('\n'.join(path.read_text().splitlines()[:-6]) + '\n')


UNMATCHED = {
    ('folder', 'pose'): lambda root: drop_line(root / 'groundtruth_cam0.tum', 11),
    ('folder', 'video-depth'): lambda root: (root / 'depth' / '000011.png').unlink(),
    ('sintel', 'video-depth'): lambda root: next(root.rglob('frame_0012.dpt')).unlink(),
    ('sintel', 'pose'): lambda root: next(root.rglob('frame_0012.cam')).unlink(),
    ('kitti', 'video-depth'): lambda root: next(root.rglob('groundtruth_depth_gathered/*/0000000016.png')).unlink(),
    ('nyu', 'monodepth'): lambda root: (root / 'val' / 'nyu_depths' / '11.npy').unlink(),
    ('tum', 'pose'): drop_pose_of_tum,
    ('euroc', 'pose'): drop_states_of_euroc,
    ('kitti-odometry', 'pose'): lambda root: drop_line(root / 'poses' / '00.txt', 11),
    ('7-scenes', 'mv-recon'): lambda root: next(root.rglob('seq-03/frame-000011.pose.txt')).unlink(),
    ('nrgbd', 'mv-recon'): lambda root: next(root.rglob('depth11.png')).unlink(),
}


def lose_last_rows(path: Path, count: int, columns: slice, value: str, separator: str) -> None:
    lines = path.read_text().splitlines()
    for number in range(len(lines) - count, len(lines)):
        fields = lines[number].split(separator)
        fields[columns] = [value] * len(fields[columns])
        lines[number] = separator.join(fields)
    path.write_text('\n'.join(lines) + '\n')


LOST = {
    ('folder', 'pose'): lambda root: (root / 'rgb' / '000011.png').unlink(),
    ('folder', 'video-depth'): lambda root: (root / 'rgb' / '000011.png').unlink(),
    ('euroc', 'pose'): lambda root: max((root / 'MH_01_easy/mav0/cam0/data').glob('*.png')).unlink(),
    ('tum', 'pose'): lambda root: lose_last_rows(next(root.rglob('groundtruth_90.txt')), 4, slice(4, 8), '0.0', ' '),
    ('kitti-odometry', 'pose'): lambda root: lose_last_rows(root / 'poses' / '00.txt', 1, slice(None), 'nan', ' '),
}


@pytest.mark.parametrize(('name', 'task'), LOST)
def test_a_missing_image_and_a_truth_without_a_pose_cost_that_frame_alone(name, task, tmp_path, world):
    before = load(name, task, tmp_path, world)
    LOST[name, task](tmp_path)
    (sequence,) = DATASETS[name].load(tmp_path, task)
    assert len(sequence) < len(before) and len(sequence) + sequence.left_out == len(before) + before.left_out
    if sequence.world_from_camera is not None:
        assert np.isfinite(sequence.world_from_camera).all()
    np.testing.assert_array_equal(sequence.read_image(len(sequence) - 1), before.read_image(len(sequence) - 1))


def test_quaternions_of_euroc_that_are_no_rotation_cost_their_frames(tmp_path, world):
    before = load('euroc', 'pose', tmp_path, world)
    lose_last_rows(next(tmp_path.rglob('state_groundtruth_estimate0/data.csv')), 3, slice(4, 8), '0.0', ',')
    (sequence,) = DATASETS['euroc'].load(tmp_path, 'pose')
    assert len(sequence) == len(before) - 1


@pytest.mark.parametrize(('lens', 'count'), [('radtan', 4), ('fisheye', 4), ('Brown Conrady', 5), ('plumb_bob', 8)])
def test_a_recordings_lens_may_have_any_of_its_names(tmp_path, world, lens, count):
    layouts.folder(tmp_path, world)
    path = tmp_path / 'camera.yaml'
    write_camera_file(path, replace(read_camera_file(path), distortion_model=lens, D=np.full(count, 1e-3)))
    (sequence,) = DATASETS['folder'].load(tmp_path, 'pose')
    assert sequence.read_image(0).shape == world.images[0].shape


@pytest.mark.parametrize(('name', 'task'), UNMATCHED)
def test_an_image_without_a_partner_is_left_out_and_counted(name, task, tmp_path, world):
    before = load(name, task, tmp_path, world)
    UNMATCHED[name, task](tmp_path)
    (sequence,) = DATASETS[name].load(tmp_path, task)
    assert len(sequence) < len(before) and len(sequence) + sequence.left_out == len(before) + before.left_out
    if sequence.world_from_camera is not None:
        np.testing.assert_allclose(sequence.world_from_camera, before.world_from_camera[: len(sequence)], atol=1e-9)
    last = len(sequence) - 1
    np.testing.assert_array_equal(sequence.read_image(last), before.read_image(last))
    if sequence.read_depth is not None:
        np.testing.assert_array_equal(sequence.read_depth(last), before.read_depth(last))


def test_what_is_left_out_is_told(tmp_path, world, capsys):
    layouts.tum(tmp_path, world)
    drop_pose_of_tum(tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / 'rgb_90' / '._1341846313.592026.png').write_bytes(b'\0\5\x16\7')
    arguments = ['eval', 'pose', '--dataset', 'tum', str(tmp_path), '--weights', 'random', '--preset', 'nano']
    assert main([*arguments, '--image-width', '56', '--device', 'cpu', '--json']) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found['frames'] + found['left_out'] == 12 and found['left_out'] > 0
    assert f'{found["left_out"]} of 12 images have no partner in the truth' in said.err


@pytest.mark.parametrize(
    ('lens', 'coefficients'), [('equidistant', (0.2, 0.05, 0.01, 0.0)), ('radial-tangential', (-0.28, 0.07, 2e-4, 0.0))]
)
def test_euroc_images_are_undistorted_by_the_model_of_their_lens(tmp_path, world, lens, coefficients):
    layouts.euroc(tmp_path, world, coefficients, lens)
    (sequence,) = DATASETS['euroc'].load(tmp_path, 'pose')
    fisheye = lens == 'equidistant'
    build = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
    D = np.array(coefficients)
    maps = build(world.K, D, np.eye(3), world.K, layouts.SIZE[::-1], cv2.CV_32FC1)
    expected = cv2.remap(world.images[0], *maps, cv2.INTER_LINEAR)
    assert np.abs(sequence.read_image(0).astype(int) - expected).mean() < 1.0


def test_a_lens_that_is_not_known_is_told(tmp_path, world):
    layouts.euroc(tmp_path, world, (0.9,), 'fov')
    with pytest.raises(UserError, match=r"distortion_model 'fov' cannot be undistorted \(known: pinhole with"):
        DATASETS['euroc'].load(tmp_path, 'pose')


def test_crop_takes_the_middle(tmp_path, world):
    sequence = load('nrgbd', 'mv-recon', tmp_path, world)
    points = [tasks.mv_recon(Oracle(world, kept('nrgbd', world), 56), sequence, crop)['points'] for crop in (0, 28, 42)]
    frames = len(kept('nrgbd', world))
    assert points == [frames * (42 * 56 - 1), frames * 28 * 28, frames * 42 * 42]


def test_nearest_stamps():
    stamps = np.array([0.0, 1.0, 2.0])
    assert nearest(stamps, np.array([-0.1, 0.4, 0.6, 2.1]), 0.5, 'x') == ([0, 1, 2, 3], [0, 0, 1, 2])
    assert nearest(np.array([3.0]), np.array([3.0, 3.1]), 0.5, 'x') == ([0, 1], [0, 0])
    assert nearest(stamps, np.array([0.0, 2.6, 1.9]), 0.5, 'x') == ([0, 2], [0, 2])
    with pytest.raises(UserError, match=r'no image has anything within 0.5 s \(the nearest: 0.600 s\)'):
        nearest(stamps, np.array([2.6]), 0.5, 'x')


def test_limit_frames_and_resume(tmp_path, world, capsys):
    for scene in ('alley_2', 'cave_2', 'temple_3'):
        layouts.sintel(tmp_path, world, scene)
    arguments = [
        'eval',
        'pose',
        '--dataset',
        'sintel',
        str(tmp_path),
        '--weights',
        'random',
        '--preset',
        'nano',
        '--image-width',
        '56',
        '--device',
        'cpu',
        '--frames',
        '5',
        '--out',
        str(tmp_path / 'out'),
        '--json',
    ]
    assert main([*arguments, '--limit', '2']) == 0
    first = json.loads(capsys.readouterr().out)
    assert list(first['sequences']) == ['alley_2', 'cave_2'] and first['frames'] == 10
    assert main(arguments) == 2
    assert '--resume' in capsys.readouterr().err
    lines = tmp_path / 'out' / 'pose_sintel.jsonl'
    before = lines.read_bytes()
    assert main([*arguments, '--resume']) == 0
    second = json.loads(capsys.readouterr().out)
    assert list(second['sequences']) == ['alley_2', 'cave_2', 'temple_3']
    assert second['sequences']['cave_2'] == first['sequences']['cave_2']
    assert lines.read_bytes().startswith(before) and lines.read_bytes().count(b'\n') == 3
    # A budget that one sequence is too short for is refused before the first one is run.
    assert main([*arguments, '--resume', '--budget', '40%']) == 2
    assert 'alley_2, 5 frames: a budget of' in capsys.readouterr().err
    # Other settings are another measurement.
    assert main([*arguments, '--resume', '--bits', '8', '--limit', '1']) == 0
    assert lines.read_bytes().count(b'\n') == 4


@pytest.mark.parametrize(('name', 'task'), TASK_OF)
def test_a_wrong_folder_is_told_what_was_expected(name, task, tmp_path, capsys):
    for folder in (tmp_path, tmp_path / 'nowhere'):
        assert main(['eval', task, '--dataset', name, str(folder)]) == 2
        error = capsys.readouterr().err
        assert str(folder) in error and ('expected' in error or 'no such folder' in error)


def test_what_is_damaged_is_named(tmp_path, world):
    layouts.sintel(tmp_path, world)
    depth = tmp_path / 'training' / 'depth' / 'alley_2' / 'frame_0002.dpt'
    camera = tmp_path / 'training' / 'camdata_left' / 'alley_2' / 'frame_0003.cam'
    depth.write_bytes(depth.read_bytes()[:-10])
    with pytest.raises(UserError, match=r'frame_0002\.dpt: truncated'):
        DATASETS['sintel'].load(tmp_path, 'video-depth')[0].read_depth(1)
    camera.write_bytes(b'x' * 200)
    with pytest.raises(UserError, match=r'frame_0003\.cam: not a file of the Sintel'):
        DATASETS['sintel'].load(tmp_path, 'pose')
    image = tmp_path / 'training' / 'final' / 'alley_2' / 'frame_0001.png'
    image.write_bytes(b'')
    for path in (tmp_path / 'training' / 'camdata_left' / 'alley_2').iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r'frame_0001\.cam: missing, as are those of all 12'):
        DATASETS['sintel'].load(tmp_path, 'pose')
    layouts.neural_rgbd(tmp_path / 'nrgbd', world)
    (tmp_path / 'nrgbd' / 'breakfast_room' / 'poses.txt').write_text('1 2 3 4\n5 6 7\n')
    with pytest.raises(UserError, match=r'poses\.txt:2: expected 4 numbers, got 3'):
        DATASETS['nrgbd'].load(tmp_path / 'nrgbd', 'mv-recon')


def test_published_figures_are_of_known_tasks_and_say_where_they_stand():
    for entry in PUBLISHED:
        assert entry.task in DATASET_TASKS and entry.task in DATASETS[entry.dataset].tasks
        assert set(entry.figures) <= set(tasks.FIGURES[entry.task])
        assert 'arXiv' in entry.source and entry.source.split('Table ')[1]


def test_the_commands_of_the_docs_are_commands():
    text = (Path(__file__).parent.parent / 'docs' / 'reproduce.md').read_text()
    network = re.search(r'`W` stands for `([^`]+)`', text).group(1)
    commands = [command for command in re.findall(r'`evict3r (eval [^`]+)`', text) if '/' in command]
    assert len(commands) >= 5
    for command in commands:
        args = build_parser().parse_args(command.replace(' W', f' {network}').split())
        assert args.task in DATASETS[args.dataset].tasks
    for text_of_policy in re.findall(r'--policy ([\w:=.]+)', text):
        parse_policy(text_of_policy)
