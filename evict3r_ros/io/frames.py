# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames to process, from a video file, a folder of images, a glob or a camera, one at a time and chosen by time."""

from __future__ import annotations

import glob
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import av
import cv2
import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.io.image_folder import FRAMES_FILE, read_frame_table

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
NANOSECONDS = 10**9
_TOLERANCE_NS = NANOSECONDS // 1000
"""A frame this much before its time counts: containers round their stamps to milliseconds."""


@dataclass(frozen=True)
class VideoFrame:
    """One chosen frame."""

    stamp_ns: int
    """Since the source's begin, or the image's own stamp where a folder has a table of them."""
    name: str
    """For people: 'frame 12' of a video, or an image's file name."""
    image: np.ndarray
    """(h, w, 3) uint8 RGB, upright."""


@dataclass(frozen=True)
class Selection:
    """Which frames: from start to end (seconds of the source's time), ``interval_s`` apart, at most count."""

    interval_s: float = 0.0
    """0: every frame."""
    start_s: float = 0.0
    end_s: float | None = None
    count: int | None = None

    def __post_init__(self):
        if self.interval_s < 0.0 or self.start_s < 0.0:
            raise UserError(f'interval {self.interval_s:g} s and start {self.start_s:g} s must not be negative')
        if self.end_s is not None and self.end_s <= self.start_s:
            raise UserError(f'the end, {self.end_s:g} s, is not after the start, {self.start_s:g} s')
        if self.count is not None and self.count < 1:
            raise UserError(f'{self.count} frames leave nothing to do')


class Picker:
    """Says of rising stamps which to take: the first at or after each multiple of the interval since the first one taken.

    On this grid a source's jitter does not add up.
    """

    def __init__(self, selection: Selection):
        self._selection = selection
        self._interval = round(selection.interval_s * NANOSECONDS)
        self._start = round(selection.start_s * NANOSECONDS)
        self._first: int | None = None
        self._due = self._start
        self.taken = 0

    def takes(self, stamp_ns: int) -> bool:
        """Whether the frame of this stamp is one."""
        if stamp_ns < self._due - _TOLERANCE_NS or self.is_over(stamp_ns):
            return False
        if self._first is None:
            self._first = stamp_ns
        if self._interval:
            steps = (stamp_ns - self._first + _TOLERANCE_NS) // self._interval
            self._due = self._first + (steps + 1) * self._interval
        self.taken += 1
        return True

    def is_over(self, stamp_ns: int) -> bool:
        """Whether neither this frame nor any that comes is one."""
        end, count = self._selection.end_s, self._selection.count
        return (end is not None and stamp_ns > round(end * NANOSECONDS)) or (count is not None and self.taken >= count)


class FrameSource(Protocol):
    """Frames that can be run through, and what a run needs to know beforehand."""

    is_live: bool
    """A camera: never the same twice."""
    damaged: int
    """Parts that could not be decoded and were passed over, in the last run through."""

    def identity(self) -> dict[str, Any]:
        """What tells this source from another, for JSON. Without the end of what is chosen: a run may be made longer."""
        ...

    def expected(self) -> int | None:
        """About how many frames will come, for a progress bar; None if nobody knows."""
        ...

    def exact_count(self) -> int:
        """How many frames will come. A video is decoded once for it. Raises UserError for a camera."""
        ...

    def frames(self) -> Iterator[VideoFrame]:
        """The chosen frames, from the first, each time anew. Raises UserError for what cannot be read."""
        ...


