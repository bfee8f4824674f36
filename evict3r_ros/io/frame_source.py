# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Find out what an input is: a video, images, a camera, or a stream from the network."""

from __future__ import annotations

import glob
from pathlib import Path

from evict3r_ros.errors import UserError
from evict3r_ros.io.camera_source import Camera
from evict3r_ros.io.frames import FrameSource, Selection
from evict3r_ros.io.image_file import IMAGE_SUFFIXES
from evict3r_ros.io.image_folder import FRAMES_FILE, read_frame_table
from evict3r_ros.io.image_source import ImageFiles, images_among
from evict3r_ros.io.network_source import SCHEMES, NetworkStream
from evict3r_ros.io.video_source import VideoFile

DEFAULT_FPS = 30.0
"""Rate of images that have no stamps, unless somebody says another."""


def open_source(text: str, selection: Selection, fps: float | None = None) -> FrameSource:
    """Open a video file, a folder of images, a glob such as 'shots/*.png', a camera, or a stream by its address.

    fps: rate of what has no stamps: images (DEFAULT_FPS if it is None), and raw streams (the rate that they say); a
    folder with ``frames.csv`` (``io.image_folder``) has its own. A camera is a number, as OpenCV counts, or a device
    such as /dev/video0. Raises UserError for anything else.
    """
    if fps is not None and not fps > 0.0:
        raise UserError(f'a rate of {fps:g} images per second cannot be: it must be positive')
    if text.partition('://')[0].lower() in SCHEMES:
        return NetworkStream(text, selection)
    path = Path(text).expanduser()
    image_fps = fps or DEFAULT_FPS
    if path.is_dir():
        if (path / FRAMES_FILE).is_file():
            table = read_frame_table(path)
            return ImageFiles(text, [frame.path for frame in table], [frame.stamp_ns for frame in table], selection)
        return images_among(text, list(path.iterdir()), selection, image_fps)
    if path.is_file():
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return images_among(text, [path], selection, image_fps)
        return VideoFile(path, selection, fps)
    if text.isdecimal():
        return Camera(int(text), selection)
    if path.is_char_device() or text.startswith('/dev/'):
        return Camera(text, selection)
    if any(letter in text for letter in '*?['):
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]
        return images_among(text, found, selection, image_fps)
    raise UserError(
        f'{text}: no such video, folder of images or glob, and no number or device of a camera, nor an address such as '
        'rtsp://HOST/PATH'
    )
