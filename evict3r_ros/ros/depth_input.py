# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth images of other sensors, as metres."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import Image

# encoding -> (type, metres for one of its units); REP-118: 32FC1 in metres, 16UC1 in millimetres
_ENCODINGS = {'32FC1': ('f4', 1.0), '16UC1': ('u2', 1e-3), 'mono16': ('u2', 1e-3)}


def depth_from_image(message: Image) -> np.ndarray:
    """Return a depth image as (h, w) float32 metres, NaN or 0 where invalid.

    Raises ValueError with the reason for another encoding, or sizes that do not agree with each other.
    """
    if message.encoding not in _ENCODINGS:
        raise ValueError(f'encoding {message.encoding!r} is none of depth ({", ".join(_ENCODINGS)})')
    kind, unit = _ENCODINGS[message.encoding]
    dtype = np.dtype(('>' if message.is_bigendian else '<') + kind)
    height, width, step = message.height, message.width, message.step
    if not height or not width or step < width * dtype.itemsize or len(message.data) != height * step:
        raise ValueError(f'{width} x {height} pixels in rows of {step} bytes do not fit {len(message.data)} bytes of data')
    rows = np.frombuffer(message.data, np.uint8).reshape(height, step)[:, :width * dtype.itemsize]
    return np.ascontiguousarray(rows).view(dtype).astype(np.float32) * np.float32(unit)
