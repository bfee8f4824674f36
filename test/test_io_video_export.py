# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Predictions on disk and what is made of them, with true depth and poses of a synthetic room as the predictions."""

from __future__ import annotations

import json
import os

import av
import cv2
import numpy as np
import pytest
import trimesh

from evict3r_ros.errors import UserError
from evict3r_ros.geometry import invert, transform_points, unproject
from evict3r_ros.io import video_export
from evict3r_ros.io.array_archive import ArrayArchive
from evict3r_ros.io.ply import read_ply
from evict3r_ros.io.prediction_folder import FrameArrays, FrameRecord, PredictionFolder
from evict3r_ros.io.tum import read_tum
from evict3r_ros.io.video_export import ExportSettings, LogHistogram, Threshold, export
from evict3r_ros.synthetic.clips import WorldStream

SIZE, COUNT = (84, 112), 12
WORLD = WorldStream(3, COUNT, size=SIZE, effects=False)
K = WORLD.intrinsics
DERIVED = (
    'trajectory.tum',
    'intrinsics.csv',
    'points.ply',
    'scene.glb',
    'depth.mp4',
    'contact_sheet.png',
    'predictions.npz',
)


@pytest.fixture(scope='module')
def walk():
    """Return records and arrays in the first camera's frame; confidence is 1 + the column's share of the width."""
    frames, answers = list(WORLD), []
    world_from_room = invert(frames[0].world_from_camera.astype(np.float64))
    for index, frame in enumerate(frames):
        confidence = np.broadcast_to(1.0 + np.arange(SIZE[1]) / SIZE[1], SIZE).astype(np.float32)
        pose = world_from_room @ frame.world_from_camera
        points = transform_points(pose, unproject(frame.depth, K))
        answers.append(
            (
                FrameRecord(index, index * 100_000_000, f'frame {index}', pose, K, 2 * K),
                FrameArrays(frame.image, frame.depth, confidence, points, 3.0 - confidence),
            )
        )
    return answers


def fill(path, walk, settings=None, count=COUNT):
    folder = PredictionFolder(path, 'a test', DERIVED, depth_scale=1000.0)
    folder.begin(settings or {'points': 'head'}, overwrite=False)
    for record, arrays in walk[folder.count : count]:
        folder.append(record, arrays)
    return folder


def make(folder, untrained=False, **settings):
    calls = []
    exported = export(folder, ExportSettings(**settings), untrained, ['a header'], lambda: calls.append(0))
    assert len(calls) == 2 * folder.count
    return exported


def test_what_is_written_is_read_again(tmp_path, walk):
    with fill(tmp_path, walk) as folder:
        for (record, arrays), read in zip(walk, folder.records(), strict=True):
            for name in ('index', 'stamp_ns', 'name'):
                assert getattr(read, name) == getattr(record, name)
            for name in ('world_from_camera', 'camera_matrix', 'input_camera_matrix'):
                assert np.array_equal(getattr(read, name), getattr(record, name))
            again = folder.read(record.index, with_points=True)
            for name in ('image', 'depth', 'confidence', 'points', 'points_confidence'):
                assert np.array_equal(getattr(again, name), getattr(arrays, name)), name
    levels = cv2.imread(str(tmp_path / 'depth' / '000005.png'), cv2.IMREAD_UNCHANGED)
    assert levels.dtype == np.uint16 and np.abs(levels / 1000.0 - walk[5][1].depth).max() <= 0.00051


def test_depth_that_does_not_fit_16_bits_is_0(tmp_path, walk):
    record, arrays = walk[0]
    depth = arrays.depth.copy()
    depth[0, :4] = [65.5, 65.6, np.inf, np.nan]
    with PredictionFolder(tmp_path, 'a test', DERIVED, 1000.0) as folder:
        folder.begin({}, overwrite=False)
        folder.append(record, FrameArrays(arrays.image, depth, arrays.confidence))
    assert cv2.imread(str(tmp_path / 'depth' / '000000.png'), cv2.IMREAD_UNCHANGED)[0, :4].tolist() == [65500, 0, 0, 0]


def test_a_folder_is_taken_up_where_its_last_whole_line_ends(tmp_path, walk):
    fill(tmp_path, walk, count=5).close()
    with (tmp_path / 'frames.jsonl').open('a') as file:
        file.write('{"index": 5, "stamp_ns"')
    with fill(tmp_path, walk, count=8) as folder:
        assert folder.count == 8 and [record.index for record in folder.records()] == list(range(8))
    with pytest.raises(ValueError, match='does not follow'):
        folder.append(*walk[2])


