# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cloud and trajectory of a running stream, to be saved at any time, in bounded memory.

The cloud is thinned by voxels, the camera poses like a path. The whole trajectory is in an unnamed file on disk, which
disappears when the process ends.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

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
"""Time between two frames whose points are added: consecutive frames show the same surfaces."""
MOST_POINTS_A_FRAME = 20_000
MOST_CAMERAS = 64
"""Most cameras in the saved scene."""


def points_stride(shape: tuple[int, ...]) -> int:
    """Return every how many rows and columns of maps (h, w) the record has a point."""
    return max(1, int(np.ceil(np.sqrt(shape[0] * shape[1] / MOST_POINTS_A_FRAME))))


@dataclass(frozen=True)
class Saved:
    """Where a scene was saved, and its numbers of points and poses."""

    folder: Path
    points: int
    poses: int


class SceneRecord:
    """Cloud and trajectory in the odometry's frame. Thread-safe.

    Points are merged into the cloud in a thread of its own: that takes tenths of a second where the cloud is large, and
    those who add points answer images.

    folder: contains the unnamed file of the trajectory and the folders that `save` makes; it is created. Raises OSError
    if that fails.
    """

    def __init__(self, folder: Path, max_points: int) -> None:
        self._folder = folder
        self._max_points = max_points
        self._lock = threading.Lock()
        self._cloud_lock = threading.Lock()
        self._merging = futures.ThreadPoolExecutor(1, 'scene record')
        self._merged: futures.Future[None] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        # Unbuffered, so that a full disk is an error at once and the file can be read back.
        self._spool: BinaryIO = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115, closed in close()
        self._begin()

    def _begin(self) -> None:
        self._cloud = VoxelCloud(VOXEL, self._max_points)
        self._poses = 0
        self._cameras = ThinnedPath(MOST_CAMERAS, spacing=0.1)
        self._camera_matrix, self._size = np.eye(3), (1, 1)
        self._last_points_ns: int | None = None

    def restart(self) -> None:
        """Discard everything: the stream starts over."""
        with self._lock:
            self._begin()
            self._spool.seek(0)
            self._spool.truncate()

    def wants_points(self, stamp_ns: int) -> bool:
        """Return whether the points of this frame should be added: it is time, and the last ones are in the cloud."""
        merged = self._merged
        if merged is not None and not merged.done():
            return False
        return self._last_points_ns is None or stamp_ns - self._last_points_ns >= PERIOD_NS

    def add_pose(self, stamp_ns: int, pose: np.ndarray) -> None:
        """Append a (4, 4) pose to the trajectory. Raises OSError if the disk is full; the pose is then lost."""
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
        """Add points (h, w, 3) in the optical frame of a camera at a pose (4, 4); NaN where invalid.

        colours: (h, w, 3) uint8. camera_matrix: K (3, 3) of that size. Of a network's maps every ``points_stride``-th
        row and column is enough. Waits for the points before, unless ``wants_points`` was asked.
        """
        flat, colours = points.reshape(-1, 3), colours.reshape(-1, 3)
        valid = np.isfinite(flat).all(axis=1)
        self._wait()
        with self._lock:
            self._last_points_ns = stamp_ns
            self._cameras.add(stamp_ns, frame_from_camera)
            self._camera_matrix, self._size = camera_matrix, points.shape[:2]
            self._merged = self._merging.submit(
                self._merge, self._cloud, flat[valid], colours[valid], frame_from_camera
            )

    def _merge(self, cloud: VoxelCloud, points: np.ndarray, colours: np.ndarray, pose: np.ndarray) -> None:
        with self._cloud_lock:
            cloud.add(geometry.transform_points(pose, points), colours)

    def _wait(self) -> None:
        """Wait until all points are in the cloud; raises what went wrong with that."""
        merged, self._merged = self._merged, None
        if merged is not None:
            merged.result()

    def save(self) -> Saved:
        """Write points.ply, trajectory.tum and scene.glb into a new folder named by the time, atomically.

        Raises OSError or UserError if they cannot be written, and UserError if there is nothing yet.
        """
        from evict3r_ros.io.glb import GLTF_FROM_BODY, write_glb  # trimesh is slow to import

        merged = self._merged
        if merged is not None:
            futures.wait([merged])
        with self._cloud_lock, self._lock:
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
            partial.chmod(0o755)  # mkdtemp makes private folders
            write_ply(partial / 'points.ply', cloud)
            with TumWriter(partial / 'trajectory.tum') as writer:
                for stamp_ns, *numbers in self._read(count):
                    writer.write(stamp_ns, np.array(numbers[:3]), np.array(numbers[3:]))
            write_glb(partial / 'scene.glb', cloud, cameras, GLTF_FROM_BODY)
            final = partial.rename(self._folder / name)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return Saved(final, len(cloud), writer.count)

    def close(self) -> None:
        """Release memory and disk space."""
        self._merging.shutdown()
        with self._lock:
            self._spool.close()
            self._cloud = VoxelCloud(VOXEL, self._max_points)

    def _read(self, count: int) -> Iterator[tuple[Any, ...]]:
        for first in range(0, count, _POSES_AT_ONCE):
            with self._lock:
                self._spool.seek(first * _POSE.size)
                chunk = self._spool.read(min(_POSES_AT_ONCE, count - first) * _POSE.size)
            yield from _POSE.iter_unpack(chunk[: len(chunk) // _POSE.size * _POSE.size])
