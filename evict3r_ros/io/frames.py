# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read frames from a video file, a folder of images, a glob or a camera, one at a time, chosen by time."""

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
from evict3r_ros.io.stamps import NANOSECONDS

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
_TOLERANCE_NS = NANOSECONDS // 1000
"""A frame may come this much early: containers round their stamps to milliseconds."""


@dataclass(frozen=True)
class VideoFrame:
    """One chosen frame."""

    stamp_ns: int
    """Since the start of the source, or the image's own stamp if a folder has a table of them."""
    name: str
    """'frame 12' of a video, or an image's file name."""
    image: np.ndarray
    """(h, w, 3) uint8 RGB, upright."""


@dataclass(frozen=True)
class Selection:
    """Which frames to take. Raises UserError for invalid values."""

    interval_s: float = 0.0
    """Seconds between frames; 0: every frame."""
    start_s: float = 0.0
    """Seconds of the source's time."""
    end_s: float | None = None
    """Seconds of the source's time; None: to its end."""
    count: int | None = None
    """Most frames."""

    def __post_init__(self) -> None:
        if self.interval_s < 0.0 or self.start_s < 0.0:
            raise UserError(f'interval {self.interval_s:g} s and start {self.start_s:g} s must not be negative')
        if self.end_s is not None and self.end_s <= self.start_s:
            raise UserError(f'the end, {self.end_s:g} s, is not after the start, {self.start_s:g} s')
        if self.count is not None and self.count < 1:
            raise UserError(f'{self.count} frames leave nothing to do')


class FramePicker:
    """Decides which frames to take, given their stamps in ascending order.

    It takes the first frame at or after each multiple of the interval since the first one taken, so that jitter of a
    source does not add up.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._interval = round(selection.interval_s * NANOSECONDS)
        self._start = round(selection.start_s * NANOSECONDS)
        self._first: int | None = None
        self._due = self._start
        self.taken = 0

    def takes(self, stamp_ns: int) -> bool:
        """Return whether to take the frame of this stamp, and count it."""
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
        """Return whether neither this frame nor any later one is to be taken."""
        end, count = self._selection.end_s, self._selection.count
        return (end is not None and stamp_ns > round(end * NANOSECONDS)) or (count is not None and self.taken >= count)


class FrameSource(Protocol):
    """A source of frames, and what a run needs to know beforehand."""

    is_live: bool
    """Whether the frames cannot be read again: a camera."""
    damaged: int
    """Number of parts that were skipped because they could not be decoded, in the last pass."""

    def identity(self) -> dict[str, Any]:
        """Return what identifies this source, as JSON values; without the end, because a run may be extended."""
        ...

    def expected(self) -> int | None:
        """Return about how many frames will come, for a progress bar; None if unknown."""
        ...

    def exact_count(self) -> int:
        """Return how many frames will come. This decodes a video once. Raises UserError for a camera without limit."""
        ...

    def frames(self) -> Iterator[VideoFrame]:
        """Yield the chosen frames, from the first at each call. Raises UserError for unreadable input."""
        ...


class VideoFile:
    """A video file, decoded by FFmpeg, with the container's stamps and rotation.

    Parts that cannot be decoded are skipped, as players do, and counted.
    """

    is_live = False

    def __init__(self, path: Path, selection: Selection):
        self._path, self._selection = path, selection
        self.damaged = 0
        with self._open() as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 0)
            duration = (
                float(stream.duration * stream.time_base)
                if stream.duration and stream.time_base
                else (container.duration or 0) / 1e6
            )
        self._rate, self._duration = rate, duration

    def _open(self) -> av.container.InputContainer:
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
                # Counter-clockwise degrees by which a player rotates the frame.
                image = np.rot90(image, round(frame.rotation / 90) % 4)
            size = size or image.shape
            if image.shape != size:
                raise UserError(f'{self._path}: the size of its images changes at {stamp / NANOSECONDS:g} s')
            yield VideoFrame(stamp, f'frame {number}', np.ascontiguousarray(image))

    def _chosen(self) -> Iterator[tuple[int, int, av.VideoFrame]]:
        """Yield number in the file, stamp in ns since the first frame, and the frame before its conversion to RGB."""
        picker, first = FramePicker(self._selection), None
        self.damaged = 0
        with self._open() as container:
            for number, frame in enumerate(self._decoded(container)):
                if frame.pts is None or frame.time_base is None:
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
                # The last packet is empty: it makes the decoder return its buffered frames.
                packet = next(packets, None)
                if packet is None:
                    return
                yield from packet.decode()
            except av.FFmpegError:
                self.damaged += 1


class ImageFiles:
    """Image files with their stamps."""

    is_live, damaged = False, 0

    def __init__(self, origin: str, paths: list[Path], stamps_ns: list[int], selection: Selection):
        self._origin, self._selection = origin, selection
        picker = FramePicker(selection)
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
        size, first = None, self._chosen[0][0]
        for path, stamp in self._chosen:
            if not path.is_file():
                raise UserError(f'{path}: no such image')
            # Rotated by its EXIF orientation, three channels, 8 bits.
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                raise UserError(f'{path}: not an image that can be read (truncated?)')
            if size is None:
                size = image.shape
            if image.shape != size:
                raise UserError(
                    f'{path}: {image.shape[1]} x {image.shape[0]} pixels, but {first.name} has '
                    f'{size[1]} x {size[0]}; a stream has one size'
                )
            yield VideoFrame(stamp, path.name, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


class Camera:
    """A camera by its OpenCV number; frames that arrive while the network is busy are dropped."""

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
            raise UserError('the number of frames of a camera is not known: give --frames, or --tokens instead of --P')
        return self._selection.count

    def frames(self) -> Iterator[VideoFrame]:
        """See FrameSource; ends with the selection or the camera."""
        camera = cv2.VideoCapture(self._number)
        try:
            if not camera.isOpened():
                raise UserError(f'camera {self._number} cannot be opened')
            # No queue of old images, if the driver supports this.
            camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            picker, begin, number = FramePicker(self._selection), time.monotonic_ns(), 0
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
    """Open a video file, a folder of images, a glob such as 'shots/*.png', or a camera by its number.

    fps: rate of images without stamps; a folder with ``frames.csv`` (``io.image_folder``) has its own. Images are
    sorted naturally (2 before 10). Raises UserError for anything else.
    """
    if not fps > 0.0:
        raise UserError(f'a rate of {fps:g} images per second cannot be: it must be positive')
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
    """Return a sort key in which numbers inside names compare by value."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r'(\d+)', name) if part]


def _identity(selection: Selection) -> dict[str, Any]:
    return {'interval_s': selection.interval_s, 'start_s': selection.start_s}


def _why(error: Exception) -> str:
    return getattr(error, 'strerror', None) or str(error)
