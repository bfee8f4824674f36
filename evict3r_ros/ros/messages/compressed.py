# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""JPEG and PNG, as `sensor_msgs/CompressedImage` carries them, decoded with care for what a driver broke."""

from __future__ import annotations

import re

import cv2
import numpy as np

from evict3r_ros.errors import MessageError
from evict3r_ros.io.encodings import check_size

_PNG = b'\x89PNG\r\n\x1a\n'
_JPEG = b'\xff\xd8'
_JPEG_END = b'\xff\xd9'
_PADDING = 1024  # what drivers append to a JPEG at most
_OTHERS = {
    'compressedDepth': ('compresseddepth', 'rvl'),
    'Theora': ('theora',),
    'H.264': ('h264', 'x264', 'avc'),
    'H.265': ('h265', 'hevc', 'x265'),
    'AV1': ('av1',),
    'VP8 or VP9': ('vp8', 'vp9'),
    'FFmpeg': ('ffmpeg',),
    'zstd': ('zstd', 'zlib', 'lz4'),
    'Draco': ('draco',),
    'JPEG XL': ('jxl', 'jpegxl'),
    'JPEG 2000': ('jp2', 'jpeg2000'),
    'WebP': ('webp',),
    'AVIF': ('avif',),
    'TIFF': ('tiff', 'tif'),
    'QOI': ('qoi',),
    'BMP': ('bmp',),
}
_SIGNATURES = {
    b'\x28\xb5\x2f\xfd': 'zstd',
    b'\x00\x00\x00\x01': 'H.264 or H.265',
    b'\x00\x00\x01': 'H.264 or H.265',
    b'DRACO': 'Draco',
    b'OggS': 'Theora',
    b'RIFF': 'WebP',
    b'II*\x00': 'TIFF',
    b'MM\x00*': 'TIFF',
    b'BM': 'BMP',
}
"""What the bytes of other kinds begin with."""


def decode(data: np.ndarray, written: str = '') -> tuple[np.ndarray, str]:
    """Return the image in JPEG or PNG bytes (n,) uint8 as pixels, and their encoding, one of COLOUR_ENCODINGS.

    The bytes say what they are. written: the message's `format`, free text that image_transport and drivers fill
    differently ('bayer_rggb8; jpeg compressed '): it is asked only whether one channel is a Bayer mosaic, and for the
    name of what is neither JPEG nor PNG. Raises MessageError with the reason.
    """
    # What OpenCV would do first is to allocate what the headers say, be it gigabytes.
    head = data[: len(_PNG)].tobytes()
    if head == _PNG:
        check_size(*_png_size(data))
    elif head.startswith(_JPEG):
        check_size(*_jpeg_size(data))
    else:
        raise MessageError(f'compressed image ({data.size} bytes) is {_kind(head, written)}')
    # IGNORE_ORIENTATION: an EXIF turn would move pixels away from where camera_info says they are.
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise MessageError(f'compressed image cannot be decoded: {error.err}') from error
    if pixels is None:
        raise MessageError(f'compressed image ({data.size} bytes) cannot be decoded')
    bits = 8 * pixels.itemsize
    pattern = re.search(r'bayer_(rggb|bggr|gbrg|grbg)', written.lower())
    if pattern is not None and pixels.ndim == 3 and _is_grey(pixels):
        pixels = np.ascontiguousarray(pixels[..., 0])
    if pixels.ndim == 3:
        return pixels, f'bgr{bits}'
    return pixels, f'mono{bits}' if pattern is None else f'{pattern[0]}{bits}'


def _is_grey(bgr: np.ndarray) -> bool:
    """Return whether all channels are the same: one channel that an encoder wrote three times."""
    return bool((bgr == bgr[..., :1]).all())


def _kind(head: bytes, written: str) -> str:
    """Return what an image that is neither JPEG nor PNG is, as far as its format or its first bytes say."""
    words = set(re.findall(r'[a-z0-9]+', written.lower()))
    kind = next((name for name, signs in _OTHERS.items() if words.intersection(signs)), '')
    kind = kind or next((name for start, name in _SIGNATURES.items() if head.startswith(start)), '')
    if not kind:
        return f'neither JPEG nor PNG (its format says {written[:60]!r})'
    return f'{kind}, and neither JPEG nor PNG: let image_transport republish it as raw, or the driver send JPEG'


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
