# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Coloured point clouds in binary little-endian PLY, and a voxel cloud of bounded size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from evict3r_ros.errors import UserError

VERTEX = np.dtype([('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('red', 'u1'), ('green', 'u1'), ('blue', 'u1')])
_COUNT_DIGITS = 12
_TYPE_NAMES = {'<f4': 'float', '|u1': 'uchar'}
# Voxel indices are packed 21 bits an axis into one integer.
_AXIS_BITS = 21
_HALF_AXIS = 1 << (_AXIS_BITS - 1)


@dataclass(frozen=True)
class PointCloud:
    """A coloured point cloud."""

    points: np.ndarray
    """(n, 3) float32, metres."""
    colours: np.ndarray
    """(n, 3) uint8 RGB."""

    def __len__(self) -> int:
        return len(self.points)


def _header(count: int) -> bytes:
    """Return a header whose length does not depend on the count, so that the count can be written at the end."""
    properties = ''.join(f'property {_TYPE_NAMES[VERTEX[name].str]} {name}\n' for name in VERTEX.fields or ())
    return (
        f'ply\nformat binary_little_endian 1.0\ncomment evict3r_ros\n'
        f'element vertex {count:0{_COUNT_DIGITS}d}\n{properties}end_header\n'
    ).encode('ascii')


class PlyWriter:
    """Appends points to a PLY file; the count is written when it is closed (context manager)."""

    def __init__(self, path: str | Path) -> None:
        self.count = 0
        self._file = Path(path).open('wb')  # noqa: SIM115, closed in close()
        self._file.write(_header(0))

    def append(self, points: np.ndarray, colours: np.ndarray) -> None:
        """Append points (n, 3) in metres with colours (n, 3) uint8 RGB. Raises ValueError if the shapes differ."""
        if points.ndim != 2 or points.shape[1] != 3 or points.shape != colours.shape:
            raise ValueError(f'points {points.shape} and colours {colours.shape} must both be (n, 3)')
        vertices = np.empty(len(points), dtype=VERTEX)
        for axis, (place, channel) in enumerate(zip('xyz', ('red', 'green', 'blue'), strict=True)):
            vertices[place] = points[:, axis]
            vertices[channel] = colours[:, axis]
        self._file.write(vertices.tobytes())
        self.count += len(points)

    def close(self) -> None:
        """Write the count and close the file."""
        if not self._file.closed:
            self._file.seek(0)
            self._file.write(_header(self.count))
            self._file.close()

    def __enter__(self) -> PlyWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_ply(path: str | Path, cloud: PointCloud) -> None:
    """Write a whole cloud."""
    with PlyWriter(path) as writer:
        writer.append(cloud.points, cloud.colours)


def read_ply(path: str | Path) -> PointCloud:
    """Read a cloud that PlyWriter wrote. Raises UserError for a truncated file or another layout."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    header = _header(0)
    start = header.index(b'element vertex ') + len(b'element vertex ')
    stop = start + _COUNT_DIGITS
    count = content[start:stop]
    if content[:start] + content[stop : len(header)] != header[:start] + header[stop:] or not count.isdigit():
        raise UserError(
            f'{path}: not a PLY file in this layout (binary_little_endian; x y z float, red green blue uchar)'
        )
    expected = int(count) * VERTEX.itemsize
    body = len(content) - len(header)
    if body != expected:
        raise UserError(f'{path}: {int(count)} points need {expected} bytes after the header, there are {body}')
    vertices = np.frombuffer(content, dtype=VERTEX, offset=len(header))
    return PointCloud(
        np.stack([vertices[name] for name in 'xyz'], axis=1),
        np.stack([vertices[name] for name in ('red', 'green', 'blue')], axis=1),
    )


class VoxelCloud:
    """A cloud of bounded size with one point per voxel. When it is full, the voxel size doubles.

    So memory depends on max_points alone, not on the length of the stream.
    """

    def __init__(self, voxel: float, max_points: int) -> None:
        """Begin with voxels of an edge in metres. Raises ValueError for invalid sizes."""
        # Voxels of any size: points around the origin lie in eight of them.
        if not voxel > 0 or max_points < 8:
            raise ValueError(f'need a voxel edge over 0 and room for 8 points or more, got {voxel} and {max_points}')
        self.voxel = float(voxel)
        self.max_points = max_points
        self._keys = np.empty(0, dtype=np.int64)
        self._points = np.empty((0, 3), dtype=np.float32)
        self._colours = np.empty((0, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def reach(self) -> float:
        """Largest distance of a point from the origin along an axis, metres."""
        return self.voxel * _HALF_AXIS

    def add(self, points: np.ndarray, colours: np.ndarray) -> None:
        """Add points (n, 3) in metres with colours (n, 3) uint8.

        Points that are not finite, or further than 2^20 voxels from the origin, are ignored.
        """
        keys, kept = self._voxel_keys(points)
        self._merge(keys, points[kept], colours[kept])
        while len(self) > self.max_points:
            self.voxel *= 2.0
            keys, kept = self._voxel_keys(self._points)
            points, colours = self._points[kept], self._colours[kept]
            self._keys, self._points, self._colours = self._keys[:0], self._points[:0], self._colours[:0]
            self._merge(keys, points, colours)

    def cloud(self) -> PointCloud:
        """Return a copy of the cloud."""
        return PointCloud(self._points.copy(), self._colours.copy())

    def _voxel_keys(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the packed voxel index of each point in range, and the mask (n,) of the points in range."""
        with np.errstate(invalid='ignore', over='ignore'):
            scaled = np.floor(np.asarray(points, dtype=np.float64) / self.voxel)
            kept: np.ndarray = np.all(np.abs(scaled) < _HALF_AXIS, axis=1)
        index = scaled[kept].astype(np.int64) + _HALF_AXIS
        return (index[:, 0] << 2 * _AXIS_BITS) | (index[:, 1] << _AXIS_BITS) | index[:, 2], kept

    def _merge(self, keys: np.ndarray, points: np.ndarray, colours: np.ndarray) -> None:
        """Keep the first point of each voxel that has none yet; keys stay sorted."""
        keys, first = np.unique(keys, return_index=True)
        if len(self):
            at = np.minimum(np.searchsorted(self._keys, keys), len(self) - 1)
            new = self._keys[at] != keys
            keys, first = keys[new], first[new]
        all_keys = np.concatenate([self._keys, keys])
        # A stable sort merges two sorted runs in linear time.
        order = np.argsort(all_keys, kind='stable')
        self._keys = all_keys[order]
        self._points = np.concatenate([self._points, points[first].astype(np.float32)])[order]
        self._colours = np.concatenate([self._colours, colours[first].astype(np.uint8)])[order]
