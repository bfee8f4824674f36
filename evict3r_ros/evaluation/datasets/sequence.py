# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sequences of images with depth, poses and intrinsics as far as known: the common form of all data sets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.geometry import matrix_from_quaternion, transform
from evict3r_ros.io.image_file import is_hidden

IMAGES = ('.png', '.jpg', '.jpeg')


@dataclass(frozen=True)
class TrueSequence:
    """A sequence on disk; images and depths are read on demand."""

    name: str
    images: Sequence[Path]
    read_image: Callable[[int], np.ndarray]
    """Frame number -> (h, w, 3) uint8 RGB, without distortion."""
    read_depth: Callable[[int], np.ndarray] | None = None
    """Frame number -> (h, w) float32 metres along the optical z axis, NaN where it is not known."""
    world_from_camera: np.ndarray | None = None
    """(n, 4, 4) float64, OpenCV axes, metres."""
    intrinsics: np.ndarray | None = None
    """(3, 3), the same for all frames."""
    max_depth: float = float('inf')
    """Metres: larger true depths do not count, and predictions are clamped to it."""
    left_out: int = 0
    """Number of images that have no partner in the truth and are not among these."""

    def __len__(self) -> int:
        return len(self.images)

    def matched(self, numbers: Sequence[int]) -> TrueSequence:
        """Return a sequence of the frames that have a partner in the truth, which counts the others."""
        return replace(self.take(numbers), left_out=self.left_out + len(self) - len(numbers))

    def take(self, numbers: Sequence[int]) -> TrueSequence:
        """Return a sequence of some of the frames, in the order given."""
        numbers, read_image, read_depth = list(numbers), self.read_image, self.read_depth
        return replace(
            self,
            images=[self.images[number] for number in numbers],
            read_image=lambda index: read_image(numbers[index]),
            read_depth=None if read_depth is None else lambda index: read_depth(numbers[index]),
            world_from_camera=None if self.world_from_camera is None else self.world_from_camera[numbers],
        )


def read_depth_png(path: Path, per_metre: float, invalid: Iterable[int] = (0,)) -> np.ndarray:
    """Read a 16-bit PNG as (h, w) float32 metres; ``invalid`` values become NaN. Raises UserError if that fails."""
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 2:
        raise UserError(f'{path}: not a depth image of 16 bits (missing, or truncated?)')
    depth = stored.astype(np.float32) / per_metre
    depth[np.isin(stored, list(invalid))] = np.nan
    return depth


def from_files(files: Sequence[Path], read: Callable[[Path], np.ndarray]) -> Callable[[int], np.ndarray]:
    """Return a function that reads the file of a frame number."""
    return lambda index: read(files[index])


def numbers_of(path: Path) -> tuple[float, ...]:
    """Return all numbers in a file's name as a sort key: img2.png comes before img10.png."""
    return tuple(float(number) for number in re.findall(r'\d+(?:\.\d+)?', path.stem))


def image_files(folder: Path, suffixes: Sequence[str] = IMAGES) -> list[Path]:
    """Return the images of a folder, sorted by the numbers in their names. Raises UserError if there are none."""
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder')
    files = sorted(
        (path for path in folder.iterdir() if path.name.lower().endswith(tuple(suffixes)) and not is_hidden(path)),
        key=lambda path: (numbers_of(path), path.name),
    )
    if not files:
        raise UserError(f'{folder}: no {" or ".join(suffixes)} files in it')
    return files


def stamp_of(path: Path) -> float:
    """Return the seconds in a file's name, such as 1341846313.592026.png. Raises UserError for another name."""
    try:
        return float(path.stem)
    except ValueError as error:
        raise UserError(f'{path}: its name is not a time in seconds') from error


def nearest(stamps: np.ndarray, wanted: np.ndarray, most: float, what: str) -> tuple[list[int], list[int]]:
    """Associate by time, as evo does: return which of ``wanted`` (n,) have a partner, and its index in ``stamps`` (m,).

    stamps: sorted. A partner is the nearest stamp, no further than ``most``. Raises UserError if none has one.
    """
    if not len(stamps):
        raise UserError(f'{what}: nothing to associate with')
    after = np.searchsorted(stamps, wanted).clip(1, max(len(stamps) - 1, 1)).clip(max=len(stamps) - 1)
    before = (after - 1).clip(min=0)
    chosen = np.where(np.abs(stamps[before] - wanted) <= np.abs(stamps[after] - wanted), before, after)
    gaps = np.abs(stamps[chosen] - wanted)
    matched = np.flatnonzero(gaps <= most)
    if not len(matched):
        raise UserError(f'{what}: no image has anything within {most:g} s (the nearest: {gaps.min():.3f} s)')
    return matched.tolist(), chosen[matched].tolist()


def with_files(images: Sequence[Path], partners: Sequence[Path]) -> list[int]:
    """Return the numbers of the images whose partner is there. Raises UserError if none is."""
    matched = [number for number, path in enumerate(partners) if path.is_file()]
    if not matched:
        raise UserError(f'{partners[0]}: missing, as are those of all {len(images)} images')
    return matched


def numbers_there(images: Iterable[Path]) -> list[int]:
    """Return the numbers of the images of a list that are there. Raises UserError if none is."""
    paths = list(images)
    return with_files(paths, paths)


def by_number(images: Sequence[Path], rows: int, what: Path) -> list[int]:
    """Return the row of each image in a table of the truth, -1 without one.

    Rows are those of all images; if their counts differ, an image's row is the number in its name. Raises UserError
    where no image has a row.
    """
    if len(images) == rows:
        return list(range(rows))
    numbers = [int(numbers_of(image)[-1]) if numbers_of(image) else -1 for image in images]
    found = [number if number < rows else -1 for number in numbers]
    if max(found) < 0:
        raise UserError(f'{what}: {rows} rows for {len(images)} images, whose names do not say which')
    return found


def read_numbers(path: Path, columns: int | None = None) -> np.ndarray:
    """Read rows of numbers (n, columns) from a text file; # begins a comment, commas separate like spaces.

    Raises UserError for any other content.
    """
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read as text ({error})') from error
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split('#', 1)[0].replace(',', ' ').split()
        if not fields:
            continue
        try:
            rows.append([float(field) for field in fields])
        except ValueError as error:
            raise UserError(f'{path}:{number}: expected numbers, got {line.strip()!r}') from error
        wanted = columns if columns is not None else len(rows[0])
        if len(rows[-1]) != wanted:
            raise UserError(f'{path}:{number}: expected {wanted} numbers, got {len(rows[-1])}')
    if not rows:
        raise UserError(f'{path}: holds no numbers')
    return np.array(rows, dtype=np.float64)


def pose_from_tum(row: np.ndarray) -> np.ndarray:
    """Return the pose (4, 4) of tx ty tz qx qy qz qw."""
    return transform(matrix_from_quaternion(row[3:7]), row[:3])


def pose_from_rows(row: np.ndarray) -> np.ndarray:
    """Return the pose (4, 4) of 12 or 16 numbers, row by row."""
    pose = np.eye(4)
    pose[: len(row) // 4] = row.reshape(-1, 4)
    return pose


def folders(root: Path, pattern: str, layout: str) -> list[Path]:
    """Return the folders of a data set that match, sorted. Raises UserError, with the expected layout, without any."""
    if not root.is_dir():
        raise UserError(f'{root}: no such folder; expected {layout}')
    found = sorted(path for path in root.glob(pattern) if path.is_dir() and not is_hidden(path))
    if not found:
        raise UserError(f'{root}: no folder {pattern} in it; expected {layout}')
    return found
