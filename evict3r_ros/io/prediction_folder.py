# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Predictions for a video, frame by frame on disk, so that memory does not grow and a run can be continued.

Layout::

    run.json                  the settings of the predictions, and whether the input was processed to its end
    frames.jsonl              a line per frame: index, stamp_ns, name, world_from_camera, camera_matrix (of the images
                              here) and input_camera_matrix (of the input's); written after the other files of a frame
    image/000000.png          RGB as the network saw it
    depth/000000.png          16 bits, depth times ``depth_scale`` (run.json); 0 where it does not fit
    depth/000000.npz          depth: (H, W) float32, the network's unit
    confidence/000000.npz     confidence: (H, W) float32, 1 and more
    points/000000.npz         points: (H, W, 3) float32 in the first camera's frame, confidence; with a point head only
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.io.run_folder import RunFolder

RUN_FILE, FRAMES_FILE = 'run.json', 'frames.jsonl'
_ARRAYS = {'image': ('png',), 'depth': ('png', 'npz'), 'confidence': ('npz',), 'points': ('npz',)}
_FAST_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


@dataclass(frozen=True)
class FrameRecord:
    """A line of frames.jsonl."""

    index: int
    stamp_ns: int
    name: str
    world_from_camera: np.ndarray
    """(4, 4), OpenCV axes; the world is the first camera."""
    camera_matrix: np.ndarray
    """(3, 3): K of the images here."""
    input_camera_matrix: np.ndarray
    """(3, 3): K of the input's images."""

    @classmethod
    def parse(cls, line: str) -> FrameRecord:
        """Parse a line. Raises ValueError, KeyError or TypeError for another one."""
        values = json.loads(line)
        shapes = {'world_from_camera': (4, 4), 'camera_matrix': (3, 3), 'input_camera_matrix': (3, 3)}
        matrices = {name: np.array(values[name], dtype=np.float64).reshape(shape) for name, shape in shapes.items()}
        return cls(int(values['index']), int(values['stamp_ns']), str(values['name']), **matrices)

    def line(self) -> str:
        """Return the line; numbers keep all their digits."""
        values = {
            name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(self).items()
        }
        return json.dumps(values) + '\n'


@dataclass(frozen=True)
class FrameArrays:
    """Arrays of a frame; (H, W) is the size of the network's images."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    depth: np.ndarray
    """(H, W) float32."""
    confidence: np.ndarray
    """(H, W) float32."""
    points: np.ndarray | None = None
    """(H, W, 3) float32 in the world, of the point head."""
    points_confidence: np.ndarray | None = None
    """(H, W) float32, of the point head."""


class PredictionFolder:
    """Writes frames in order, and reads the complete ones (context manager)."""

    def __init__(self, path: str | Path, maker: str, derived: tuple[str, ...], depth_scale: float) -> None:
        """Set up without writing. maker: the command; derived: names of the files that are made from the frames."""
        self.path = Path(path)
        self.depth_scale = depth_scale
        self.run_folder = RunFolder(path, maker, (RUN_FILE, FRAMES_FILE, *derived))
        self._lines: Any = None
        self.count = 0
        """Number of complete frames."""

    def settings(self) -> dict[str, Any] | None:
        """Return run.json of an earlier run, or None. Raises UserError for another or a damaged folder."""
        self.run_folder.check()
        try:
            content = json.loads((self.path / RUN_FILE).read_text(encoding='utf-8'))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f'{self.path / RUN_FILE}: cannot be read ({error}); start over with --overwrite') from error
        return content if isinstance(content, dict) else None

    def begin(self, settings: dict[str, Any], overwrite: bool) -> None:
        """Prepare for frames after the existing ones; overwrite: remove those first."""
        if overwrite:
            self._clear()
        self.run_folder.claim()
        self.write_settings(settings)
        complete = self._complete_lines()
        self.count = complete.count(b'\n')
        try:
            for name in _ARRAYS:
                if name != 'points' or settings.get('points') == 'head':
                    (self.path / name).mkdir(exist_ok=True)
            with (self.path / FRAMES_FILE).open('ab') as file:
                file.truncate(len(complete))
            self._lines = (self.path / FRAMES_FILE).open('a', encoding='utf-8', buffering=1)
        except OSError as error:
            raise UserError(f'{self.path}: cannot be written: {error.strerror}') from error

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Write run.json atomically."""
        temporary = self.path / f'{RUN_FILE}.part'
        try:
            temporary.write_text(json.dumps(settings, indent=2) + '\n', encoding='utf-8')
            os.replace(temporary, self.path / RUN_FILE)
        except OSError as error:
            raise UserError(f'{self.path}: cannot be written: {error.strerror}') from error

    def append(self, record: FrameRecord, arrays: FrameArrays) -> None:
        """Write the next frame: its arrays, then its line. Raises UserError if that fails (a full disk)."""
        if record.index != self.count:
            raise ValueError(f'frame {record.index} does not follow {self.count} frames')
        try:
            self._write_image('image', record.index, cv2.cvtColor(arrays.image, cv2.COLOR_RGB2BGR))
            self._write_image('depth', record.index, self._depth_levels(arrays.depth))
            np.savez(self._file('depth', record.index, 'npz'), depth=arrays.depth)
            np.savez(self._file('confidence', record.index, 'npz'), confidence=arrays.confidence)
            if arrays.points is not None and arrays.points_confidence is not None:
                np.savez(
                    self._file('points', record.index, 'npz'), points=arrays.points, confidence=arrays.points_confidence
                )
            self._lines.write(record.line())
        except OSError as error:
            raise UserError(
                f'{self.path}: frame {record.index} cannot be written: {error.strerror or error}; '
                'the same command continues from there'
            ) from error
        self.count += 1

    def records(self) -> Iterator[FrameRecord]:
        """Yield the records of all complete frames. Raises UserError for a damaged file."""
        try:
            with (self.path / FRAMES_FILE).open(encoding='utf-8') as file:
                for number, line in zip(range(self.count), file, strict=False):
                    try:
                        record = FrameRecord.parse(line)
                    except (ValueError, KeyError, TypeError) as error:
                        raise UserError(
                            f'{self.path / FRAMES_FILE}:{number + 1}: damaged: {error}; start over with --overwrite'
                        ) from error
                    if record.index != number:
                        raise UserError(f'{self.path / FRAMES_FILE}:{number + 1}: holds frame {record.index}')
                    yield record
        except FileNotFoundError:
            return

    def read(self, index: int, with_points: bool = False) -> FrameArrays:
        """Read the arrays of a frame. Raises UserError for missing or damaged files."""
        image_path = self._file('image', index, 'png')
        image = cv2.imread(str(image_path), cv2.IMREAD_COLOR)
        if image is None:
            raise UserError(f'{image_path}: missing or damaged; start over with --overwrite')
        points = self._load('points', index) if with_points else {}
        depth, confidence = (self._load(name, index)[name] for name in ('depth', 'confidence'))
        return FrameArrays(
            cv2.cvtColor(image, cv2.COLOR_BGR2RGB), depth, confidence, points.get('points'), points.get('confidence')
        )

    def close(self) -> None:
        """Close frames.jsonl."""
        if self._lines is not None:
            self._lines.close()
            self._lines = None

    def __enter__(self) -> PredictionFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _complete_lines(self) -> bytes:
        """Return the content of frames.jsonl up to its last complete line."""
        try:
            content = (self.path / FRAMES_FILE).read_bytes()
        except FileNotFoundError:
            return b''
        return content[: content.rfind(b'\n') + 1]

    def _depth_levels(self, depth: np.ndarray) -> np.ndarray:
        levels = np.round(depth * self.depth_scale)
        return np.where(np.isfinite(levels) & (levels <= 65535), levels, 0).astype(np.uint16)

    def _write_image(self, name: str, index: int, pixels: np.ndarray) -> None:
        there, content = cv2.imencode('.png', pixels, _FAST_PNG)
        if not there:
            raise ValueError(f'{name} {index} cannot be encoded')
        # Not cv2.imwrite, which does not say why it failed.
        self._file(name, index, 'png').write_bytes(content.tobytes())

    def _file(self, name: str, index: int, suffix: str) -> Path:
        return self.path / name / f'{index:06d}.{suffix}'

    def _load(self, name: str, index: int) -> dict[str, np.ndarray]:
        path = self._file(name, index, 'npz')
        try:
            with np.load(path) as content:
                return dict(content)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f'{path}: missing or damaged ({error}); start over with --overwrite') from error

    def _clear(self) -> None:
        """Remove the files of earlier runs, and nothing else."""
        self.run_folder.prepare()
        try:
            for name, suffixes in _ARRAYS.items():
                pattern = re.compile(rf'\d{{6,}}\.({"|".join(suffixes)})')
                folder = self.path / name
                for file in folder.iterdir() if folder.is_dir() else ():
                    if pattern.fullmatch(file.name):
                        file.unlink()
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
        except OSError as error:
            raise UserError(f'{self.path}: cannot be emptied: {error.strerror}') from error
