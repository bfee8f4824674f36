# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A map on the disk: keyframes and the segments that they belong to, in one SQLite file.

Each keyframe is a transaction of the write-ahead log: a process that is killed, or a disk that is full, leaves a map of
all keyframes before. One process writes at a time; others may read meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from evict3r_ros import geometry
from evict3r_ros.errors import UserError
from evict3r_ros.mapping.sim3 import Edge, Sim3

FORMAT = 2
"""Version of the tables below."""
MOST_KEYFRAMES = 10_000
JPEG_QUALITY = 95
_MAGIC = b'SQLite format 3\0'
_COLUMNS = 'segment, stamp_ns, pose, intrinsics, height, width, depth, confidence, image, descriptor, correction'
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    scale REAL NOT NULL, rotation BLOB NOT NULL, translation BLOB NOT NULL,
    edge_deviation BLOB, edge_frames INTEGER
);
CREATE TABLE keyframes (
    id INTEGER PRIMARY KEY,
    segment INTEGER NOT NULL REFERENCES segments (id),
    stamp_ns INTEGER NOT NULL,
    pose BLOB NOT NULL, intrinsics BLOB NOT NULL,
    height INTEGER NOT NULL, width INTEGER NOT NULL,
    depth BLOB NOT NULL, confidence BLOB NOT NULL,
    image BLOB NOT NULL,
    descriptor BLOB, correction BLOB NOT NULL
);
CREATE TABLE loops (
    id INTEGER PRIMARY KEY,
    old INTEGER NOT NULL REFERENCES keyframes (id) ON DELETE CASCADE,
    new INTEGER NOT NULL REFERENCES keyframes (id) ON DELETE CASCADE,
    old_from_new BLOB NOT NULL, deviation BLOB NOT NULL
);
CREATE INDEX loops_of_old ON loops (old);
CREATE INDEX loops_of_new ON loops (new);
"""


@dataclass(frozen=True)
class Keyframe:
    """What a map keeps of a frame."""

    stamp_ns: int
    segment: int
    world_from_camera: np.ndarray
    """(4, 4) float64: in the gauge of the segment."""
    intrinsics: np.ndarray
    """K (3, 3) float64 of the image."""
    depth: np.ndarray
    """(h, w) float16, smaller than the image, in the segment's unit."""
    confidence: np.ndarray
    """(h, w) float16."""
    image: np.ndarray
    """(H, W, 3) uint8 RGB, of the network's size."""
    descriptor: np.ndarray | None = None
    """(C,) float32 of length 1: what the image shows, see ``descriptor.Describer``."""
    correction: Sim3 = field(default_factory=Sim3.identity)
    """What loops moved: from the world of the chained segments to the map's, at this keyframe."""


@dataclass(frozen=True)
class MapSummary:
    """What a map holds."""

    keyframes: int
    segments: int
    loops: int
    """Pairs of keyframes that were found to show the same place."""
    weights: str
    """Hash of the weights that it was made with."""
    bytes: int
    """Of the file and its write-ahead log."""


