# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The encodings of `sensor_msgs/Image`: their memory layout and conversion to RGB (image_encodings.hpp)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from evict3r_ros.camera.tone import whole_range
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
    chroma_rows: float = 0.0
    """How many rows of interleaved colour lie behind each row of brightness; 0 where both are in one pixel."""
    assumed: str = ''
    """What its name leaves open, and is taken for."""


# The first pair of letters in OpenCV's names is that of the second row, from the second pixel on.
_BAYER = {
    'rggb': cv2.COLOR_BayerBG2RGB,
    'bggr': cv2.COLOR_BayerRG2RGB,
    'gbrg': cv2.COLOR_BayerGR2RGB,
    'grbg': cv2.COLOR_BayerGB2RGB,
}
_NV24 = np.array([[1.164, 0.0, 1.596], [1.164, -0.392, -0.813], [1.164, 2.017, 0.0]], np.float32)
"""RGB of Y - 16, U - 128, V - 128: ITU-R BT.601 in studio range, as OpenCV has it for its other YUV codes."""
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
    # A plane of brightness and behind it one of colour, for 2 x 2 pixels (nv12, nv21) or for each (nv24).
    'nv12': Encoding(1, 'u1', cv2.COLOR_YUV2RGB_NV12, 0.5),
    'nv21': Encoding(1, 'u1', cv2.COLOR_YUV2RGB_NV21, 0.5),
    'nv24': Encoding(1, 'u1', None, 2.0),
    # What cv_bridge makes of a cv::Mat or an array without being told more.
    '8UC1': Encoding(1, 'u1', cv2.COLOR_GRAY2RGB, assumed='mono8'),
    '8UC3': Encoding(3, 'u1', cv2.COLOR_BGR2RGB, assumed='bgr8, the order of OpenCV'),
    '8UC4': Encoding(4, 'u1', cv2.COLOR_BGRA2RGB, assumed='bgra8, the order of OpenCV'),
    '16UC1': Encoding(1, 'u2', cv2.COLOR_GRAY2RGB, assumed='mono16; a depth image belongs on depth_in'),
    '16UC3': Encoding(3, 'u2', cv2.COLOR_BGR2RGB, assumed='bgr16, the order of OpenCV'),
    '16UC4': Encoding(4, 'u2', cv2.COLOR_BGRA2RGB, assumed='bgra16, the order of OpenCV'),
}
"""What a colour or grey image may be."""

DEPTH_ENCODINGS = {'16UC1': Encoding(1, 'u2'), 'mono16': Encoding(1, 'u2'), '32FC1': Encoding(1, 'f4')}
"""What a depth image may be (REP-118): integers are millimetres, floats metres."""


def encoding_name(written: str, encodings: dict[str, Encoding]) -> str:
    """Return the name in `encodings` that a message means, whatever its case. Raises MessageError for others."""
    word = written.strip(' \0')
    for name in (word, word.lower(), word.upper()):
        if name in encodings:
            return name
    raise MessageError(f'encoding {written[:40]!r} is not supported (known: {", ".join(encodings)})')


def pixels_of(message: Any, encodings: dict[str, Encoding]) -> np.ndarray:
    """Return the pixels of an Image as (h, w) or (h, w, channels), in this machine's byte order.

    They share the message's memory where they can, which is where rows have no padding and bytes their order. Rows of
    colour that lie behind those of brightness are rows of the answer. Raises MessageError with the reason when the
    encoding is not one of `encodings` or the sizes don't agree with each other.
    """
    encoding = encodings[encoding_name(message.encoding, encodings)]
    height, width, step = message.height, message.width, message.step
    check_size(height, width)
    if (encoding.channels == 2 or encoding.chroma_rows == 0.5) and width % 2:
        raise MessageError(f'{message.encoding} has pixels in pairs, but a row has {width}')
    if encoding.chroma_rows:
        height = _planar_rows(message, encoding.chroma_rows)
        if height % 3:
            raise MessageError(f'{message.encoding} has rows in pairs, but the image has {message.height}')
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


def _planar_rows(message: Any, chroma_rows: float) -> int:
    """Return the rows of both planes: some drivers give these as the height, others, as they should, the picture's."""
    rows = round(message.height * (1.0 + chroma_rows))
    return int(message.height) if len(message.data) == message.height * message.step else rows


def rgb_by_opencv(pixels: np.ndarray, encoding: str) -> np.ndarray:
    """Return pixels of one of COLOUR_ENCODINGS, as `pixels_of` has them, as (h, w, 3) uint8 RGB.

    The whole range of 16 bits is white, as in cv_bridge: a camera of 12 bits has to fill it or comes out dark.
    """
    layout = COLOUR_ENCODINGS[encoding]
    if layout.chroma_rows == 2.0:
        return _rgb_from_nv24(pixels)
    rgb = pixels if layout.to_rgb is None else cv2.cvtColor(pixels, layout.to_rgb)
    return rgb if rgb.dtype == np.uint8 else whole_range(rgb)


def _rgb_from_nv24(rows: np.ndarray) -> np.ndarray:
    height, width = len(rows) // 3, rows.shape[1]
    chroma = rows[height:].reshape(height, width, 2)
    yuv = np.dstack([rows[:height], chroma]).astype(np.float32)
    rgb = cv2.transform(yuv - np.array([16, 128, 128], np.float32), _NV24)
    return np.asarray(rgb.clip(0, 255).round().astype(np.uint8))


def check_size(height: int, width: int) -> None:
    """Raise MessageError for an image without pixels, or with more than anybody sends."""
    if height == 0 or width == 0:
        raise MessageError(f'image of {width} x {height} pixels is empty')
    if height * width > MAX_PIXELS:
        raise MessageError(f'image of {width} x {height} pixels is larger than the {MAX_PIXELS} accepted')
