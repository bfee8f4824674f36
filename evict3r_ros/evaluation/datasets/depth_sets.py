# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read Sintel, Bonn, KITTI and NYU-v2, in the layout of MonST3R's preparation (its data/evaluation_script.md)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.evaluation.datasets.sequence import (
    TrueSequence,
    folders,
    from_files,
    image_files,
    nearest,
    numbers_of,
    read_depth_png,
    stamp_of,
    with_files,
)
from evict3r_ros.geometry import invert, transform
from evict3r_ros.io.image_file import read_rgb

SINTEL_POSE_SCENES = (
    'alley_2',
    'ambush_4',
    'ambush_5',
    'ambush_6',
    'cave_2',
    'cave_4',
    'market_2',
    'market_5',
    'market_6',
    'shaman_3',
    'sleeping_1',
    'sleeping_2',
    'temple_2',
    'temple_3',
)
"""The scenes with enough camera motion, as in LEAP-VO (arXiv 2401.01887) and MonST3R."""
SINTEL_MAX_DEPTH = 70.0
_SINTEL_TAG = 202021.25
"""The first number of Sintel's binary files."""


def _read_sintel(path: Path, kind: str, count: int, offset: int) -> np.ndarray:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    if len(data) < 4 or np.frombuffer(data, '<f4', 1)[0] != np.float32(_SINTEL_TAG):
        raise UserError(f'{path}: not a file of the Sintel data set (its tag is missing)')
    if len(data) < offset + count * np.dtype(kind).itemsize:
        raise UserError(f'{path}: truncated ({len(data)} bytes)')
    return np.frombuffer(data, kind, count, offset)


def read_sintel_depth(path: Path) -> np.ndarray:
    """Return the depth (h, w) float32 of a .dpt file: tag, width, height, then the depths."""
    width, height = (int(side) for side in _read_sintel(path, '<i4', 2, 4))
    depth: np.ndarray = _read_sintel(path, '<f4', width * height, 12).reshape(height, width).copy()
    return depth


def read_sintel_camera(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return K (3, 3) and world_from_camera (4, 4) of a .cam file: tag, K, then camera-from-world (3, 4)."""
    numbers = _read_sintel(path, '<f8', 21, 4)
    extrinsic = numbers[9:].reshape(3, 4)
    return numbers[:9].reshape(3, 3).copy(), invert(transform(extrinsic[:, :3], extrinsic[:, 3]))


def sintel(root: Path, task: str) -> list[TrueSequence]:
    """Read ``training/{final,depth,camdata_left}/<scene>/frame_0001.{png,dpt,cam}``; images are the final pass."""
    layout = 'training/final/<scene>/frame_0001.png, training/depth, training/camdata_left'
    scenes = folders(root, 'training/final/*', layout)
    if task == 'pose':
        scenes = [scene for scene in scenes if scene.name in SINTEL_POSE_SCENES]
        if not scenes:
            raise UserError(
                f'{root}: none of the {len(SINTEL_POSE_SCENES)} scenes of the pose benchmark, such as '
                f'{SINTEL_POSE_SCENES[0]}'
            )
    found = []
    for scene in scenes:
        everything = image_files(scene, ('.png',))
        kind, suffix = ('camdata_left', '.cam') if task == 'pose' else ('depth', '.dpt')
        truths = [root / 'training' / kind / scene.name / f'{image.stem}{suffix}' for image in everything]
        matched = with_files(everything, truths)
        images, truths = [everything[number] for number in matched], [truths[number] for number in matched]
        found.append(
            TrueSequence(
                scene.name,
                images,
                from_files(images, read_rgb),
                None if task == 'pose' else from_files(truths, read_sintel_depth),
                np.stack([read_sintel_camera(path)[1] for path in truths]) if task == 'pose' else None,
                max_depth=SINTEL_MAX_DEPTH,
                left_out=len(everything) - len(matched),
            )
        )
    return found


def bonn(root: Path, task: str) -> list[TrueSequence]:
    """Read ``rgbd_bonn_dataset/rgbd_bonn_*/{rgb_110,depth_110}/<seconds>.png``; 5000 per metre, nearest stamps."""
    layout = 'rgbd_bonn_dataset/rgbd_bonn_balloon2/rgb_110/*.png and depth_110/*.png (frames 30 to 139 of each)'
    found = []
    for folder in folders(root, 'rgbd_bonn_dataset/rgbd_bonn_*', layout):
        if not (folder / 'rgb_110').is_dir():
            raise UserError(f'{folder}: no folder rgb_110; expected {layout}')
        everything, depths = (
            sorted(image_files(folder / name, ('.png',)), key=stamp_of) for name in ('rgb_110', 'depth_110')
        )
        matched, chosen = nearest(
            np.array([stamp_of(path) for path in depths]),
            np.array([stamp_of(path) for path in everything]),
            0.05,
            str(folder / 'depth_110'),
        )
        images, depths = [everything[number] for number in matched], [depths[number] for number in chosen]
        found.append(
            TrueSequence(
                folder.name.removeprefix('rgbd_bonn_'),
                images,
                from_files(images, read_rgb),
                from_files(depths, partial(read_depth_png, per_metre=5000.0)),
                left_out=len(everything) - len(matched),
            )
        )
    return found


def kitti(root: Path, task: str) -> list[TrueSequence]:
    """Read ``{image,groundtruth_depth}_gathered/<drive>/*.png`` of the cropped selection; 256 per metre."""
    gathered = root / 'depth_selection' / 'val_selection_cropped'
    layout = (
        'depth_selection/val_selection_cropped/image_gathered/<drive>/*.png and '
        'groundtruth_depth_gathered/<drive>/*.png (the first 110 frames of each drive)'
    )
    found = []
    for folder in folders(root, 'depth_selection/val_selection_cropped/image_gathered/*', layout):
        everything = image_files(folder, ('.png',))
        # The names of both differ in a word, and their numbers agree.
        by_number = {
            numbers_of(path): path
            for path in image_files(gathered / 'groundtruth_depth_gathered' / folder.name, ('.png',))
        }
        images = [path for path in everything if numbers_of(path) in by_number]
        if not images:
            raise UserError(
                f'{folder}: none of its {len(everything)} images is one of the {len(by_number)} depths in '
                f'groundtruth_depth_gathered/{folder.name}'
            )
        found.append(
            TrueSequence(
                folder.name,
                images,
                from_files(images, read_rgb),
                from_files([by_number[numbers_of(path)] for path in images], partial(read_depth_png, per_metre=256.0)),
                left_out=len(everything) - len(images),
            )
        )
    return found


def _read_npy(path: Path) -> np.ndarray:
    try:
        depth = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: not a NumPy array ({error})') from error
    if depth.ndim != 2:
        raise UserError(f'{path}: a depth map has two dimensions, not {depth.ndim}')
    return np.where(depth > 0, depth, np.nan).astype(np.float32)


def nyu(root: Path, task: str) -> list[TrueSequence]:
    """Read ``val/nyu_images/*.png`` and ``val/nyu_depths/*.npy``, metres; one sequence of single images."""
    layout = 'val/nyu_images/*.png and val/nyu_depths/*.npy'
    (folder,) = folders(root, 'val/nyu_images', layout)
    images = image_files(folder)
    depths = [root / 'val' / 'nyu_depths' / f'{image.stem}.npy' for image in images]
    whole = TrueSequence('val', images, from_files(images, read_rgb), from_files(depths, _read_npy))
    return [whole.matched(with_files(images, depths))]