def test_foreign_and_damaged_folders_are_told_and_nothing_foreign_is_removed(tmp_path, walk):
    (tmp_path / 'thesis.tex').write_text('mine')
    with pytest.raises(UserError, match='was not made by'):
        fill(tmp_path, walk)
    out = tmp_path / 'out'
    fill(out, walk, count=3).close()
    (out / 'depth' / 'mine.png').write_text('mine')
    folder = PredictionFolder(out, 'a test', DERIVED, 1000.0)
    folder.begin({}, overwrite=True)
    assert folder.count == 0 and not list(folder.records())
    assert [path.name for path in (out / 'depth').iterdir()] == ['mine.png']
    folder.close()
    with fill(out, walk, count=3) as folder:
        (out / 'confidence' / '000001.npz').write_bytes(b'PK\3\4')
        with pytest.raises(UserError, match=r'000001\.npz: missing or damaged'):
            folder.read(1)
        (out / 'image' / '000002.png').unlink()
        with pytest.raises(UserError, match=r'000002\.png: missing or damaged'):
            folder.read(2)
        lines = (out / 'frames.jsonl').read_text().splitlines()
        (out / 'frames.jsonl').write_text('\n'.join([lines[0], lines[1][:50], lines[2]]) + '\n')
        with pytest.raises(UserError, match=r'frames\.jsonl:2: damaged'):
            list(folder.records())
    (out / 'run.json').write_text('{')
    with pytest.raises(UserError, match=r'run\.json: cannot be read'):
        PredictionFolder(out, 'a test', DERIVED, 1000.0).settings()


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists('/dev/full'), reason='no full device here')
def test_a_full_disk_is_told(tmp_path, walk):
    with fill(tmp_path, walk, count=1) as folder:
        (tmp_path / 'depth' / '000001.npz').symlink_to('/dev/full')
        with pytest.raises(UserError, match=r'frame 1 cannot be written: No space left.*continues from there'):
            folder.append(*walk[1])
        assert folder.count == 1 and len(list(folder.records())) == 1


@pytest.mark.parametrize('points', ['depth', 'head'])
def test_cloud_and_scene_are_the_room(tmp_path, walk, points):
    with fill(tmp_path, walk) as folder:
        exported = make(folder, points=points, threshold=Threshold(value=0.0), voxel=0.02)
    assert exported.frames == COUNT and exported.masked_share == 0.0 and exported.voxel == 0.02
    cloud = read_ply(tmp_path / 'points.ply')
    assert len(cloud) == exported.points > 5000
    # Each point is one of the true ones, with its colour.
    true = {
        tuple(point): tuple(colour)
        for record, arrays in walk
        for point, colour in zip(
            arrays.points.reshape(-1, 3).tolist(), arrays.image.reshape(-1, 3).tolist(), strict=True
        )
    }
    for point, colour in zip(cloud.points.tolist(), cloud.colours.tolist(), strict=True):
        assert true[tuple(point)] == tuple(colour)
    scene = trimesh.load(tmp_path / 'scene.glb')
    assert len(scene.geometry['points'].vertices) == len(cloud)
    matrix = scene.graph.get('points')[0]
    assert np.allclose(matrix[:3, :3], np.diag([1, -1, -1]))
    names = [f'camera_{index:06d}' for index in range(COUNT)]
    assert set(scene.geometry) == {'points', *names}
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    for (record, _), name in zip(walk, names, strict=True):
        assert np.allclose(scene.graph.get(name)[0], flip @ record.world_from_camera @ flip, atol=1e-6)


def test_trajectory_intrinsics_video_and_sheet(tmp_path, walk):
    with fill(tmp_path, walk) as folder:
        exported = make(folder, untrained=True, most_cameras=0)
    trajectory = read_tum(tmp_path / 'trajectory.tum')
    assert trajectory.stamps_ns.tolist() == [record.stamp_ns for record, _ in walk]
    assert np.allclose(trajectory.positions, [record.world_from_camera[:3, 3] for record, _ in walk], atol=1e-8)
    table = np.genfromtxt(tmp_path / 'intrinsics.csv', delimiter=',', names=True)
    assert len(table) == COUNT and table['fx'][3] == pytest.approx(K[0, 0])
    assert table['input_cx'][3] == pytest.approx(2 * K[0, 2]) and (table['width'][0], table['height'][0]) == SIZE[::-1]
    assert exported.video_fps == pytest.approx(10.0)
    with av.open(str(tmp_path / 'depth.mp4')) as container:
        frames = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
        assert container.streams.video[0].codec_context.name == 'h264'
    assert len(frames) == COUNT and frames[0].shape == (SIZE[0], 2 * SIZE[1], 3)
    left = frames[4][:60, : SIZE[1]].astype(int)  # above the letters
    assert np.abs(left - walk[4][1].image[:60]).mean() < 12
    sheet = cv2.imread(str(tmp_path / 'contact_sheet.png'))
    assert sheet.shape[0] > 8 * 200 and (sheet[10, 700] == [30, 30, 200]).all()  # the red banner
    scene = trimesh.load(tmp_path / 'scene.glb')
    assert set(scene.geometry) == {'points'} and scene.metadata['weights'] == 'UNTRAINED'
    assert not list(tmp_path.glob('part-*'))


