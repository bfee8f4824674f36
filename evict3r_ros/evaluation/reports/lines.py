# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Results as lines of JSON, so that an interrupted run can continue."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from evict3r_ros.errors import UserError


def plain(value: Any) -> Any:
    """Convert to values that JSON can hold: NaN and infinities become None, floats keep six digits."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f'{value:.6g}') if math.isfinite(value) else None
    return value


def key(record: dict[str, Any], parts: Iterable[str]) -> str:
    """Return the parts that identify a record as text."""
    return json.dumps([record[part] for part in parts], sort_keys=True)


class LineFile:
    """Appends records to a file (context manager). A last line that is incomplete is dropped when it is opened."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> LineFile:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open('a+b', buffering=0)
        except OSError as error:
            raise UserError(f'{self.path}: cannot be written: {error.strerror}') from error
        self._file.truncate(self._whole())
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _whole(self) -> int:
        """Return the number of bytes up to the end of the last complete line."""
        self._file.seek(0)
        return self._file.read().rfind(b'\n') + 1

    def append(self, record: dict[str, Any]) -> None:
        """Write a record. Raises UserError if that fails."""
        line = json.dumps(plain(record), separators=(',', ':'), allow_nan=False).encode() + b'\n'
        try:
            written = self._file.write(line)
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError as error:
            # The part of this line that was written is dropped when the file is opened again.
            raise UserError(
                f'{self.path}: cannot be written: {error.strerror}; all lines before are complete'
            ) from error


def read_lines(path: Path, parts: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield all complete records of a file, none if there is no file.

    Raises UserError for a line that is not a record, or that lacks one of the ``parts``.
    """
    if not path.is_file():
        return
    with path.open('rb') as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b'\n'):
                return
            try:
                record = json.loads(line)
            except ValueError as error:
                raise UserError(f'{path}:{number}: not a line of results ({error})') from error
            missing = [part for part in parts if not isinstance(record, dict) or part not in record]
            if missing:
                raise UserError(f'{path}:{number}: not a line of these results ({", ".join(missing)} missing)')
            yield record