class MapFile:
    """A map that is open; a context manager.

    weights: the hash of the network that is in use; None reads whatever is there. With ``write`` the map
    is made if it is not there. Raises UserError for a file that is damaged, of another format or of other weights, or
    that another process writes.
    """

    def __init__(self, path: Path, weights: str | None = None, write: bool = False):
        self.path = path
        self._lock: int | None = None
        if write:
            if weights is None:
                raise ValueError('a map that is written names its weights')
            self._lock = _lock(path)
        try:
            self._open(weights, write)
        except BaseException:
            self._release()
            raise

    def _open(self, weights: str | None, write: bool) -> None:
        is_new = not self.path.exists() or not self.path.stat().st_size
        if is_new and not write:
            raise UserError(f'{self.path}: there is no map')
        if not is_new:
            _refuse_what_is_no_map(self.path)
        with _one_line(self.path):
            # Autocommit: transactions are begun by hand.
            # The thread that closes loops is the one that uses it, after the one that opened it.
            self._database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            with _one_line(self.path):
                if write:
                    self._database.execute('PRAGMA journal_mode = WAL')
                    # A power cut may lose the last keyframes, not the map.
                    self._database.execute('PRAGMA synchronous = NORMAL')
                else:
                    self._database.execute('PRAGMA query_only = ON')
                self._database.execute('PRAGMA foreign_keys = ON')
            if is_new:
                self._create(weights)
            self._check(weights)
        except BaseException:
            self._database.close()
            raise

    def _create(self, weights: str | None) -> None:
        with self._transaction():
            for statement in _TABLES.split(';'):
                self._database.execute(statement)
            rows = [('format', str(FORMAT)), ('weights', weights)]
            self._database.executemany('INSERT INTO meta VALUES (?, ?)', rows)

    def _check(self, weights: str | None) -> None:
        with _one_line(self.path):
            intact = self._database.execute('PRAGMA quick_check(1)').fetchone()[0] == 'ok'
            tables = {name for (name,) in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not intact:
                raise UserError(f'{self.path}: the map is damaged')
            if 'meta' not in tables:
                raise UserError(f'{self.path}: not a map')
            meta = dict(self._database.execute('SELECT key, value FROM meta'))
        if meta.get('format') != str(FORMAT):
            raise UserError(f'{self.path}: a map of format {meta.get("format")}, and this version reads {FORMAT}')
        self.weights = meta.get('weights', '')
        if weights is not None and weights != self.weights:
            raise UserError(f'{self.path}: the map was made with weights {self.weights}, and these are {weights}')

    def __enter__(self) -> MapFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let others write."""
        self._database.close()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Do all or nothing. Raises UserError when the disk does not take it."""
        with _one_line(self.path):
            self._database.execute('BEGIN IMMEDIATE')
            try:
                yield
                self._database.execute('COMMIT')
            except BaseException:
                # A full disk may have rolled back already.
                if self._database.in_transaction:
                    self._database.execute('ROLLBACK')
                raise

    def add_segment(self, world_from_segment: Sim3, edge: Edge | None = None) -> int:
        """Add a segment and return its number.

        world_from_segment: where its gauge lies. edge: how it was joined to the one before it; None if it was not.
        """
        values = (
            world_from_segment.scale,
            _packed(world_from_segment.rotation),
            _packed(world_from_segment.translation),
            None if edge is None else _packed(edge.deviation),
            None if edge is None else edge.frames,
        )
        with self._transaction():
            cursor = self._database.execute(
                'INSERT INTO segments (scale, rotation, translation, edge_deviation, edge_frames) '
                'VALUES (?, ?, ?, ?, ?)',
                values,
            )
        return int(cursor.lastrowid or 0)

    def add_keyframe(self, keyframe: Keyframe) -> int:
        """Add a keyframe of a segment that is there; return its number."""
        _, encoded = cv2.imencode(
            '.jpg', cv2.cvtColor(keyframe.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        values = (
            keyframe.segment,
            keyframe.stamp_ns,
            _packed(keyframe.world_from_camera),
            _packed(keyframe.intrinsics),
            *keyframe.depth.shape,
            keyframe.depth.astype('<f2').tobytes(),
            keyframe.confidence.astype('<f2').tobytes(),
            encoded.tobytes(),
            None if keyframe.descriptor is None else keyframe.descriptor.astype('<f4').tobytes(),
            _packed_sim3(keyframe.correction),
        )
        with self._transaction():
            cursor = self._database.execute(
                f'INSERT INTO keyframes ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)', values
            )
        return int(cursor.lastrowid or 0)

    def thin(self, most: int = MOST_KEYFRAMES) -> int:
        """Drop keyframes until ``most`` are left, those first whose neighbours are nearest to each other.

        Returns how many were dropped. The first and the last of a segment stay as long as others can go.
        """
        rows = [
            (*row[:2], _unpacked(row[2], (4, 4))) for row in self._select('SELECT id, segment, pose FROM keyframes')
        ]
        drop = len(rows) - most
        if drop <= 0:
            return 0
        scales = {number: sim3.scale for number, sim3 in self.segments()}
        gaps = np.full(len(rows), np.inf)
        for index in range(1, len(rows) - 1):
            (_, before, first), (_, own, _), (_, after, last) = rows[index - 1 : index + 2]
            if before == own == after:
                way = scales[own] * np.linalg.norm(last[:3, 3] - first[:3, 3])
                gaps[index] = way + np.linalg.norm(geometry.rotation_vector(first[:3, :3].T @ last[:3, :3]))
        gone = np.zeros(len(rows), bool)
        for index in np.argsort(gaps, kind='stable'):
            # No two neighbours at once, so that no hole opens; what is then still too much goes in the next round.
            if gone.sum() < drop and not gone[max(0, index - 1) : index + 2].any():
                gone[index] = True
        with self._transaction():
            numbers = [(rows[index][0],) for index in np.flatnonzero(gone)]
            self._database.executemany('DELETE FROM keyframes WHERE id = ?', numbers)
        return int(gone.sum()) + self.thin(most)

    def _select(self, statement: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        with _one_line(self.path):
            yield from self._database.execute(statement, values)

    def segments(self) -> list[tuple[int, Sim3]]:
        """Return number and world_from_segment of each segment, in the order they came."""
        return [
            (number, Sim3(scale, _unpacked(rotation, (3, 3)), _unpacked(translation, (3,))))
            for number, scale, rotation, translation in self._select(
                'SELECT id, scale, rotation, translation FROM segments ORDER BY id'
            )
        ]

    def add_loop(self, old: int, new: int, old_from_new: Sim3, deviation: np.ndarray) -> None:
        """Add a loop between two keyframes that are there; deviation (7,): see ``pose_graph.LoopEdge``."""
        values = old, new, _packed_sim3(old_from_new), _packed(deviation)
        with self._transaction():
            self._database.execute('INSERT INTO loops (old, new, old_from_new, deviation) VALUES (?, ?, ?, ?)', values)

    def loops(self) -> list[tuple[int, int, Sim3]]:
        """Return the numbers of the older and the newer keyframe of each loop, and old_from_new."""
        rows = self._select('SELECT old, new, old_from_new FROM loops ORDER BY id')
        return [(old, new, _unpacked_sim3(similarity)) for old, new, similarity in rows]

    def correct(self, corrections: Iterable[tuple[int, Sim3]]) -> None:
        """Say what loops moved, for keyframes by their numbers; those that are gone are left out."""
        with self._transaction():
            self._database.executemany(
                'UPDATE keyframes SET correction = ? WHERE id = ?',
                ((_packed_sim3(correction), number) for number, correction in corrections),
            )

    def numbers(self) -> list[int]:
        """Return the keyframes' numbers, ascending."""
        return [number for (number,) in self._select('SELECT id FROM keyframes ORDER BY id')]

    def keyframes(self) -> Iterator[Keyframe]:
        """Yield the keyframes, one at a time, in the order they came."""
        for row in self._select(f'SELECT {_COLUMNS} FROM keyframes ORDER BY id'):
            yield self._keyframe(row)

    def keyframe(self, number: int) -> Keyframe:
        """Return a keyframe by its number. Raises KeyError for one that is not there."""
        for row in self._select(f'SELECT {_COLUMNS} FROM keyframes WHERE id = ?', (number,)):
            return self._keyframe(row)
        raise KeyError(number)

    def _keyframe(self, row: tuple[Any, ...]) -> Keyframe:
        segment, stamp, pose, intrinsics, height, width, depth, confidence, image, descriptor, correction = row
        decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
        if decoded is None:
            raise UserError(f'{self.path}: a keyframe of the map has a broken image')
        return Keyframe(
            stamp,
            segment,
            _unpacked(pose, (4, 4)),
            _unpacked(intrinsics, (3, 3)),
            np.frombuffer(depth, '<f2').reshape(height, width),
            np.frombuffer(confidence, '<f2').reshape(height, width),
            cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB),
            None if descriptor is None else np.frombuffer(descriptor, '<f4'),
            _unpacked_sim3(correction),
        )

    def poses(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield stamp in nanoseconds, segment and pose (4, 4) in the map's world of each keyframe."""
        segments = dict(self.segments())
        for segment, stamp, pose, correction in self._select(
            'SELECT segment, stamp_ns, pose, correction FROM keyframes ORDER BY id'
        ):
            world_from_segment = _unpacked_sim3(correction) @ segments[segment]
            yield stamp, segment, world_from_segment.pose(_unpacked(pose, (4, 4)))

    def summary(self) -> MapSummary:
        """Return what the map holds."""
        ((keyframes, segments, loops),) = self._select(
            'SELECT (SELECT COUNT(*) FROM keyframes), (SELECT COUNT(*) FROM segments), (SELECT COUNT(*) FROM loops)'
        )
        files = (self.path, Path(f'{self.path}-wal'))
        return MapSummary(
            keyframes, segments, loops, self.weights, sum(file.stat().st_size for file in files if file.exists())
        )


def _packed(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array, dtype='<f8').tobytes()


def _unpacked(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(content, '<f8').reshape(shape).astype(np.float64)


def _packed_sim3(similarity: Sim3) -> bytes:
    return _packed(np.concatenate([[similarity.scale], similarity.rotation.ravel(), similarity.translation]))


def _unpacked_sim3(content: bytes) -> Sim3:
    numbers = _unpacked(content, (13,))
    return Sim3(float(numbers[0]), numbers[1:10].reshape(3, 3), numbers[10:])


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into a UserError that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise UserError(f'{path}: {error}') from error


def _refuse_what_is_no_map(path: Path) -> None:
    """Raise UserError for a file that SQLite did not write: it would be overwritten."""
    try:
        with path.open('rb') as file:
            head = file.read(len(_MAGIC))
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    if head != _MAGIC:
        raise UserError(f'{path}: not a map')


def _lock(path: Path) -> int:
    """Return the descriptor of a lock that the system gives back when the process ends, however it does."""
    try:
        descriptor = os.open(f'{path}.lock', os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f'{path}: cannot be written: {error.strerror}') from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UserError(f'{path}: another process writes this map') from error
    return descriptor
