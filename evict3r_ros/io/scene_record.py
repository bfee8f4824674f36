# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a running stream keeps of what it saw, to be saved at any time: bounded in memory, however long it runs.

The cloud is thinned by voxels, the camera poses for a picture are thinned like a path, and the trajectory, which is
kept whole, lies on disk in a file without a name: nothing is left of it when the process ends, however it ends.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np

from evict3r_ros import geometry
from evict3r_ros.errors import UserError
from evict3r_ros.io.ply import VoxelCloud, write_ply
from evict3r_ros.io.scene_camera import SceneCamera
from evict3r_ros.io.tum import TumWriter, format_stamp
from evict3r_ros.odometry.thinned_path import ThinnedPath

_POSE = struct.Struct('<q7d')  # stamp in ns, position, quaternion xyzw
_POSES_AT_ONCE = 4096
VOXEL = 0.01
"""Edge of the first voxels, in metres or in the network's unit; it doubles whenever the cloud is full."""
PERIOD_NS = 500_000_000
"""Time between two frames whose points are added: neighbours show the same surfaces."""
MOST_POINTS_A_FRAME = 20_000
MOST_CAMERAS = 64
"""Drawn in the picture of the scene."""


@dataclass(frozen=True)
class Saved:
    """Where a scene was saved, and how much of it there was."""

    folder: Path
    points: int
    poses: int


class SceneRecord:
    """Cloud and trajectory in one frame, that of the odometry. Safe to use from several threads.

    folder: where the trajectory's nameless file lies and where `save` makes its folders; it is created. Raises OSError
    where that cannot be.
    """

    def __init__(self, folder: Path, max_points: int) -> None:
        self._folder = folder
        self._max_points = max_points
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        # Unbuffered, so that a full disk is told of at once and what was written can be read back.
        self._spool: BinaryIO = tempfile.TemporaryFile(dir=folder, buffering=0)
        self._begin()

    def _begin(self) -> None:
        self._cloud = VoxelCloud(VOXEL, self._max_points)
        self._poses = 0
        self._cameras = ThinnedPath(MOST_CAMERAS, spacing=0.1)
        self._camera_matrix, self._size = np.eye(3), (1, 1)
        self._last_points_ns: int | None = None

    def restart(self) -> None:
        """Forget everything: what follows has nothing to do with what was."""
        with self._lock:
            self._begin()
            self._spool.seek(0)
            self._spool.truncate()

    def wants_points(self, stamp_ns: int) -> bool:
        """Return whether the points of this frame would be added."""
        return self._last_points_ns is None or stamp_ns - self._last_points_ns >= PERIOD_NS

    def add_pose(self, stamp_ns: int, pose: np.ndarray) -> None:
        """Append a (4, 4) pose to the trajectory. Raises OSError when the disk is full; the pose is then lost."""
        record = _POSE.pack(stamp_ns, *pose[:3, 3], *geometry.quaternion_from_matrix(pose))
        with self._lock:
            self._spool.seek(self._poses * _POSE.size)
            if self._spool.write(record) == _POSE.size:
                self._poses += 1

    def add_points(
        self,
        stamp_ns: int,
        points: np.ndarray,
        colours: np.ndarray,
        frame_from_camera: np.ndarray,
        camera_matrix: np.ndarray,
    ) -> None:
        """Add what a camera at a pose (4, 4) saw: (h, w, 3) points in its optical frame, NaN where invalid.

        colours: (h, w, 3) uint8. camera_matrix: K (3, 3) of that size.
        """
        step = max(1, int(np.ceil(np.sqrt(points.shape[0] * points.shape[1] / MOST_POINTS_A_FRAME))))
        some = points[::step, ::step].reshape(-1, 3)
        valid = np.isfinite(some).all(axis=1)
        moved = geometry.transform_points(frame_from_camera, some[valid])
        with self._lock:
            self._last_points_ns = stamp_ns
            self._cloud.add(moved, colours[::step, ::step].reshape(-1, 3)[valid])
            self._cameras.add(stamp_ns, frame_from_camera)
            self._camera_matrix, self._size = camera_matrix, points.shape[:2]

    def save(self) -> Saved:
        """Write points.ply, trajectory.tum and scene.glb into a new folder named after the time; all or nothing.

        Raises OSError or UserError when they cannot be written, and UserError when there is nothing yet.
        """
        from evict3r_ros.io.glb import GLTF_FROM_BODY, write_glb  # not for a robot that never saves

        with self._lock:
            cloud, count = self._cloud.cloud(), self._poses
            cameras = [
                SceneCamera(f'camera {format_stamp(stamp)}', pose, self._camera_matrix, self._size)
                for stamp, pose in self._cameras
            ]
        if not count:
            raise UserError('nothing has been answered yet')
        name = datetime.now().strftime('%Y-%m-%dT%H-%M-%S.%f')[:-3]
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix='.saving-', dir=self._folder))
        try:
            partial.chmod(0o755)  # mkdtemp's folders are closed to others
            write_ply(partial / 'points.ply', cloud)
            with TumWriter(partial / 'trajectory.tum') as writer:
                for stamp_ns, *numbers in self._read(count):
                    writer.write(stamp_ns, numbers[:3], numbers[3:])
            write_glb(partial / 'scene.glb', cloud, cameras, GLTF_FROM_BODY)
            final = partial.rename(self._folder / name)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return Saved(final, len(cloud), writer.count)

    def close(self) -> None:
        """Give back memory and disk."""
        with self._lock:
            self._spool.close()
            self._cloud = VoxelCloud(VOXEL, self._max_points)

    def _read(self, count: int) -> Iterator[tuple]:
        for first in range(0, count, _POSES_AT_ONCE):
            with self._lock:
                self._spool.seek(first * _POSE.size)
                chunk = self._spool.read(min(_POSES_AT_ONCE, count - first) * _POSE.size)
            yield from _POSE.iter_unpack(chunk[: len(chunk) // _POSE.size * _POSE.size])