def test_all_predictions_in_one_file(tmp_path, walk):
    with fill(tmp_path, walk) as folder:
        make(folder, points='head', predictions=True)
    with np.load(tmp_path / 'predictions.npz') as content:
        arrays = dict(content)
    assert arrays['depth'].shape == (COUNT, *SIZE) and arrays['image'].dtype == np.uint8
    for index, (record, answer) in enumerate(walk):
        assert np.array_equal(arrays['world_from_camera'][index], record.world_from_camera)
        assert arrays['stamp_ns'][index] == record.stamp_ns
        for name in ('image', 'depth', 'confidence', 'points', 'points_confidence'):
            assert np.array_equal(arrays[name][index], getattr(answer, name))


@pytest.mark.parametrize('text, share', [('0%', 1.0), ('25%', 0.75), ('90%', 0.1), ('1.5', 0.5), ('9', 0.0)])
def test_a_threshold_leaves_that_share_of_the_pixels(tmp_path, walk, text, share):
    with fill(tmp_path, walk, count=3) as folder:
        exported = make(folder, threshold=Threshold.parse(text), voxel=1e-5, most_cameras=0, most_points=10**6)
    assert exported.points / (3 * SIZE[0] * SIZE[1]) == pytest.approx(share, abs=0.02)
    # In a scene with neither points nor cameras there is nothing to write.
    assert (tmp_path / 'scene.glb').exists() == (share > 0)


def test_masked_pixels_become_no_points(tmp_path, walk):
    record, arrays = walk[0]
    image = arrays.image.clip(30, 200)
    image[:, :28], image[:, 28:56], image[0, 60] = 0, 255, 0
    with PredictionFolder(tmp_path, 'a test', DERIVED, 1000.0) as folder:
        folder.begin({}, overwrite=False)
        folder.append(record, FrameArrays(image, arrays.depth, arrays.confidence))
        for black, white, share in ((False, False, 0.0), (False, True, 0.25), (True, False, 0.25), (True, True, 0.5)):
            exported = make(folder, mask_black=black, mask_white=white, threshold=Threshold(value=0.0))
            assert exported.masked_share == pytest.approx(share, abs=0.001)
        make(
            folder,
            sky=lambda pixels: np.arange(112)[None].repeat(84, 0) >= 56,
            mask_black=True,
            mask_white=True,
            threshold=Threshold(value=0.0),
        )
        assert len(read_ply(tmp_path / 'points.ply')) == 0


def test_a_failed_export_leaves_the_files_of_the_one_before(tmp_path, walk, monkeypatch):
    with fill(tmp_path, walk) as folder:
        make(folder)
        before = {name: (tmp_path / name).read_bytes() for name in ('points.ply', 'depth.mp4')}

        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(video_export, '_picture', interrupt)
        with pytest.raises(KeyboardInterrupt):
            make(folder)
    assert before == {name: (tmp_path / name).read_bytes() for name in before}
    assert not list(tmp_path.glob('part-*'))


def test_voxels_too_small_for_the_scene_are_told(tmp_path, walk):
    with fill(tmp_path, walk, count=1) as folder, pytest.raises(UserError, match='voxels of 1e-09'):
        make(folder, voxel=1e-9)


def test_without_frames_nothing_is_exported(tmp_path):
    folder = PredictionFolder(tmp_path, 'a test', DERIVED, 1000.0)
    folder.begin({}, overwrite=False)
    with folder, pytest.raises(UserError, match='no frames'):
        make(folder)


@pytest.mark.parametrize('text', ['', '%', 'many', '-1', '100%', 'nan', 'inf', '5 %x'])
def test_thresholds_that_are_none(text):
    with pytest.raises(UserError, match='confidence'):
        Threshold.parse(text)


def test_percentiles_without_keeping_the_numbers():
    values = np.random.default_rng(0).lognormal(0.0, 2.0, 100_000).astype(np.float32)
    histogram = LogHistogram()
    for part in np.array_split(values, 7):
        histogram.add(part)
    histogram.add(np.array([np.nan, np.inf, -np.inf]))
    for percent in (2, 25, 50, 98):
        assert histogram.percentile(percent) == pytest.approx(np.percentile(values, percent), rel=0.01)
    assert np.isnan(LogHistogram().percentile(50))


def test_an_archive_refuses_rows_that_differ(tmp_path):
    with ArrayArchive(tmp_path / 'rows.npz') as archive:
        archive.add('fine', iter(np.eye(3)), 3)
        with pytest.raises(ValueError, match='after'):
            archive.add('shapes', iter([np.zeros(2), np.zeros(3)]), 2)
        with pytest.raises(ValueError, match='2 rows instead of 3'):
            archive.add('short', iter([np.zeros(2), np.zeros(2)]), 3)
    with np.load(tmp_path / 'rows.npz') as content:
        assert np.array_equal(content['fine'], np.eye(3))


def test_run_json_is_what_was_given(tmp_path):
    with PredictionFolder(tmp_path, 'a test', DERIVED, 1000.0) as folder:
        assert folder.settings() is None
        folder.begin({'points': 'depth', 'x': [1, 2]}, overwrite=False)
        assert folder.settings() == json.loads((tmp_path / 'run.json').read_text()) == {'points': 'depth', 'x': [1, 2]}
    assert not (tmp_path / 'points').exists()
