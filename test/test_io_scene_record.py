# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a stream keeps of itself: whole, bounded, and saved all or not at all."""

from __future__ import annotations

import resource
import threading
from pathlib import Path

import numpy as np
import pytest

from evict3r_ros import geometry
from evict3r_ros.errors import UserError
from evict3r_ros.io.ply import read_ply
from evict3r_ros.io.scene_record import PERIOD_NS, SceneRecord
from evict3r_ros.io.tum import read_tum

K = np.array([[40.0, 0.0, 20.0], [0.0, 40.0, 15.0], [0.0, 0.0, 1.0]])
COLOURS = np.full((30, 40, 3), 200, np.uint8)


def pose(x: float) -> np.ndarray:
    return geometry.transform(geometry.BODY_FROM_OPTICAL[:3, :3], np.array([x, 0.0, 0.0]))


def fill(record: SceneRecord, frames: int) -> None:
    for i in range(frames):
        record.add_pose(i * PERIOD_NS, pose(0.1 * i))
        points = geometry.unproject(np.full((30, 40), 2.0 + i, np.float32), K)
        record.add_points(i * PERIOD_NS, points, COLOURS, pose(0.1 * i), K)


def test_everything_is_saved_and_nothing_else_is_left(tmp_path: Path):
    record = SceneRecord(tmp_path / 'maps', 50_000)
    assert list((tmp_path / 'maps').iterdir()) == []  # the trajectory's file has no name
    fill(record, 20)
    saved = record.save()
    assert [path.name for path in (tmp_path / 'maps').iterdir()] == [saved.folder.name]
    assert {path.name for path in saved.folder.iterdir()} == {'points.ply', 'trajectory.tum', 'scene.glb'}
    trajectory, cloud = read_tum(saved.folder / 'trajectory.tum'), read_ply(saved.folder / 'points.ply')
    assert len(trajectory) == saved.poses == 20 and len(cloud) == saved.points > 1000
    np.testing.assert_array_equal(trajectory.stamps_ns, np.arange(20) * PERIOD_NS)
    np.testing.assert_allclose(trajectory.positions[:, 0], 0.1 * np.arange(20), atol=1e-9)
    # x is ahead in the odom frame: the first wall stands at 2, the last at 21 + 1.9
    assert abs(cloud.points[:, 0].min() - 2.0) < 0.02 and abs(cloud.points[:, 0].max() - 22.9) < 0.02
    assert (saved.folder / 'scene.glb').read_bytes()[:4] == b'glTF'
    fill(record, 1)
    assert record.save().poses == 21  # and it goes on
    record.close()


def test_memory_is_bounded_and_the_trajectory_is_whole(tmp_path: Path):
    record = SceneRecord(tmp_path, 500)
    fill(record, 300)
    for i in range(5000):
        record.add_pose((300 + i) * PERIOD_NS, pose(0.0))
    saved = record.save()
    assert saved.points <= 500 and saved.poses == 5300
    assert len(read_tum(saved.folder / 'trajectory.tum')) == 5300


def test_points_are_wanted_from_time_to_time(tmp_path: Path):
    record = SceneRecord(tmp_path, 500)
    assert record.wants_points(5)
    fill(record, 1)
    record.save()  # which waits until they are merged: before, none are wanted at all
    assert not record.wants_points(PERIOD_NS - 1) and record.wants_points(PERIOD_NS)


def test_points_are_merged_beside_the_frames(tmp_path: Path):
    """A merge that takes its time keeps nobody waiting: poses go on, and no more points are wanted meanwhile."""
    record = SceneRecord(tmp_path, 50_000)
    fill(record, 1)
    began, go_on, add = threading.Event(), threading.Event(), record._cloud.add

    def slow(points: np.ndarray, colours: np.ndarray) -> None:
        began.set()
        assert go_on.wait(20.0)
        add(points, colours)

    record._cloud.add = slow
    points = geometry.unproject(np.full((30, 40), 5.0, np.float32), K)
    record.add_points(PERIOD_NS, points, COLOURS, pose(0.0), K)
    assert began.wait(20.0)
    record.add_pose(PERIOD_NS, pose(0.0))
    assert not record.wants_points(10 * PERIOD_NS)
    go_on.set()
    saved = record.save()  # which waits for them
    assert saved.poses == 2 and read_ply(saved.folder / 'points.ply').points[:, 0].max() == pytest.approx(5.0)
    assert record.wants_points(10 * PERIOD_NS)
    record.close()


def test_a_merge_of_another_stream_does_not_come_after_a_restart(tmp_path: Path):
    record = SceneRecord(tmp_path, 50_000)
    with record._cloud_lock:  # nothing is merged yet
        fill(record, 1)
        record.restart()
    record.add_pose(0, pose(0.0))
    record.add_points(0, geometry.unproject(np.full((30, 40), 5.0, np.float32), K), COLOURS, pose(0.0), K)
    cloud = read_ply(record.save().folder / 'points.ply')
    assert cloud.points[:, 0].min() == pytest.approx(5.0)  # nothing of the wall before, at 2
    record.close()


def test_a_restart_forgets(tmp_path: Path):
    record = SceneRecord(tmp_path, 500)
    fill(record, 5)
    record.restart()
    with pytest.raises(UserError, match='nothing has been answered'):
        record.save()
    fill(record, 2)
    assert record.save().poses == 2


def test_a_full_disk_leaves_no_half_of_it(tmp_path: Path):
    """A limit on the size of files stands in for the disk: the same system call fails."""
    record = SceneRecord(tmp_path, 50_000)
    fill(record, 20)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match='too large'):
            record.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    assert record.save().poses == 20


def test_a_folder_that_cannot_be_is_told(tmp_path: Path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='file'):
        SceneRecord(tmp_path / 'file' / 'maps', 500)
