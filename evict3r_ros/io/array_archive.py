# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Write arrays row by row into an NPZ file, with memory that does not depend on their length."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import numpy as np


class ArrayArchive:
    """Writes arrays one after the other (context manager); ``numpy.load`` reads the file."""

    def __init__(self, path: str | Path) -> None:
        self._file = zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED, allowZip64=True)

    def add(self, name: str, rows: Iterable[np.ndarray], count: int) -> None:
        """Add an array of ``count`` rows of one shape and dtype. Raises ValueError for other rows."""
        written, first = 0, None
        with self._file.open(f'{name}.npy', 'w', force_zip64=True) as entry:
            for row in rows:
                row = np.ascontiguousarray(row)
                if first is None:
                    first = row
                    np.lib.format.write_array_header_1_0(
                        entry,
                        {
                            'descr': np.lib.format.dtype_to_descr(row.dtype),
                            'fortran_order': False,
                            'shape': (count, *row.shape),
                        },
                    )
                if (row.shape, row.dtype) != (first.shape, first.dtype):
                    raise ValueError(f'{name}: a row {row.shape} {row.dtype} after {first.shape} {first.dtype}')
                entry.write(row.tobytes())
                written += 1
        if written != count:
            raise ValueError(f'{name}: {written} rows instead of {count}')

    def __enter__(self) -> ArrayArchive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
