# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read TUM-dynamics and ScanNet as MonST3R prepares them, EuRoC and KITTI odometry as published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from evict3r_ros.camera.calibration import Calibration
from evict3r_ros.camera.lens import COEFFICIENTS, distortion_of
from evict3r_ros.camera.rectify import Rectifier
from evict3r_ros.errors import UserError
from evict3r_ros.evaluation.datasets.sequence import (
    TrueSequence,
    by_number,
    folders,
    from_files,
    image_files,
    nearest,
    numbers_there,
    pose_from_rows,
    pose_from_tum,
    read_numbers,
    stamp_of,
    with_files,
)
from evict3r_ros.geometry import matrix_from_quaternion, transform
from evict3r_ros.io.image_file import read_rgb
from evict3r_ros.io.image_folder import FRAMES_FILE, CameraModel, read_image_folder

FRAMES, STRIDE = 90, 3
"""TUM-dynamics and ScanNet: the first 90 frames at a stride of 3 (MonST3R, arXiv 2410.03825, section 4)."""
NANOSECONDS = 1e9


def tum(root: Path, task: str) -> list[TrueSequence]:
    """Read ``rgbd_dataset_freiburg*/{rgb_90/<seconds>.png,groundtruth_90.txt}``.

    Also as published: ``rgb`` and ``groundtruth.txt``, the first 90 frames at a stride of 3. Poses are those of the
    nearest stamp.
    """
    layout = 'rgbd_dataset_freiburg3_*/rgb_90/*.png and groundtruth_90.txt (or rgb and groundtruth.txt)'
    found = []
    for folder in folders(root, 'rgbd_dataset_freiburg*', layout):
        prepared = (folder / 'rgb_90').is_dir()
        images = sorted(image_files(folder / ('rgb_90' if prepared else 'rgb'), ('.png',)), key=stamp_of)
        if not prepared:
            images = images[: FRAMES * STRIDE : STRIDE]
        path = folder / ('groundtruth_90.txt' if prepared else 'groundtruth.txt')
        rows = read_numbers(path, 8)
        rows = _in_order(rows, slice(4, 8))
        matched, chosen = nearest(rows[:, 0], np.array([stamp_of(image) for image in images]), 0.05, str(path))
        poses = np.stack([pose_from_tum(row[1:]) for row in rows[chosen]])
        there = [images[number] for number in matched]
        found.append(
            TrueSequence(
                folder.name.removeprefix('rgbd_dataset_'),
                there,
                from_files(there, read_rgb),
                world_from_camera=poses,
                left_out=len(images) - len(there),
            )
        )
    return found


def scannet(root: Path, task: str) -> list[TrueSequence]:
    """Read ``scene*/{color_90/*.jpg,pose_90.txt}`` (4 x 4 numbers per line), or ``color`` and ``pose/<number>.txt``."""
    layout = 'scene0707_00/color_90/*.jpg and pose_90.txt (or color and pose/*.txt)'
    found = []
    for folder in folders(root, 'scene*', layout):
        if (folder / 'color_90').is_dir():
            images, rows = image_files(folder / 'color_90'), read_numbers(folder / 'pose_90.txt')
            # A line for each image: without their names, what is missing cannot be told.
            if rows.shape[1] not in (12, 16) or len(rows) != len(images):
                raise UserError(
                    f'{folder / "pose_90.txt"}: {rows.shape[0]} lines of {rows.shape[1]} numbers; expected '
                    f'{len(images)}, one per image, of 16'
                )
            poses = np.stack([pose_from_rows(row) for row in rows])
        else:
            images = image_files(folder / 'color')[: FRAMES * STRIDE : STRIDE]
            files = [folder / 'pose' / f'{image.stem}.txt' for image in images]
            poses = np.full((len(images), 4, 4), np.nan)
            for number in with_files(images, files):
                poses[number] = pose_from_rows(read_numbers(files[number], 4).ravel())
        # Where tracking was lost, poses are infinite.
        known = np.flatnonzero(np.isfinite(poses).all(axis=(1, 2)))
        whole = TrueSequence(folder.name, images, from_files(images, read_rgb), world_from_camera=poses)
        found.append(whole.matched(known.tolist()))
    return found


