# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the conversion of messages costs: images in, depth and clouds out. No node and no network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypedDict

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from evict3r_ros import geometry
from evict3r_ros.io.encodings import COLOUR_ENCODINGS
from evict3r_ros.odometry.integrator import OdometryIntegrator
from evict3r_ros.odometry.scale import ScaleState
from evict3r_ros.ros.messages import conversions

SIZES = ((392, 518), (720, 1280))
"""Heights and widths: of the network's image, and of a camera's."""


class Row(TypedDict):
    """One conversion of one size: milliseconds, and bytes of the message's pixels."""

    what: str
    height: int
    width: int
    bytes: int
    median_ms: float
    p99_ms: float


_WARM_UP = 5
_IMAGES = ('rgb8', 'bgr8', 'bgra8', 'mono8', 'mono16', 'bgr16', 'bayer_rggb8', 'yuv422', 'yuyv')


def measure(repeats: int, progress: Callable[[], object] = lambda: None) -> list[Row]:
    """Return, for each conversion and size, its median and 99th percentile in milliseconds and the message's bytes."""
    rows: list[Row] = []
    for size in SIZES:
        for what, count, convert in _conversions(size):
            took = []
            for index in range(_WARM_UP + repeats):
                began = time.perf_counter()
                convert()
                if index >= _WARM_UP:
                    took.append(time.perf_counter() - began)
            median, p99 = np.percentile(took, (50, 99)) * 1e3
            rows.append(
                {
                    'what': what,
                    'height': size[0],
                    'width': size[1],
                    'bytes': count,
                    'median_ms': round(float(median), 3),
                    'p99_ms': round(float(p99), 3),
                }
            )
            progress()
    return rows


def conversions_measured() -> int:
    """Return how often `measure` calls progress()."""
    return sum(1 for size in SIZES for _ in _conversions(size))


def table(rows: list[Row]) -> str:
    """Return what was measured as Markdown."""
    lines = ['| conversion | pixels | MB | median | 99th percentile |', '|---|---|---|---|---|']
    lines += [
        f'| {row["what"]} | {row["width"]} x {row["height"]} | {row["bytes"] / 1e6:.2f} | '
        f'{row["median_ms"]:.2f} ms | {row["p99_ms"]:.2f} ms |'
        for row in rows
    ]
    return '\n'.join(lines)


def _conversions(size: tuple[int, int]) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Yield each conversion's name, the bytes of the message's pixels, and the conversion."""
    random, header = np.random.default_rng(0), Header(stamp=Time(sec=1, nanosec=2), frame_id='camera')
    height, width = size
    for encoding in _IMAGES:
        message = _random_image(encoding, size, random, header)
        yield f'image in, {encoding}', len(message.data), partial(conversions.rgb_from_image, message)
    smooth = cv2.resize(random.integers(0, 256, (height // 16, width // 16, 3), np.uint8), (width, height))
    jpeg = CompressedImage(header=header, format='jpeg', data=cv2.imencode('.jpg', smooth)[1].tobytes())
    yield 'image in, jpeg', len(jpeg.data), lambda: conversions.rgb_from_compressed(jpeg)
    depth_in = Image(header=header, height=height, width=width, encoding='16UC1', step=2 * width)
    depth_in.data.frombytes(random.integers(500, 8000, size).astype(np.uint16).tobytes())
    yield 'depth in, 16UC1', len(depth_in.data), lambda: conversions.depth_from_image(depth_in)

    depth = random.uniform(0.5, 5.0, size).astype(np.float32)
    depth[random.random(size) < 0.1] = np.nan
    rgb = random.integers(0, 256, (*size, 3), np.uint8)
    K = np.array([[0.7 * width, 0.0, width / 2], [0.0, 0.7 * width, height / 2], [0.0, 0.0, 1.0]])
    yield 'depth out, 32FC1', depth.nbytes, lambda: conversions.image_from_map(depth, header)
    yield 'image out, rgb8', rgb.nbytes, lambda: conversions.image_from_rgb(rgb, header)

    def cloud_again() -> PointCloud2:
        x, y = geometry.lateral_planes(depth, K)
        return conversions.cloud_from_planes(x, y, depth, rgb, header, again=cloud)

    x, y = geometry.lateral_planes(depth, K)
    cloud = conversions.cloud_from_planes(x, y, depth, rgb, header)
    yield 'cloud out', len(cloud.data), lambda: conversions.cloud_from_planes(x, y, depth, rgb, header)
    yield (
        'cloud out, memory used again',
        len(cloud.data),
        (lambda: conversions.cloud_from_planes(x, y, depth, rgb, header, again=cloud)),
    )
    yield ('cloud out, unprojection included', len(cloud.data), cloud_again)
    state = OdometryIntegrator(np.eye(4)).advance(1, np.eye(4), ScaleState())
    yield (
        'odometry and transform out',
        0,
        lambda: (
            conversions.odometry_from_state(state, header, 'base_link'),
            conversions.transform_from_pose(state.odom_from_child, header, 'base_link'),
        ),
    )


def _random_image(encoding: str, size: tuple[int, int], random: np.random.Generator, header: Header) -> Image:
    layout = COLOUR_ENCODINGS[encoding]
    step = size[1] * layout.channels * np.dtype(layout.dtype).itemsize
    message = Image(header=header, height=size[0], width=size[1], encoding=encoding, step=step)
    message.data.frombytes(random.integers(0, 256, size[0] * step, np.uint8).tobytes())
    return message