class VideoFile:
    """A video file, decoded through FFmpeg: stamps are the container's, rotation metadata is honoured.

    What cannot be decoded is passed over, as players do, and counted.
    """

    is_live = False

    def __init__(self, path: Path, selection: Selection):
        self._path, self._selection = path, selection
        self.damaged = 0
        with self._open() as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 0)
            duration = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
        self._rate, self._duration = rate, duration

    def _open(self):
        try:
            container = av.open(str(self._path))
        except (av.FFmpegError, OSError) as error:
            raise UserError(f'{self._path}: not a video that can be read (truncated?): {_why(error)}') from error
        if not container.streams.video:
            container.close()
            raise UserError(f'{self._path}: has no video track')
        return container

    def identity(self) -> dict[str, Any]:
        """See FrameSource."""
        return {'video': str(self._path.resolve()), 'bytes': self._path.stat().st_size, **_identity(self._selection)}

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
            image = frame.to_ndarray(format='rgb24')
            if frame.rotation:
                # FFmpeg's rotation is counter-clockwise in degrees: what a player does before it shows the frame.
                image = np.rot90(image, round(frame.rotation / 90) % 4)
            size = size or image.shape
            if image.shape != size:
                raise UserError(f'{self._path}: the size of its images changes at {stamp / NANOSECONDS:g} s')
            yield VideoFrame(stamp, f'frame {number}', np.ascontiguousarray(image))

    def _chosen(self) -> Iterator[tuple[int, int, av.VideoFrame]]:
        """Number of the frame in the file, stamp in ns since the file's first frame, and the frame, still undecoded."""
        picker, first = Picker(self._selection), None
        self.damaged = 0
        with self._open() as container:
            for number, frame in enumerate(self._decoded(container)):
                if frame.pts is None:
                    continue
                time_ns = round(frame.pts * frame.time_base * NANOSECONDS)
                first = time_ns if first is None else first
                stamp = time_ns - first
                if picker.is_over(stamp):
                    break
                if picker.takes(stamp):
                    yield number, stamp, frame
        if not picker.taken:
            raise UserError(
                f'{self._path}: has no frame in the time asked for'
                if first is not None
                else f'{self._path}: no frame can be decoded'
            )

    def _decoded(self, container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
        stream = container.streams.video[0]
        stream.thread_type = 'AUTO'
        packets = container.demux(stream)
        while True:
            try:
                # The last packet is an empty one, for which the decoder gives what it held back.
                packet = next(packets, None)
                if packet is None:
                    return
                yield from packet.decode()
            except av.FFmpegError:
                self.damaged += 1


class ImageFiles:
    """Images in files, with their stamps."""

    is_live, damaged = False, 0

    def __init__(self, origin: str, paths: list[Path], stamps_ns: list[int], selection: Selection):
        self._origin, self._selection = origin, selection
        picker = Picker(selection)
        self._chosen = [
            (path, stamp) for path, stamp in zip(paths, stamps_ns, strict=True) if picker.takes(stamp - stamps_ns[0])
        ]
        if not self._chosen:
            raise UserError(f'{origin}: has no image in the time asked for')

    def identity(self) -> dict[str, Any]:
        """See FrameSource."""
        return {'images': str(Path(self._origin).expanduser().resolve()), **_identity(self._selection)}

    def expected(self) -> int | None:
        """See FrameSource."""
        return len(self._chosen)

    def exact_count(self) -> int:
        """See FrameSource."""
        return len(self._chosen)

    def frames(self) -> Iterator[VideoFrame]:
        """See FrameSource."""
        size, first = None, None
        for path, stamp in self._chosen:
            if not path.is_file():
                raise UserError(f'{path}: no such image')
            # Turned as its EXIF orientation says, three channels, 8 bits.
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                raise UserError(f'{path}: not an image that can be read (truncated?)')
            if size is None:
                size, first = image.shape, path
            if image.shape != size:
                raise UserError(
                    f'{path}: {image.shape[1]} x {image.shape[0]} pixels, but {first.name} has '
                    f'{size[1]} x {size[0]}; a stream has one size'
                )
            yield VideoFrame(stamp, path.name, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


class Camera:
    """A camera by its number, as OpenCV opens it; frames that come while the network is busy are dropped."""

    is_live, damaged = True, 0

    def __init__(self, number: int, selection: Selection):
        self._number, self._selection = number, selection

    def identity(self) -> dict[str, Any]:
        """See FrameSource."""
        return {'camera': self._number, **_identity(self._selection)}

    def expected(self) -> int | None:
        """See FrameSource."""
        return self._selection.count

    def exact_count(self) -> int:
        """See FrameSource."""
        if self._selection.count is None:
            raise UserError(
                'nobody knows how many frames a camera will give: give --frames, or --tokens instead of --P'
            )
        return self._selection.count

    def frames(self) -> Iterator[VideoFrame]:
        """See FrameSource; ends with the selection or the camera."""
        camera = cv2.VideoCapture(self._number)
        try:
            if not camera.isOpened():
                raise UserError(f'camera {self._number} cannot be opened')
            # Where the driver heeds it: no queue of old images.
            camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            picker, begin, number = Picker(self._selection), time.monotonic_ns(), 0
            while camera.grab():
                stamp = time.monotonic_ns() - begin
                if picker.is_over(stamp):
                    return
                if picker.takes(stamp):
                    there, image = camera.retrieve()
                    if there:
                        yield VideoFrame(stamp, f'frame {number}', cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
                number += 1
            if not picker.taken:
                raise UserError(f'camera {self._number} gives no images')
        finally:
            camera.release()


def open_source(text: str, selection: Selection, fps: float = 30.0) -> FrameSource:
    """The source that a user names: a video file, a folder of images, a glob such as 'shots/*.png', or a camera's number.

    fps: rate of images that have no stamps; a folder with ``frames.csv`` (``io.image_folder``) has its own. Images are
    taken in the natural order of their names (2 before 10). Raises UserError for what is none of these.
    """
    if not fps > 0.0:
        raise UserError(f'a rate of {fps:g} images a second cannot be')
    path = Path(text).expanduser()
    if path.is_dir():
        if (path / FRAMES_FILE).is_file():
            table = read_frame_table(path)
            return ImageFiles(text, [frame.path for frame in table], [frame.stamp_ns for frame in table], selection)
        return _images(text, list(path.iterdir()), selection, fps)
    if path.is_file():
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return _images(text, [path], selection, fps)
        return VideoFile(path, selection)
    if text.isdecimal():
        return Camera(int(text), selection)
    if any(letter in text for letter in '*?['):
        return _images(text, [Path(name) for name in glob.glob(str(path), recursive=True)], selection, fps)
    raise UserError(f'{text}: no such video, folder of images or glob, and not a camera number')


def _images(origin: str, candidates: list[Path], selection: Selection, fps: float) -> ImageFiles:
    paths = sorted(
        (path for path in candidates if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()),
        key=lambda path: _natural(str(path)),
    )
    if not paths:
        raise UserError(f'{origin}: no images there ({", ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)})')
    return ImageFiles(origin, paths, [round(index * NANOSECONDS / fps) for index in range(len(paths))], selection)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """A key under which numbers inside names sort by value."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r'(\d+)', name) if part]


def _identity(selection: Selection) -> dict[str, Any]:
    return {'interval_s': selection.interval_s, 'start_s': selection.start_s}


def _why(error: Exception) -> str:
    return getattr(error, 'strerror', None) or str(error)
