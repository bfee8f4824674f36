# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames from a video file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from evict3r_ros.errors import UserError
from evict3r_ros.io.frames import FramePicker, Selection, VideoFrame
from evict3r_ros.io.stamps import NANOSECONDS
from evict3r_ros.io.video_decoding import StampClock, rgb_of, why


class VideoFile:
    """A video file, decoded by FFmpeg, with the container's stamps, rotation and shape of pixels.

    Parts that cannot be decoded are skipped, as players do, and counted.
    """

    is_live = False

    def __init__(self, path: Path, selection: Selection, fps: float | None = None):
        """fps: rate of a stream without stamps; None for the one that it says of itself."""
        self._path, self._selection = path, selection
        self.damaged, self.notes = 0, list[str]()
        with self._open() as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 0)
            duration = (
                float(stream.duration * stream.time_base)
                if stream.duration and stream.time_base
                else (container.duration or 0) / 1e6
            )
            self._aspect = float(stream.sample_aspect_ratio or 1)
            # The average of a stream without stamps is FFmpeg's guess; this one has looked at the stream.
            self._raw_rate = fps or float(stream.guessed_rate or rate) or None
        self._rate, self._duration = rate, duration

    def _open(self) -> av.container.InputContainer:
        try:
            container = av.open(str(self._path))
        except (av.FFmpegError, OSError) as error:
            raise UserError(f'{self._path}: not a video that can be read (truncated?): {why(error)}') from error
        if not container.streams.video:
            container.close()
            raise UserError(f'{self._path}: has no video track')
        return container

    def identity(self) -> dict[str, Any]:
        """See FrameSource."""
        return {'video': str(self._path.resolve()), 'bytes': self._path.stat().st_size, **self._selection.identity()}

    def expected(self) -> int | None:
        """See FrameSource."""
        if not self._rate or not self._duration:
            return self._selection.count
        end = min(self._duration, self._selection.end_s or self._duration)
        seconds = max(0.0, end - self._selection.start_s)
        step = max(self._selection.interval_s, 1.0 / self._rate)
        return min(max(1, round(seconds / step)), self._selection.count or 10**9)

    def exact_count(self) -> int:
        """See FrameSource."""
        return sum(1 for _ in self._chosen())

    def frames(self) -> Iterator[VideoFrame]:
        """See FrameSource."""
        size = None
        for number, stamp, frame in self._chosen():
            image = rgb_of(frame, self._aspect)
            size = size or image.shape
            if image.shape != size:
                raise UserError(f'{self._path}: the size of its images changes at {stamp / NANOSECONDS:g} s')
            yield VideoFrame(stamp, f'frame {number}', image)

    def _chosen(self) -> Iterator[tuple[int, int, av.VideoFrame]]:
        """Yield number in the file, stamp in ns since the first frame, and the frame before its conversion to RGB."""
        picker, clock, number = FramePicker(self._selection), StampClock(self._raw_rate), -1
        self.damaged = 0
        with self._open() as container:
            for number, frame in enumerate(self._decoded(container)):
                stamp = clock.stamp(frame)
                if picker.is_over(stamp):
                    break
                if picker.takes(stamp):
                    yield number, stamp, frame
        self.notes = clock.notes(self._path.name)
        if not picker.taken:
            raise UserError(
                f'{self._path}: has no frame in the time asked for'
                if number >= 0
                else f'{self._path}: no frame can be decoded'
            )

    def _decoded(self, container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
        stream = container.streams.video[0]
        stream.thread_type = 'AUTO'
        packets = container.demux(stream)
        while True:
            try:
                # The last packet is empty: it makes the decoder return its buffered frames.
                packet = next(packets, None)
                if packet is None:
                    return
                yield from packet.decode()
            except av.FFmpegError:
                self.damaged += 1
