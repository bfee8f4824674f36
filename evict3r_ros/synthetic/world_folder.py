# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A synthetic world on the disk: images, exact depth, poses and the camera, as a folder or as a bag.

The folder is one that ``io.image_folder`` reads, with depth beside it::

    rgb/<number>.png         8-bit RGB
    depth/<number>.png       16 bits, millimetres along the optical axis, of the image of the same number; 0: the sky
    groundtruth_cam0.tum     pose of the camera's optical frame in the world (z up, metres)
    camera.yaml, frames.csv  see ``io.image_folder``
    world.json               seed and settings that say everything, and the unit of depth
    contact_sheet.png        some frames with their depth
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.geometry import BODY_FROM_OPTICAL, quaternion_from_matrix
from evict3r_ros.io.contact_sheet import SheetRow, write_contact_sheet
from evict3r_ros.io.image_folder import CAMERA_FILE, FRAMES_FILE, GROUND_TRUTH_FILE, CameraModel, write_camera_file
from evict3r_ros.io.run_folder import RunFolder
from evict3r_ros.io.tum import TumWriter
from evict3r_ros.synthetic.clips import StreamFrame, WorldStream

IMAGES, DEPTH, ABOUT, SHEET = 'rgb', 'depth', 'world.json', 'contact_sheet.png'
NAMES = (IMAGES, DEPTH, GROUND_TRUTH_FILE, CAMERA_FILE, FRAMES_FILE, ABOUT, SHEET)
DEPTH_UNIT = 0.001
"""Metres."""
_START_NS = 1_000_000_000 * 10**9
_SHEET_ROWS = 8


def world_camera(stream: WorldStream, size: tuple[int, int]) -> CameraModel:
    """Describe the camera of a stream with images of size (height, width), on the mast of a robot."""
    base_from_camera = BODY_FROM_OPTICAL.copy()
    base_from_camera[:3, 3] = 0.1, 0.0, 0.4
    return CameraModel.pinhole('camera', size[1], size[0], stream.intrinsics, base_from_camera)


def stamped(frames: Iterable[StreamFrame], rate: float) -> Iterator[tuple[int, StreamFrame]]:
    """Frames with their stamps in ns, so many a second."""
    for index, frame in enumerate(frames):
        yield _START_NS + round(index * 1e9 / rate), frame


def tee_world_folder(
    path: Path, frames: Iterable[tuple[int, StreamFrame]], count: int, camera: CameraModel, about: dict[str, Any]
) -> Iterator[tuple[int, StreamFrame]]:
    """Write the folder a frame at a time, handing each frame on when it is written; an interrupted one is whole so far.

    frames: ``count`` of them, stamped. about: settings, for world.json. Raises UserError when the folder is somebody
    else's, or cannot be written.
    """
    folder = RunFolder(path, 'evict3r world', NAMES)
    folder.prepare()
    shown = set(np.linspace(0, count - 1, min(count, _SHEET_ROWS)).round().astype(int).tolist())
    rows = []
    try:
        for name in (IMAGES, DEPTH):
            folder.file(name).mkdir()
        write_camera_file(folder.file(CAMERA_FILE), camera)
        content = json.dumps({**about, 'depth_unit_m': DEPTH_UNIT}, indent=2) + '\n'
        folder.file(ABOUT).write_text(content, encoding='utf-8')
        with contextlib.ExitStack() as stack:
            poses = stack.enter_context(TumWriter(folder.file(GROUND_TRUTH_FILE)))
            table = stack.enter_context(folder.file(FRAMES_FILE).open('w', encoding='ascii', buffering=1))
            table.write('stamp_ns,file\n')
            for number, (stamp, frame) in enumerate(frames):
                name = f'{number:06d}.png'
                _write_png(folder.file(IMAGES) / name, frame.image[..., ::-1])
                _write_png(folder.file(DEPTH) / name, _millimetres(frame.depth))
                pose = frame.world_from_camera
                poses.write(stamp, pose[:3, 3], quaternion_from_matrix(pose[:3, :3]))
                table.write(f'{stamp},{IMAGES}/{name}\n')
                if number in shown:
                    rows.append(SheetRow(f'frame {number}', frame.image, frame.depth))
                yield stamp, frame
        title = (
            f'world of seed {about["seed"]}: {about["kind"]}, {count} frames {about["stride"]} apart, depth in metres'
        )
        write_contact_sheet(folder.file(SHEET), rows, [title], untrained=False)
    except OSError as error:
        raise UserError(f'{path}: cannot be written: {error.strerror}') from error


def _millimetres(depth: np.ndarray) -> np.ndarray:
    known = (depth / DEPTH_UNIT).round().clip(0, np.iinfo(np.uint16).max)
    stored: np.ndarray = np.where(np.isfinite(depth), known, 0).astype(np.uint16)
    return stored


def _write_png(path: Path, pixels: np.ndarray) -> None:
    # Fast, not small: twice the speed for a tenth more bytes.
    if not cv2.imwrite(str(path), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise UserError(f'{path}: cannot be written (is the disk full?)')
