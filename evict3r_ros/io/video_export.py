# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Export a folder of predictions: trajectory, cloud, scene, depth video, contact sheet."""

from __future__ import annotations

import contextlib
import csv
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.geometry import quaternion_from_matrix, transform_points, unproject
from evict3r_ros.io.array_archive import ArrayArchive
from evict3r_ros.io.contact_sheet import SheetRow, colour_map, write_contact_sheet
from evict3r_ros.io.glb import write_glb
from evict3r_ros.io.masks import SkyModel, black_pixels, white_pixels
from evict3r_ros.io.ply import VoxelCloud, write_ply
from evict3r_ros.io.prediction_folder import FrameArrays, FrameRecord, PredictionFolder
from evict3r_ros.io.scene_camera import SceneCamera
from evict3r_ros.io.scene_picture import UP_OF_OPTICAL, PictureScene, write_scene_picture
from evict3r_ros.io.tum import TumWriter, format_stamp
from evict3r_ros.io.video_file import VideoWriter

TRAJECTORY, INTRINSICS, CLOUD, SCENE = 'trajectory.tum', 'intrinsics.csv', 'points.ply', 'scene.glb'
PICTURE, DEPTH_VIDEO, SHEET, PREDICTIONS = 'scene.png', 'depth.mp4', 'contact_sheet.png', 'predictions.npz'
SHEET_ROWS = 8
_PATH_POSES = 2000
"""Most poses of the path in the picture of the scene."""
_FRUSTUM_SHARE = 0.08
"""Length of a drawn camera, as a share of the median depth."""
VOXEL_SHARE = 1 / 200
"""Default edge of a voxel, as a share of the median depth: the unit of a stream is arbitrary."""
SLOWEST_VIDEO, FASTEST_VIDEO = 5.0, 60.0
"""Limits of the frame rate."""
_BATCH = 250_000
"""Points that are added to the cloud at a time: each time it is sorted."""


@dataclass(frozen=True)
class Threshold:
    """Least confidence of a point: a value, or a percentile over the pixels of all frames."""

    value: float | None = None
    percentile: float | None = None

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """Parse '1.5' as a value, '25%' as a percentile. Raises UserError for anything else."""
        try:
            number = float(text.removesuffix('%'))
        except ValueError:
            number = math.nan
        if text.endswith('%') and 0.0 <= number < 100.0:
            return cls(percentile=number)
        if not text.endswith('%') and 0.0 <= number < math.inf:
            return cls(value=number)
        raise UserError(f'confidence {text!r}: give a value such as 1.5, or a percentile from 0% up to below 100%')


@dataclass(frozen=True)
class ExportSettings:
    """Settings of an export."""

    threshold: Threshold = Threshold(percentile=25.0)
    points: str = 'depth'
    """``depth``: from depth, pose and K; ``head``: from the point head."""
    mask_black: bool = False
    mask_white: bool = False
    sky: SkyModel | None = None
    voxel: float | None = None
    """Edge in the stream's unit; None: VOXEL_SHARE of the median depth."""
    most_points: int = 1_000_000
    most_cameras: int = 100
    """In the scene, evenly spread over the frames."""
    predictions: bool = False


@dataclass(frozen=True)
class Exported:
    """Statistics of an export."""

    frames: int
    points: int
    voxel: float
    min_confidence: float
    masked_share: float
    """Share of pixels that were masked."""
    median_depth: float
    video_fps: float


class LogHistogram:
    """Percentiles of a stream of positive numbers from 1e-6 to 1e8, to within half a percent of the number."""

    _LOW, _HIGH, _BINS = math.log(1e-6), math.log(1e8), 8192

    def __init__(self) -> None:
        self._counts = np.zeros(self._BINS, dtype=np.int64)

    def add(self, values: np.ndarray) -> None:
        """Count the finite values; those out of range count as the ends of the range."""
        with np.errstate(divide='ignore', invalid='ignore'):
            place = (np.log(values[np.isfinite(values)]) - self._LOW) / (self._HIGH - self._LOW) * self._BINS
        self._counts += np.bincount(np.clip(place, 0, self._BINS - 1).astype(np.int64), minlength=self._BINS)

    def percentile(self, percent: float) -> float:
        """Return a percentile, or NaN without any value."""
        total = self._counts.sum()
        if not total:
            return math.nan
        bin_number = int(np.searchsorted(self._counts.cumsum(), percent / 100.0 * total, side='right'))
        return math.exp(self._LOW + (self._HIGH - self._LOW) * min(bin_number, self._BINS - 1) / self._BINS)


@dataclass
class _Survey:
    """Results of the first pass over the frames, for the second."""

    depths: LogHistogram
    confidences: LogHistogram
    """Of confidence - 1, the exponential in the network's head."""
    first_ns: int = 0
    last_ns: int = 0


