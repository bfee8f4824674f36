# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Trajectories in the TUM format: a line a pose, `stamp tx ty tz qx qy qz qw`.

Stamps are whole nanoseconds here and never pass through a float, so that what is read equals what was written.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, DecimalException
from pathlib import Path
from types import TracebackType

import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.io.stamps import NANOSECONDS

HEADER = '# timestamp[s] tx ty tz qx qy qz qw\n'


@dataclass(frozen=True)
class Trajectory:
    """Poses in time order."""

    stamps_ns: np.ndarray
    """(n,) int64."""
    positions: np.ndarray
    """(n, 3), metres."""
    quaternions: np.ndarray
    """(n, 4) xyzw of unit length."""

    def __len__(self) -> int:
        return len(self.stamps_ns)


def format_stamp(stamp_ns: int) -> str:
    """Format nanoseconds as seconds with nine decimals: 1500000001 -> '1.500000001'. Raises ValueError below zero."""
    if stamp_ns < 0:
        raise ValueError(f'stamp {stamp_ns} ns is before the epoch')
    return f'{stamp_ns // NANOSECONDS}.{stamp_ns % NANOSECONDS:09d}'


def parse_stamp(text: str) -> int:
    """Parse seconds to nanoseconds exactly, rounded at the ninth decimal. Raises ValueError for another text."""
    try:
        nanoseconds = (Decimal(text) * NANOSECONDS).to_integral_value()
        fits = 0 <= nanoseconds < 2**63
    except DecimalException as error:
        raise ValueError(f'{text!r} is not a time in seconds') from error
    if not fits:
        raise ValueError(f'{text!r} is not a time in seconds that fits 64 bits of nanoseconds')
    return int(nanoseconds)


class TumWriter:
    """Writes poses line by line (context manager). Each line is flushed, so that a killed run leaves a valid file."""

    def __init__(self, path: str | Path) -> None:
        self._file = Path(path).open('w', encoding='ascii', buffering=1)  # noqa: SIM115, closed in close()
        self._file.write(HEADER)
        self.count = 0

    def write(self, stamp_ns: int, position: np.ndarray, quaternion: np.ndarray) -> None:
        """Append a pose: position (3,) metres, quaternion (4,) xyzw. Raises ValueError unless all are finite."""
        numbers = [*np.asarray(position, dtype=np.float64), *np.asarray(quaternion, dtype=np.float64)]
        if len(numbers) != 7 or not np.isfinite(numbers).all():
            raise ValueError(f'a pose is 3 + 4 finite numbers, got {numbers}')
        self._file.write(f'{format_stamp(int(stamp_ns))} ' + ' '.join(f'{number:.9f}' for number in numbers) + '\n')
        self.count += 1

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> TumWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_tum(path: str | Path, trajectory: Trajectory) -> None:
    """Write a whole trajectory."""
    with TumWriter(path) as writer:
        for stamp, position, quaternion in zip(
            trajectory.stamps_ns.tolist(), trajectory.positions, trajectory.quaternions, strict=True
        ):
            writer.write(stamp, position, quaternion)


def read_tum(path: str | Path) -> Trajectory:
    """Read a trajectory; empty lines and comments (#) are skipped. Raises UserError that names file and line."""
    path = Path(path)
    stamps: list[int] = []
    rows: list[list[float]] = []
    try:
        with path.open(encoding='utf-8') as file:
            for number, line in enumerate(file, start=1):
                fields = line.split('#', 1)[0].split()
                if not fields:
                    continue
                stamp, row = _parse_line(fields, f'{path}:{number}')
                stamps.append(stamp)
                rows.append(row)
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise UserError(f'{path}: not a TUM trajectory (not text)') from error
    values = np.array(rows, dtype=np.float64).reshape(-1, 7)
    quaternions = values[:, 3:] / np.linalg.norm(values[:, 3:], axis=1, keepdims=True)
    return Trajectory(np.array(stamps, dtype=np.int64), values[:, :3], quaternions)


def _parse_line(fields: list[str], place: str) -> tuple[int, list[float]]:
    if len(fields) != 8:
        raise UserError(f'{place}: expected 8 fields (stamp tx ty tz qx qy qz qw), got {len(fields)}')
    try:
        stamp, row = parse_stamp(fields[0]), [float(field) for field in fields[1:]]
    except ValueError as error:
        raise UserError(f'{place}: {error}') from error
    if not np.isfinite(row).all():
        raise UserError(f'{place}: a pose holds finite numbers only')
    if not 0.5 < np.linalg.norm(row[3:]) < 2.0:
        raise UserError(f'{place}: qx qy qz qw = {" ".join(fields[4:])} is not a rotation')
    return stamp, row
