# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read 7-Scenes and Neural RGB-D, in the layout of Spann3R's preparation (its docs/data_preprocess.md)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.evaluation.datasets.sequence import (
    TrueSequence,
    by_number,
    folders,
    from_files,
    image_files,
    numbers_of,
    read_depth_png,
    read_numbers,
    with_files,
)
from evict3r_ros.io.image_file import read_rgb

SEVEN_SCENES_K = np.array([[525.0, 0.0, 320.0], [0.0, 525.0, 240.0], [0.0, 0.0, 1.0]])
_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def seven_scenes(root: Path, task: str) -> list[TrueSequence]:
    """Read ``<scene>/seq-NN/frame-000000.{color.png,depth.proj.png,pose.txt}`` of the ``<scene>/TestSplit.txt``.

    Depths are those projected into the colour camera, in millimetres, 0 and 65535 unknown; without them, the sensor's
    ``depth.png``.
    """
    layout = '<scene>/TestSplit.txt and <scene>/seq-01/frame-000000.color.png, .depth.proj.png, .pose.txt'
    found = []
    for scene in folders(root, '*', layout):
        split = scene / 'TestSplit.txt'
        if not split.is_file():
            continue
        for line in split.read_text(encoding='utf-8').split():
            digits = ''.join(character for character in line if character.isdigit())
            if not digits:
                raise UserError(f'{split}: {line!r} names no sequence')
            folder = scene / f'seq-{int(digits):02d}'
            images = image_files(folder, ('.color.png',))
            stems = [image.name.removesuffix('.color.png') for image in images]
            kind = '.depth.proj.png' if (folder / f'{stems[0]}.depth.proj.png').is_file() else '.depth.png'
            depths = [folder / f'{stem}{kind}' for stem in stems]
            files = [folder / f'{stem}.pose.txt' for stem in stems]
            matched = [number for number in with_files(images, depths) if files[number].is_file()]
            poses = np.full((len(images), 4, 4), np.nan)
            for number in matched:
                poses[number] = read_numbers(files[number], 4)
            whole = TrueSequence(
                f'{scene.name}/{folder.name}',
                images,
                from_files(images, read_rgb),
                from_files(depths, partial(read_depth_png, per_metre=1000.0, invalid=(0, 65535))),
                poses,
                SEVEN_SCENES_K,
            )
            found.append(whole.matched(matched))
    if not found:
        raise UserError(f'{root}: no scene with a TestSplit.txt; expected {layout}')
    return found


def neural_rgbd(root: Path, task: str) -> list[TrueSequence]:
    """Read ``<scene>/{images/img0.png,depth/depth0.png,poses.txt,focal.txt}``; millimetres; OpenGL camera axes."""
    layout = '<scene>/images/img0.png, depth/depth0.png, poses.txt (4 x 4 blocks) and focal.txt'
    found = []
    for scene in folders(root, '*', layout):
        if not (scene / 'images').is_dir():
            continue
        images, depths = image_files(scene / 'images'), image_files(scene / 'depth', ('.png',))
        poses = _poses(scene / 'poses.txt')
        # With -1 for what is missing, the last entry, which is never looked at.
        place = {numbers_of(path): number for number, path in enumerate(depths)}
        depth_of = [place.get(numbers_of(image), -1) for image in images]
        pose_of = by_number(images, len(poses), scene / 'poses.txt')
        depths, poses = [depths[number] for number in depth_of], poses[pose_of]
        there = np.isfinite(poses).all(axis=(1, 2)) & (np.array(depth_of) >= 0) & (np.array(pose_of) >= 0)
        height, width = read_rgb(images[0]).shape[:2]
        focal = float(read_numbers(scene / 'focal.txt')[0, 0])
        K = np.array([[focal, 0.0, width / 2.0], [0.0, focal, height / 2.0], [0.0, 0.0, 1.0]])
        whole = TrueSequence(
            scene.name,
            images,
            from_files(images, read_rgb),
            from_files(depths, partial(read_depth_png, per_metre=1000.0)),
            poses,
            K,
        )
        found.append(whole.matched(np.flatnonzero(there).tolist()))
    if not found:
        raise UserError(f'{root}: no scene with a folder images; expected {layout}')
    return found


def _poses(path: Path) -> np.ndarray:
    """Return world_from_camera (n, 4, 4) of a file of 4 x 4 blocks; NaN where tracking was lost."""
    rows = read_numbers(path, 4)
    if len(rows) % 4:
        raise UserError(f'{path}: {len(rows)} lines are not a multiple of 4')
    return rows.reshape(-1, 4, 4) @ _OPENCV_FROM_OPENGL
