# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A folder of time-stamped images with its camera file, read lazily.

Layout::

    frames.csv             header `stamp_ns,file`, then one row per frame, stamps ascending
    <file>                 image named by a row, relative to the folder (usually frames/<stamp_ns>.jpg)
    camera.yaml            camera_info file: image_width, image_height, camera_name, camera_matrix,
                           distortion_model, distortion_coefficients and, optional, rectification_matrix,
                           projection_matrix and T_base_link_camera (16 numbers, row by row)
    groundtruth_cam0.tum   optional: pose of the camera in the world, TUM format
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from evict3r_ros.errors import UserError
from evict3r_ros.io.image_file import read_image
from evict3r_ros.io.tum import Trajectory, read_tum

FRAMES_FILE = 'frames.csv'
CAMERA_FILE = 'camera.yaml'
GROUND_TRUTH_FILE = 'groundtruth_cam0.tum'


@dataclass(frozen=True)
class CameraModel:
    """Content of a camera_info file; the letters are those of sensor_msgs/CameraInfo."""

    name: str
    width: int
    height: int
    K: np.ndarray
    """(3, 3) in pixels of a width x height image."""
    distortion_model: str
    D: np.ndarray
    """(n,), in the order of distortion_model."""
    R: np.ndarray
    """(3, 3)."""
    P: np.ndarray
    """(3, 4) in pixels."""
    base_from_camera: np.ndarray | None = None
    """(4, 4) pose in metres of the optical frame (OpenCV axes) in base_link (REP-103 axes), or None if unknown."""

    @classmethod
    def pinhole(
        cls, name: str, width: int, height: int, K: np.ndarray, base_from_camera: np.ndarray | None = None
    ) -> CameraModel:
        """Return a camera without distortion."""
        K = np.asarray(K, dtype=np.float64)
        return cls(
            name,
            width,
            height,
            K,
            'plumb_bob',
            np.zeros(5),
            np.eye(3),
            np.hstack([K, np.zeros((3, 1))]),
            base_from_camera,
        )


@dataclass(frozen=True)
class Frame:
    """One row of frames.csv."""

    stamp_ns: int
    path: Path

    def read(self) -> np.ndarray:
        """Read the image as (h, w) uint8 if it is grey, else (h, w, 3) uint8 RGB. Raises UserError if that fails."""
        return read_image(self.path)


@dataclass(frozen=True)
class ImageFolder:
    """Frames in time order, their camera, and ground truth if there is any. Images are read by Frame.read()."""

    root: Path
    frames: list[Frame]
    camera: CameraModel
    ground_truth: Trajectory | None

    def __len__(self) -> int:
        return len(self.frames)


def read_image_folder(path: str | Path) -> ImageFolder:
    """Read the folder's tables (not the images). Raises UserError that names the missing or wrong file or line."""
    root = Path(path)
    if not root.is_dir():
        raise UserError(f'{root}: no such folder of images')
    missing = [name for name in (FRAMES_FILE, CAMERA_FILE) if not (root / name).is_file()]
    if missing:
        raise UserError(
            f'{root}: not an image folder: {" and ".join(missing)} missing'
            f' (expected {FRAMES_FILE} with rows stamp_ns,file, and {CAMERA_FILE})'
        )
    truth = root / GROUND_TRUTH_FILE
    return ImageFolder(
        root=root,
        frames=read_frame_table(root),
        camera=read_camera_file(root / CAMERA_FILE),
        ground_truth=read_tum(truth) if truth.is_file() else None,
    )


def read_frame_table(root: Path) -> list[Frame]:
    """Read the rows of a folder's frames.csv. Raises UserError that names the wrong line."""
    path = root / FRAMES_FILE
    frames: list[Frame] = []
    try:
        with path.open(newline='', encoding='utf-8') as file:
            rows = csv.reader(file)
            if next(rows, None) != ['stamp_ns', 'file']:
                raise UserError(f'{path}:1: expected the header stamp_ns,file')
            for row in rows:
                frames.append(_parse_frame(root, row, f'{path}:{rows.line_num}'))
                if len(frames) > 1 and frames[-1].stamp_ns <= frames[-2].stamp_ns:
                    raise UserError(f'{path}:{rows.line_num}: stamp {frames[-1].stamp_ns} is not after the one before')
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{path}: not a text table: {error}') from error
    if not frames:
        raise UserError(f'{path}: names no frames')
    return frames


