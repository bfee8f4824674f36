# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Write MP4 files (H.264) that browsers and players can show, with FFmpeg."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from evict3r_ros.errors import UserError

_OPTIONS = {'crf': '20', 'preset': 'veryfast'}


class VideoWriter:
    """Writes images of one size (context manager); the file is complete when it is closed."""

    def __init__(self, path: str | Path, fps: float, size: tuple[int, int]) -> None:
        """Open the file. size: (height, width), both even, as H.264 requires. Raises UserError if that fails."""
        self.path = Path(path)
        try:
            container = av.open(str(path), 'w', format='mp4')
            self._stream = container.add_stream('libx264', rate=Fraction(fps).limit_denominator(1000))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise UserError(f'{path}: no video can be written: {error}') from error
        self._container: av.container.OutputContainer | None = container
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = 'yuv420p'
        self._stream.options = dict(_OPTIONS)

    def write(self, image: np.ndarray) -> None:
        """Append an image (h, w, 3) uint8 RGB. Raises UserError if that fails, for a full disk for example."""
        self._mux(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format='rgb24'))

    def close(self) -> None:
        """Write the remaining frames and the index, and close the file. Raises UserError if that fails."""
        if self._container is not None:
            try:
                self._mux(None)
                self._container.close()
            except (av.FFmpegError, OSError) as error:
                raise UserError(f'{self.path}: cannot be written: {error}') from error
            finally:
                self._container = None

    def _mux(self, frame: av.VideoFrame | None) -> None:
        if self._container is None:
            raise ValueError(f'{self.path} is closed')
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (av.FFmpegError, OSError) as error:
            raise UserError(f'{self.path}: cannot be written: {error}') from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
