# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read an image file as everybody sees it: upright, in 8 bits, on white where it is transparent."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from evict3r_ros.camera.tone import SteadyTone, whole_range
from evict3r_ros.errors import UserError

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
_MAY_BE_TRANSPARENT = ('.png', '.tif', '.tiff', '.webp')
_WHITE = 255


def is_hidden(path: Path) -> bool:
    """Return whether a file is none of the user's: macOS leaves `._0001.jpg` beside 0001.jpg on foreign disks."""
    return path.name.startswith('.')


def read_rgb(path: Path, tone: SteadyTone | None = None) -> np.ndarray:
    """Read an image file as ``read_image`` does, but also a grey one as (h, w, 3)."""
    image = read_image(path, tone)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image


def read_image(path: Path, tone: SteadyTone | None = None) -> np.ndarray:
    """Read an image file as (h, w) uint8 if it is stored grey, else (h, w, 3) uint8 RGB; EXIF may turn it.

    tone: makes 8 bits of 16, for images of one camera; without it, the whole range of 16 bits is white. Raises
    UserError if the file cannot be read.
    """
    # Without IMREAD_UNCHANGED OpenCV honours the orientation, but drops what is transparent; with it, the reverse.
    image = cv2.imread(str(path), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH) if path.is_file() else None
    if image is None:
        what = 'not an image that can be read (truncated?)' if path.is_file() else 'no such image'
        raise UserError(f'{path}: {what}')
    if path.suffix.lower() in _MAY_BE_TRANSPARENT:
        stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if stored is not None and stored.ndim == 3 and stored.shape[2] == 4 and stored.shape[:2] == image.shape[:2]:
            image = _on_white(stored)
    if tone is not None and image.dtype == np.uint16:
        image = tone.grey(image) if image.ndim == 2 else tone.colour(image)
    image = _in_8_bits(image)
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _in_8_bits(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return whole_range(image)
    # Floating point (TIFF): 0 to 1.
    levels: np.ndarray = (np.nan_to_num(image).clip(0.0, 1.0) * 255.0).round().astype(np.uint8)
    return levels


def _on_white(image: np.ndarray) -> np.ndarray:
    """Blend (h, w, 4) of any depth on white, to (h, w, 3) uint8."""
    image = _in_8_bits(image)
    alpha = image[..., 3:].astype(np.float32) / 255.0
    blended: np.ndarray = (image[..., :3] * alpha + _WHITE * (1.0 - alpha)).round().astype(np.uint8)
    return blended
