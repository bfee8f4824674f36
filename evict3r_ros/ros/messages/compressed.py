# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""JPEG and PNG, as `sensor_msgs/CompressedImage` carries them, decoded with care for what a driver broke."""

from __future__ import annotations

import cv2
import numpy as np

from evict3r_ros.errors import MessageError
from evict3r_ros.io.encodings import check_size

_PNG = b'\x89PNG\r\n\x1a\n'
_JPEG = b'\xff\xd8'
_JPEG_END = b'\xff\xd9'
_PADDING = 1024  # what drivers append to a JPEG at most


def decode(data: np.ndarray) -> np.ndarray:
    """Return the image in JPEG or PNG bytes (n,) uint8 as (h, w, 3) uint8 RGB; raises MessageError with the reason.

    The bytes say what they are; `format` is free text that image_transport and drivers fill differently.
    """
    # What OpenCV would do first is to allocate what the headers say, be it gigabytes.
    head = data[: len(_PNG)].tobytes()
    if head == _PNG:
        check_size(*_png_size(data))
    elif head.startswith(_JPEG):
        check_size(*_jpeg_size(data))
    else:
        raise MessageError(f'compressed image ({data.size} bytes) is neither JPEG nor PNG')
    # IGNORE_ORIENTATION: an EXIF turn would move pixels away from where camera_info says they are.
    try:
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise MessageError(f'compressed image cannot be decoded: {error.err}') from error
    if bgr is None:
        raise MessageError(f'compressed image ({data.size} bytes) cannot be decoded')
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _png_size(data: np.ndarray) -> tuple[int, int]:
    """Return (height, width) of a PNG whose chunks, each of them, lie within its bytes (ISO/IEC 15948, 5.3)."""
    at, size = len(_PNG), data.size
    while at + 12 <= size:
        length, kind = int.from_bytes(data[at : at + 4].tobytes(), 'big'), data[at + 4 : at + 8].tobytes()
        at += 12 + length
        if kind == b'IEND' and at <= size and size >= 24:
            return int.from_bytes(data[20:24].tobytes(), 'big'), int.from_bytes(data[16:20].tobytes(), 'big')
    raise MessageError(f'compressed image ({size} bytes of PNG) is truncated or corrupt')


def _jpeg_size(data: np.ndarray) -> tuple[int, int]:
    """Return (height, width) of a JPEG that has an end: OpenCV fills the missing rest of one with grey."""
    if _JPEG_END not in data[-_PADDING:].tobytes():
        raise MessageError(f'compressed image ({data.size} bytes of JPEG) is truncated')
    # Segments: 0xFF, a marker, and the length of what follows, itself included (ITU T.81, annex B).
    at = len(_JPEG)
    while at + 9 <= data.size and data[at] == 0xFF:
        marker = int(data[at + 1])
        if marker == 0xFF:  # fill
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # without content
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # the frame's header
            return int(data[at + 5]) << 8 | int(data[at + 6]), int(data[at + 7]) << 8 | int(data[at + 8])
        else:
            at += 2 + (int(data[at + 2]) << 8 | int(data[at + 3]))
    raise MessageError(f'compressed image ({data.size} bytes of JPEG) is truncated or corrupt')