@dataclass
class _Collected:
    """Results of the second pass over the frames, beside the cloud."""

    masked: int = 0
    """Number of masked pixels."""
    pixels: int = 0
    rows: list[SheetRow] = field(default_factory=list)
    """Of the contact sheet."""
    cameras: list[SceneCamera] = field(default_factory=list)
    """Of the scene."""
    path: list[np.ndarray] = field(default_factory=list)
    """Positions (3,) of the camera for the picture of the scene."""


def export(
    folder: PredictionFolder,
    settings: ExportSettings,
    untrained: bool,
    header: list[str],
    progress: Callable[[], object],
) -> Exported:
    """Write all exports beside the frames; memory does not grow with their number.

    Files are written atomically. untrained: written over the pictures. header: lines above the contact sheet. progress:
    called twice per frame. Raises UserError without frames, and if a file cannot be written.
    """
    if not folder.count:
        raise UserError(f'{folder.path}: no frames to export')
    try:
        survey = _survey(folder, settings, progress)
        threshold, median = settings.threshold, survey.depths.percentile(50.0)
        if threshold.percentile:
            least = 1.0 + survey.confidences.percentile(threshold.percentile)
        else:
            least = threshold.value or 0.0
        cloud = VoxelCloud(settings.voxel or max(VOXEL_SHARE * median, 1e-6), settings.most_points)
        if cloud.reach < survey.depths.percentile(98.0):
            raise UserError(
                f'voxels of {cloud.voxel:g} reach {cloud.reach:.3g} far, and the depths go up to '
                f'{survey.depths.percentile(98.0):.3g}: give a larger --voxel'
            )
        seconds = (survey.last_ns - survey.first_ns) / 1e9
        fps = min(max((folder.count - 1) / seconds if seconds > 0.0 else 0.0, SLOWEST_VIDEO), FASTEST_VIDEO)
        found = _collect(folder, settings, least, survey, fps, untrained, cloud, progress)
        points = cloud.cloud()
        with _atomic_file(folder, SHEET) as path:
            write_contact_sheet(path, found.rows, header, untrained)
        with _atomic_file(folder, CLOUD) as path:
            write_ply(path, points)
        scene = PictureScene(points, cloud.voxel, np.array(found.path), found.cameras)
        with _atomic_file(folder, PICTURE) as path:
            write_scene_picture(path, scene, UP_OF_OPTICAL, untrained)
        if len(points) or found.cameras:
            with _atomic_file(folder, SCENE) as path:
                notes = {'weights': 'UNTRAINED' if untrained else 'trained'}
                write_glb(path, points, found.cameras, frustum_depth=_FRUSTUM_SHARE * median, notes=notes)
        if settings.predictions:
            with _atomic_file(folder, PREDICTIONS) as path:
                _write_predictions(path, folder, settings)
    except OSError as error:
        raise UserError(f'{folder.path}: cannot be written: {error.strerror or error}') from error
    return Exported(folder.count, len(points), cloud.voxel, least, found.masked / found.pixels, median, fps)


def _survey(folder: PredictionFolder, settings: ExportSettings, progress: Callable[[], object]) -> _Survey:
    """Write trajectory and intrinsics, and collect depths and confidences."""
    survey = _Survey(LogHistogram(), LogHistogram())
    with (
        _atomic_file(folder, TRAJECTORY) as trajectory_path,
        _atomic_file(folder, INTRINSICS) as intrinsics_path,
        TumWriter(trajectory_path) as trajectory,
        intrinsics_path.open('w', newline='', encoding='ascii') as file,
    ):
        table = csv.writer(file)
        table.writerow(
            [
                'index',
                'stamp_s',
                'fx',
                'fy',
                'cx',
                'cy',
                'width',
                'height',
                'input_fx',
                'input_fy',
                'input_cx',
                'input_cy',
            ]
        )
        for record in folder.records():
            arrays = folder.read(record.index, settings.points == 'head')
            survey.depths.add(arrays.depth)
            survey.confidences.add(_confidence(arrays, settings) - 1.0)
            pose = record.world_from_camera
            trajectory.write(record.stamp_ns, pose[:3, 3], quaternion_from_matrix(pose))
            table.writerow(
                [
                    record.index,
                    format_stamp(record.stamp_ns),
                    *_pinhole(record.camera_matrix),
                    arrays.depth.shape[1],
                    arrays.depth.shape[0],
                    *_pinhole(record.input_camera_matrix),
                ]
            )
            if record.index == 0:
                survey.first_ns = record.stamp_ns
            survey.last_ns = record.stamp_ns
            progress()
    return survey