def kitti_odometry(root: Path, task: str) -> list[TrueSequence]:
    """Read ``sequences/NN/{image_2/*.png,calib.txt}`` and ``poses/NN.txt``: poses of camera 0, moved to camera 2."""
    layout = 'sequences/00/image_2/*.png, sequences/00/calib.txt and poses/00.txt'
    found = []
    for folder in folders(root, 'sequences/*', layout):
        path = root / 'poses' / f'{folder.name}.txt'
        if not path.is_file():
            continue
        images, poses = image_files(folder / 'image_2', ('.png',)), read_numbers(path, 12)
        rows = by_number(images, len(poses), path)
        projection = _kitti_projection(folder / 'calib.txt', 'P2')
        # P2 = K [I | t]: camera 2 stands at -t in the frame of camera 0.
        offset = transform(np.eye(3), -np.linalg.solve(projection[:, :3], projection[:, 3]))
        whole = TrueSequence(
            folder.name,
            images,
            from_files(images, read_rgb),
            world_from_camera=np.stack([pose_from_rows(poses[row]) @ offset for row in rows]),
            intrinsics=projection[:, :3],
        )
        known = np.isfinite(poses).all(axis=1)
        found.append(whole.matched([number for number, row in enumerate(rows) if row >= 0 and known[row]]))
    if not found:
        raise UserError(f'{root / "poses"}: no poses for any of the sequences; expected {layout}')
    return found


def _kitti_projection(path: Path, name: str) -> np.ndarray:
    """Return the matrix (3, 4) of the line that begins with the name."""
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read ({error})') from error
    for line in lines:
        fields = line.replace(':', ' ').split()
        if fields[:1] == [name] and len(fields) == 13:
            return np.array([float(field) for field in fields[1:]]).reshape(3, 4)
    raise UserError(f'{path}: no line {name}: with 12 numbers')


def euroc(root: Path, task: str) -> list[TrueSequence]:
    """Read ``<sequence>/mav0/cam0`` and ``mav0/state_groundtruth_estimate0``, or folders with ``frames.csv``.

    The root may be one sequence or hold several. Images are undistorted; poses are those of the nearest stamp.
    """
    if not root.is_dir():
        raise UserError(f'{root}: no such folder')
    places = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    found = [_euroc_sequence(place) for place in places if (place / 'mav0' / 'cam0').is_dir()]
    found += [image_folder(place) for place in places if (place / FRAMES_FILE).is_file()]
    if not found:
        raise UserError(
            f'{root}: no EuRoC sequence; expected <sequence>/mav0/cam0/data.csv, or {FRAMES_FILE}, '
            'camera.yaml and groundtruth_cam0.tum'
        )
    return found


def _undistorted(camera: CameraModel, images: list[Path], name: str, poses: np.ndarray, left_out: int) -> TrueSequence:
    model, coefficients, assumed = distortion_of(camera.distortion_model, camera.D.tolist())
    if assumed and not coefficients:
        raise UserError(
            f'{name}: images with distortion_model {camera.distortion_model!r} cannot be undistorted (known: pinhole '
            f'with {", ".join(COEFFICIENTS)}, by any of their names)'
        )
    try:
        rectifier = Rectifier(Calibration((camera.height, camera.width), model, tuple(camera.K.ravel()), coefficients))
    except ValueError as error:
        raise UserError(f'{name}: {error}') from error

    def read(index: int) -> np.ndarray:
        try:
            return rectifier(read_rgb(images[index]))
        except ValueError as error:
            raise UserError(f'{images[index]}: {error}') from error

    return TrueSequence(name, images, read, world_from_camera=poses, intrinsics=rectifier.K, left_out=left_out)


