# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""RGB images as messages of any encoding, written without OpenCV, which is what reads them."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

HEADER = Header(stamp=Time(sec=1403638538, nanosec=577829377), frame_id='cam0')


def rows_message(rows: np.ndarray, encoding: str, width: int, big: bool = False, padding: int = 0) -> Image:
    """Return a message of rows that are already in the encoding's memory layout, (h, bytes a row) uint8."""
    padded = np.concatenate([rows, np.full((rows.shape[0], padding), 0xAB, np.uint8)], axis=1)
    return Image(
        header=HEADER,
        height=rows.shape[0],
        width=width,
        encoding=encoding,
        is_bigendian=big,
        step=padded.shape[1],
        data=padded.tobytes(),
    )


def encode(rgb: np.ndarray, encoding: str, big: bool = False, padding: int = 0) -> Image:
    """Return an RGB image (h, w, 3) uint8 as a message; grey is the red channel, alpha is 77, white is all 16 bits."""
    if encoding.startswith('nv'):
        return _semi_planar(rgb, encoding, padding)
    name = {'UC1': 'mono', 'UC3': 'bgr', 'UC4': 'bgra'}.get(encoding.lstrip('0123456789'), encoding)
    name = name.rstrip('0123456789') if not encoding.startswith('yuv') else encoding
    if name.startswith('bayer_'):
        pixels = mosaic(rgb, name.removeprefix('bayer_'))
    elif name in ('yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv'):
        pixels = _yuv422(rgb, luma_first=name in ('yuv422_yuy2', 'yuyv'))
    else:
        alpha = np.full_like(rgb[..., :1], 77)
        pixels = {
            'rgb': rgb,
            'bgr': rgb[..., ::-1],
            'rgba': np.concatenate([rgb, alpha], 2),
            'bgra': np.concatenate([rgb[..., ::-1], alpha], 2),
            'mono': rgb[..., 0],
        }[name]
    if '16' in encoding:
        pixels = (pixels.astype(np.uint16) * 257).astype('>u2' if big else '<u2')
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(rgb.shape[0], -1)
    return rows_message(rows, encoding, rgb.shape[1], big, padding)


def mosaic(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """Return what a sensor behind a Bayer filter sees; pattern: its first row, then its second, such as 'rggb'."""
    channel = np.array(['rgb'.index(letter) for letter in pattern]).reshape(2, 2)
    rows, columns = np.indices(rgb.shape[:2])
    return np.take_along_axis(rgb, channel[rows % 2, columns % 2][..., None], 2)[..., 0]


def _yuv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Y, U and V (h, w): ITU-R BT.601 in studio range."""
    r, g, b = np.moveaxis(rgb.astype(np.float64) / 255, 2, 0)
    y = 16 + 65.481 * r + 128.553 * g + 24.966 * b
    return y, 128 - 37.797 * r - 74.203 * g + 112 * b, 128 + 112 * r - 93.786 * g - 18.214 * b


def _semi_planar(rgb: np.ndarray, encoding: str, padding: int) -> Image:
    """Return a plane of Y and behind it one of U and V by turns, of 2 x 2 pixels each or, in nv24, of every pixel."""
    y, u, v = _yuv(rgb)
    height, width = y.shape
    if encoding != 'nv24':
        u, v = (plane.reshape(height // 2, 2, width // 2, 2).mean((1, 3)) for plane in (u, v))
    chroma = np.stack([v, u] if encoding == 'nv21' else [u, v], 2).reshape(-1, width)
    message = rows_message(np.concatenate([y, chroma]).round().astype(np.uint8), encoding, width, padding=padding)
    message.height = height
    return message


def _yuv422(rgb: np.ndarray, luma_first: bool) -> np.ndarray:
    """Return (h, w, 2), with the colour of each pair's mean."""
    y, u, v = _yuv(rgb)
    chroma = np.empty_like(y)
    chroma[:, 0::2], chroma[:, 1::2] = (plane.reshape(len(rgb), -1, 2).mean(2) for plane in (u, v))
    return np.stack([y, chroma] if luma_first else [chroma, y], 2).round().astype(np.uint8)