def _collect(
    folder: PredictionFolder,
    settings: ExportSettings,
    least: float,
    survey: _Survey,
    fps: float,
    untrained: bool,
    cloud: VoxelCloud,
    progress: Callable[[], object],
) -> _Collected:
    """Write the depth video and fill the cloud."""
    of_sheet, of_scene = _spread(SHEET_ROWS, folder.count), _spread(settings.most_cameras, folder.count)
    limits = survey.depths.percentile(2.0), survey.depths.percentile(98.0)
    of_path = _spread(_PATH_POSES, folder.count)
    found, writer, batch = _Collected(), None, []
    with _atomic_file(folder, DEPTH_VIDEO) as path, contextlib.ExitStack() as stack:
        for record in folder.records():
            arrays = folder.read(record.index, settings.points == 'head')
            picture = _picture(arrays, limits, untrained)
            if writer is None:
                writer = stack.enter_context(VideoWriter(path, fps, picture.shape[:2]))
            writer.write(picture)
            mask = _mask(arrays.image, settings)
            found.masked, found.pixels = found.masked + int(mask.sum()), found.pixels + mask.size
            taken = ~mask & (_confidence(arrays, settings) >= least)
            batch.append((_world_points(record, arrays, settings)[taken], arrays.image[taken]))
            if record.index == folder.count - 1 or sum(len(points) for points, _ in batch) >= _BATCH:
                cloud.add(*(np.concatenate(parts) for parts in zip(*batch, strict=True)))
                batch.clear()
            if record.index in of_sheet:
                label = f'{record.name}   {format_stamp(record.stamp_ns)} s'
                found.rows.append(SheetRow(label, arrays.image, arrays.depth, arrays.confidence))
            if record.index in of_scene:
                found.cameras.append(
                    SceneCamera(
                        f'camera_{record.index:06d}', record.world_from_camera, record.camera_matrix, arrays.depth.shape
                    )
                )
            if record.index in of_path:
                found.path.append(record.world_from_camera[:3, 3])
            progress()
    return found


def _spread(count: int, total: int) -> set[int]:
    """Return up to ``count`` evenly spread numbers below ``total``, including the first and the last."""
    return set(np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist())


def _pinhole(camera_matrix: np.ndarray) -> list[float]:
    return [float(camera_matrix[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))]


def _confidence(arrays: FrameArrays, settings: ExportSettings) -> np.ndarray:
    if settings.points != 'head':
        return arrays.confidence
    if arrays.points_confidence is None:
        raise ValueError('the frame was read without points of the point head')
    return arrays.points_confidence


def _world_points(record: FrameRecord, arrays: FrameArrays, settings: ExportSettings) -> np.ndarray:
    """Return the points (H, W, 3) float32 in the stream's world."""
    if settings.points == 'head' and arrays.points is not None:
        return arrays.points
    return transform_points(record.world_from_camera, unproject(arrays.depth, record.camera_matrix))


def _mask(image: np.ndarray, settings: ExportSettings) -> np.ndarray:
    """Return the mask (H, W) of the pixels that do not become points."""
    mask = np.zeros(image.shape[:2], dtype=bool)
    if settings.mask_black:
        mask |= black_pixels(image)
    if settings.mask_white:
        mask |= white_pixels(image)
    if settings.sky is not None:
        mask |= settings.sky(image)
    return mask


def _picture(arrays: FrameArrays, limits: tuple[float, float], untrained: bool) -> np.ndarray:
    """Draw image and depth side by side, (H, 2 W, 3) uint8 RGB."""
    depth = cv2.cvtColor(colour_map(arrays.depth, *limits, near_is_hot=True), cv2.COLOR_BGR2RGB)
    picture = np.concatenate([arrays.image, depth], axis=1)
    if untrained:
        scale = picture.shape[1] / 600
        cv2.putText(
            picture,
            'UNTRAINED',
            (round(6 * scale), picture.shape[0] - round(6 * scale)),
            cv2.FONT_HERSHEY_SIMPLEX,
            scale,
            (200, 30, 30),
            max(1, round(2 * scale)),
            cv2.LINE_AA,
        )
    return picture


def _write_predictions(path: Path, folder: PredictionFolder, settings: ExportSettings) -> None:
    """Write all frames into one file, one array per name, frame by frame."""
    of_frames: dict[str, Callable[[FrameArrays], np.ndarray]] = {
        'image': lambda arrays: arrays.image,
        'depth': lambda arrays: arrays.depth,
        'confidence': lambda arrays: arrays.confidence,
    }
    if settings.points == 'head':
        of_frames |= {
            'points': lambda arrays: np.asarray(arrays.points),
            'points_confidence': lambda arrays: np.asarray(arrays.points_confidence),
        }
    with ArrayArchive(path) as archive:
        for name in ('stamp_ns', 'world_from_camera', 'camera_matrix', 'input_camera_matrix'):
            archive.add(name, (np.asarray(getattr(record, name)) for record in folder.records()), folder.count)
        for name, of_frame in of_frames.items():
            rows = (of_frame(folder.read(index, settings.points == 'head')) for index in range(folder.count))
            archive.add(name, rows, folder.count)


@contextlib.contextmanager
def _atomic_file(folder: PredictionFolder, name: str) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to the name on success."""
    path = folder.path / f'part-{name}'
    try:
        yield path
        os.replace(path, folder.path / name)
    finally:
        path.unlink(missing_ok=True)
