# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The encodings of `sensor_msgs/Image`: their memory layout and conversion to RGB (image_encodings.hpp)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from evict3r_ros.errors import MessageError

MAX_PIXELS = 64_000_000  # larger images are taken for broken messages: nothing the node could answer in time


@dataclass(frozen=True)
class Encoding:
    """How the pixels of an encoding lie in memory."""

    channels: int
    dtype: str
    """Numpy's name of a channel's type, without its byte order."""
    to_rgb: int | None = None
    """OpenCV's code of the conversion to RGB; None where it is RGB, or no colour."""


# The first pair of letters in OpenCV's names is that of the second row, from the second pixel on.
_BAYER = {
    'rggb': cv2.COLOR_BayerBG2RGB,
    'bggr': cv2.COLOR_BayerRG2RGB,
    'gbrg': cv2.COLOR_BayerGR2RGB,
    'grbg': cv2.COLOR_BayerGB2RGB,
}
_COLOUR = {
    'rgb': (3, None),
    'bgr': (3, cv2.COLOR_BGR2RGB),
    'rgba': (4, cv2.COLOR_RGBA2RGB),
    'bgra': (4, cv2.COLOR_BGRA2RGB),
    'mono': (1, cv2.COLOR_GRAY2RGB),
}

COLOUR_ENCODINGS: dict[str, Encoding] = {
    **{
        f'{name}{bits}': Encoding(channels, f'u{bits // 8}', code)
        for name, (channels, code) in _COLOUR.items()
        for bits in (8, 16)
    },
    **{f'bayer_{name}{bits}': Encoding(1, f'u{bits // 8}', code) for name, code in _BAYER.items() for bits in (8, 16)},
    # Two pixels share their colour: U Y V Y or Y U Y V. Each under its deprecated and its new name.
    'yuv422': Encoding(2, 'u1', cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': Encoding(2, 'u1', cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': Encoding(2, 'u1', cv2.COLOR_YUV2RGB_YUYV),
    'yuyv': Encoding(2, 'u1', cv2.COLOR_YUV2RGB_YUYV),
}
"""What a colour or grey image may be."""

DEPTH_ENCODINGS = {'16UC1': Encoding(1, 'u2'), 'mono16': Encoding(1, 'u2'), '32FC1': Encoding(1, 'f4')}
"""What a depth image may be (REP-118): integers are millimetres, floats metres."""


def pixels_of(message: Any, encodings: dict[str, Encoding]) -> np.ndarray:
    """Return the pixels of an Image as (h, w) or (h, w, channels), in this machine's byte order.

    They share the message's memory where they can, which is where rows have no padding and bytes their order. Raises
    MessageError with the reason when the encoding is not one of `encodings` or the sizes don't agree with each other.
    """
    encoding = encodings.get(message.encoding)
    if encoding is None:
        raise MessageError(f'encoding {message.encoding[:40]!r} is not supported (known: {", ".join(encodings)})')
    height, width, step = message.height, message.width, message.step
    check_size(height, width)
    if encoding.channels == 2 and width % 2:
        raise MessageError(f'{message.encoding} has pixels in pairs, but a row has {width}')
    item = np.dtype(encoding.dtype).itemsize
    row = width * encoding.channels * item
    if step < row:
        raise MessageError(f'step of {step} bytes is less than a row: {width} pixels of {message.encoding} are {row}')
    if len(message.data) != height * step:
        raise MessageError(f'{len(message.data)} bytes of data, but {height} rows of {step} bytes are {height * step}')
    rows = np.ascontiguousarray(np.frombuffer(message.data, np.uint8).reshape(height, step)[:, :row])
    if item > 1:
        stored = rows.view(('>' if message.is_bigendian else '<') + encoding.dtype)
        rows = stored.astype(encoding.dtype, copy=False)
    return rows if encoding.channels == 1 else rows.reshape(height, width, encoding.channels)


def rgb_by_opencv(pixels: np.ndarray, encoding: str) -> np.ndarray:
    """Return pixels of one of COLOUR_ENCODINGS as (h, w, 3) uint8 RGB.

    The whole range of 16 bits is white, as in cv_bridge: a camera of 12 bits has to fill it or comes out dark.
    """
    code = COLOUR_ENCODINGS[encoding].to_rgb
    rgb = pixels if code is None else cv2.cvtColor(pixels, code)
    return rgb if rgb.dtype == np.uint8 else cv2.convertScaleAbs(rgb, alpha=255.0 / 65535.0)


def check_size(height: int, width: int) -> None:
    """Raise MessageError for an image without pixels, or with more than anybody sends."""
    if height == 0 or width == 0:
        raise MessageError(f'image of {width} x {height} pixels is empty')
    if height * width > MAX_PIXELS:
        raise MessageError(f'image of {width} x {height} pixels is larger than the {MAX_PIXELS} accepted')