def _parse_frame(root: Path, row: list[str], place: str) -> Frame:
    if len(row) != 2 or not row[0].isascii() or not row[0].isdigit() or not row[1]:
        raise UserError(f'{place}: expected stamp_ns,file with the stamp in whole nanoseconds, got {",".join(row)!r}')
    return Frame(int(row[0]), root / row[1])


def read_camera_file(path: str | Path) -> CameraModel:
    """Read a camera_info YAML file. Raises UserError that names the missing or wrong key."""
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f'{path}: not YAML: {" ".join(str(error).split())}') from error
    if not isinstance(content, dict):
        raise UserError(f'{path}: expected a camera_info file (a mapping with camera_matrix, image_width, …)')
    width, height = (_whole_number(content, key, path) for key in ('image_width', 'image_height'))
    K = _numbers(content, 'camera_matrix', path, 9).reshape(3, 3)
    if K[0, 0] <= 0 or K[1, 1] <= 0:
        raise UserError(f'{path}: camera_matrix has focal lengths {K[0, 0]:g}, {K[1, 1]:g}; both must be positive')
    pinhole = CameraModel.pinhole(str(content.get('camera_name', 'camera')), width, height, K)
    base_from_camera = None
    if 'T_base_link_camera' in content:
        base_from_camera = _numbers(content, 'T_base_link_camera', path, 16).reshape(4, 4)
        rotation = base_from_camera[:3, :3]
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
            raise UserError(f'{path}: T_base_link_camera holds no rotation in its upper left 3 x 3')
    return CameraModel(
        name=pinhole.name,
        width=width,
        height=height,
        K=K,
        distortion_model=str(content.get('distortion_model', pinhole.distortion_model)),
        D=_numbers(content, 'distortion_coefficients', path) if 'distortion_coefficients' in content else pinhole.D,
        R=_numbers(content, 'rectification_matrix', path, 9).reshape(3, 3)
        if 'rectification_matrix' in content
        else pinhole.R,
        P=_numbers(content, 'projection_matrix', path, 12).reshape(3, 4)
        if 'projection_matrix' in content
        else pinhole.P,
        base_from_camera=base_from_camera,
    )


def write_camera_file(path: str | Path, camera: CameraModel) -> None:
    """Write a camera_info YAML file for ``read_camera_file``."""

    def matrix(values: np.ndarray) -> dict[str, Any]:
        values = np.atleast_2d(values)
        return {'rows': values.shape[0], 'cols': values.shape[1], 'data': values.reshape(-1).tolist()}

    content = {
        'image_width': camera.width,
        'image_height': camera.height,
        'camera_name': camera.name,
        'camera_matrix': matrix(camera.K),
        'distortion_model': camera.distortion_model,
        'distortion_coefficients': matrix(camera.D),
        'rectification_matrix': matrix(camera.R),
        'projection_matrix': matrix(camera.P),
    }
    if camera.base_from_camera is not None:
        content['T_base_link_camera'] = camera.base_from_camera.reshape(-1).tolist()
    Path(path).write_text(yaml.safe_dump(content, sort_keys=False), encoding='utf-8')


def _whole_number(content: dict[str, Any], key: str, path: Path) -> int:
    value = content.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise UserError(f'{path}: {key} must be a positive whole number, got {value!r}')
    return value


def _numbers(content: dict[str, Any], key: str, path: Path, count: int | None = None) -> np.ndarray:
    """Return the numbers of a plain list or a {rows, cols, data} mapping as (n,) float64."""
    if key not in content:
        raise UserError(f'{path}: {key} is missing')
    value = content[key]
    data = value.get('data') if isinstance(value, dict) else value
    try:
        numbers = np.array(data, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise UserError(f'{path}: {key} must hold numbers, got {data!r}') from error
    if count is not None and numbers.size != count:
        raise UserError(f'{path}: {key} must hold {count} numbers, has {numbers.size}')
    if not np.isfinite(numbers).all():
        raise UserError(f'{path}: {key} holds a number that is not finite')
    return numbers
