# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A recording of one's own, in the layout of ``evict3r world --out``: images, camera, and as much truth as there is.

``frames.csv`` and ``camera.yaml`` are those of ``io.image_folder``. Depth lies beside the images: for
``rgb/000004.jpg`` in ``depth/000004.png``, 16 bits, millimetres along the optical axis, 0 or 65535 where unknown.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from evict3r_ros.errors import UserError
from evict3r_ros.evaluation.datasets.pose_sets import image_folder
from evict3r_ros.evaluation.datasets.sequence import TrueSequence, from_files, numbers_there, read_depth_png, with_files
from evict3r_ros.io.image_file import read_rgb
from evict3r_ros.io.image_folder import FRAMES_FILE, read_image_folder

DEPTH = 'depth'
PER_METRE, UNKNOWN = 1000.0, (0, 65535)


def recording(root: Path, task: str) -> list[TrueSequence]:
    """Read one folder with ``frames.csv``, or all such folders in one. Raises UserError for truth that a task lacks."""
    places = [root, *sorted(path for path in root.iterdir() if path.is_dir())] if root.is_dir() else []
    found = [place for place in places if (place / FRAMES_FILE).is_file()]
    if not found:
        raise UserError(f'{root}: no recording; expected {FRAMES_FILE}, camera.yaml and rgb/ as `evict3r world` writes')
    return [_sequence(place, task) for place in found]


def _sequence(folder: Path, task: str) -> TrueSequence:
    if task == 'pose':
        return image_folder(folder)
    content = read_image_folder(folder)
    if content.camera.D.any():
        raise UserError(f'{folder}: images with distortion cannot be compared with depth; rectify both first')
    images = [frame.path for frame in content.frames]
    depths = [image.parent.parent / DEPTH / f'{image.stem}.png' for image in images]
    read_depth = partial(read_depth_png, per_metre=PER_METRE, invalid=UNKNOWN)
    whole = TrueSequence(
        folder.resolve().name, images, from_files(images, read_rgb), read_depth=from_files(depths, read_depth)
    )
    return whole.matched(sorted({*numbers_there(images)} & {*with_files(images, depths)}))