def image_folder(folder: Path) -> TrueSequence:
    """Read one folder of ``io.image_folder`` with its ground truth, undistorted."""
    content = read_image_folder(folder)
    truth = content.ground_truth
    if truth is None:
        raise UserError(f'{folder}: no groundtruth_cam0.tum')
    frames = [content.frames[number] for number in numbers_there(frame.path for frame in content.frames)]
    stamps = np.array([frame.stamp_ns for frame in frames])
    order = truth.stamps_ns.argsort(kind='stable')
    matched, chosen = nearest(truth.stamps_ns[order] / NANOSECONDS, stamps / NANOSECONDS, 0.02, str(folder))
    poses = np.stack(
        [
            transform(matrix_from_quaternion(truth.quaternions[number]), truth.positions[number])
            for number in order[chosen]
        ]
    )
    images = [frames[number].path for number in matched]
    return _undistorted(content.camera, images, folder.resolve().name, poses, len(content.frames) - len(images))


def _in_order(rows: np.ndarray, quaternion: slice) -> np.ndarray:
    """Return the rows of a truth (n, m) by their times; those in which tracking was lost are left out."""
    whole = np.isfinite(rows).all(axis=1) & rows[:, quaternion].any(axis=1)
    rows = rows[whole]
    return rows[rows[:, 0].argsort()]


def _euroc_sequence(folder: Path) -> TrueSequence:
    camera_folder, truth = folder / 'mav0' / 'cam0', folder / 'mav0' / 'state_groundtruth_estimate0' / 'data.csv'
    camera, body_from_camera = _euroc_camera(camera_folder / 'sensor.yaml')
    names = _euroc_images(camera_folder / 'data.csv')
    states = read_numbers(truth)
    if states.shape[1] < 8:
        raise UserError(f'{truth}: expected stamp, position and quaternion in each line')
    states = _in_order(states[:, :8], slice(4, 8))
    # The ground truth begins later and ends earlier than the images.
    listed = [(stamp, camera_folder / 'data' / name) for stamp, name in names]
    listed = [listed[number] for number in numbers_there(path for _, path in listed)]
    stamps = np.array([stamp for stamp, _ in listed], dtype=np.float64)
    matched, chosen = nearest(states[:, 0] / NANOSECONDS, stamps / NANOSECONDS, 0.02, str(truth))
    # Quaternions are w x y z here.
    poses = np.stack(
        [
            transform(matrix_from_quaternion(state[[5, 6, 7, 4]]), state[1:4]) @ body_from_camera
            for state in states[chosen]
        ]
    )
    images = [listed[number][1] for number in matched]
    return _undistorted(camera, images, folder.resolve().name, poses, len(names) - len(images))


def _euroc_images(path: Path) -> list[tuple[int, str]]:
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read ({error})') from error
    rows = [line.split(',') for line in lines if line.strip() and not line.startswith('#')]
    try:
        return [(int(row[0]), row[1].strip()) for row in rows]
    except (ValueError, IndexError) as error:
        raise UserError(f'{path}: expected lines of stamp [ns],file name') from error


def _euroc_camera(path: Path) -> tuple[CameraModel, np.ndarray]:
    """Return the camera and its pose in the body frame (4, 4)."""
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        width, height = content['resolution']
        fx, fy, cx, cy = content['intrinsics']
        pose = np.array(content['T_BS']['data'], dtype=np.float64).reshape(4, 4)
        lens = content.get('camera_model', 'pinhole'), content.get('distortion_model', 'radial-tangential')
        distortion = np.array(content.get('distortion_coefficients') or [0.0] * 4, dtype=np.float64)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'{path}: not a camera file of EuRoC (resolution, intrinsics, distortion_coefficients, T_BS): '
            f'{" ".join(str(error).split())}'
        ) from error
    if lens[0] != 'pinhole':
        raise UserError(f'{path}: images of camera_model {lens[0]!r} cannot be undistorted (known: pinhole)')
    K = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    return CameraModel(
        'cam0', int(width), int(height), K, str(lens[1]), distortion, np.eye(3), np.hstack([K, np.zeros((3, 1))])
    ), pose
