# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A camera's calibration as numbers, for the images that it sends: binned, cropped (REP-104), or moving a little.

Pixel centres lie at integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from evict3r_ros.camera.lens import EQUIDISTANT

_GRID = 9
"""Rays a side of the image for which two calibrations are compared."""
_SAME_RATIO = 0.02
_LEAST, _LARGEST = 0.1, 1e6
"""Pixels: focal lengths below, and numbers of a camera matrix beyond, are broken."""
_LEAST_FOCAL, _MOST_FOCAL = 0.2, 5.0
"""Of P over that of K: beyond, the rectified image would show next to nothing."""
_MOST_MOVED = 0.2
"""Of the image's sides, from the centre of K to that of P, and to the image's."""
_SHORTEST = 0.05
"""Focal length over the longer side: a fisheye of 180 degrees has six times as much, a K for sides of 1 much less."""


@dataclass(frozen=True)
class SensorWindow:
    """What part of the sensor an image shows: the region first, binned then (REP-104)."""

    binning: tuple[int, int] = (1, 1)
    """Sensor pixels in a pixel: (vertical, horizontal)."""
    offset: tuple[int, int] = (0, 0)
    """(top, left) of the region, in sensor pixels."""
    region: tuple[int, int] = (0, 0)
    """(height, width) of the region, 0: all that there is."""


WHOLE_SENSOR = SensorWindow()


@dataclass(frozen=True)
class Calibration:
    """Hashable and comparable, so that a change is noticed."""

    size: tuple[int, int]
    """(height, width) of the sensor in pixels."""
    model: str
    """A key of lens.COEFFICIENTS."""
    K: tuple[float, ...]
    """The camera matrix: 9 numbers, row by row."""
    D: tuple[float, ...] = ()
    """Distortion coefficients."""
    P: tuple[float, ...] = (0.0,) * 12
    """12 numbers, row by row, or zeros: the left 3 x 3 is the camera matrix wanted for the rectified image."""
    window: SensorWindow = WHOLE_SENSOR
    """K and P are those of the whole sensor."""
    assumed: str = field(default='', compare=False)
    """What had to be assumed about it, in words."""

    def of_images(self, size: tuple[int, int]) -> Calibration | None:
        """Return the calibration of images of a size (height, width), or None if it is for others.

        A driver that shrinks or crops images may also say the size that it sends, with K for that.
        """
        if not all(self.size):
            assumed = f'it has no size, and is taken for that of images of {size[1]} x {size[0]} pixels'
            return replace(
                self, size=size, window=WHOLE_SENSOR, assumed='; '.join(filter(None, (self.assumed, assumed)))
            )
        (down, across), (top, left) = self.window.binning, self.window.offset
        height, width = (region or whole for region, whole in zip(self.window.region, self.size, strict=True))
        # Sizes that binning does not divide are rounded either way.
        is_window = abs(height / down - size[0]) < 1.0 and abs(width / across - size[1]) < 1.0
        if self.window == WHOLE_SENSOR or not is_window:
            return replace(self, window=WHOLE_SENSOR) if self.size == size else None
        # A pixel's centre is that of the sensor pixels in it.
        shift = np.array(
            [[1 / across, 0.0, (0.5 - left) / across - 0.5], [0.0, 1 / down, (0.5 - top) / down - 0.5], [0.0, 0.0, 1.0]]
        )
        K, P = np.reshape(self.K, (3, 3)), np.reshape(self.P, (3, 4))
        return replace(
            self,
            size=size,
            K=tuple((shift @ K).ravel().tolist()),
            P=tuple((shift @ P).ravel().tolist()) if P.any() else self.P,
            window=WHOLE_SENSOR,
        )

    def of_rectified_images(self) -> Calibration:
        """Return the calibration of what somebody else has rectified by this one: P is its K, and nothing distorts."""
        P = np.reshape(self.P, (3, 4))[:, :3]
        foreign = self.foreign_P()
        K = P.ravel().tolist() if P.any() and not foreign else self.K
        assumed = '; '.join(filter(None, (self.assumed, foreign and f'{foreign}: K is used instead')))
        return replace(self, K=tuple(K), D=(), P=(0.0,) * 12, assumed=assumed)

    def foreign_P(self) -> str:
        """Return why P cannot be that of these images once rectified, '' if it can: it is set, and contradicts K."""
        P, K = np.reshape(self.P, (3, 4))[:, :3], np.reshape(self.K, (3, 3))
        if not P.any() or not is_camera_matrix(K):
            return ''
        if not is_camera_matrix(P):
            return 'P is not a camera matrix'
        ratios = np.array([P[0, 0] / K[0, 0], P[1, 1] / K[1, 1]])
        if not (ratios.min() > _LEAST_FOCAL and ratios.max() < _MOST_FOCAL):
            return f'the focal length in P is {ratios[0]:.2g} of that in K'
        centres = np.array([P[0, 2] / K[0, 2], P[1, 2] / K[1, 2]]) if min(K[0, 2], K[1, 2]) > 1.0 else ratios + 1.0
        scale = ratios.mean()
        alike = np.abs(np.concatenate([ratios, centres]) / scale - 1.0).max() < _SAME_RATIO
        # A wider or narrower view keeps its centre; where that shrinks as well, the whole image is another.
        if alike and abs(scale - 1.0) > 2 * _SAME_RATIO:
            return f'P is of images {scale:.2g} times as large'
        moved = np.abs(P[:2, 2] - K[:2, 2]) / np.maximum((self.size[1], self.size[0]), 1)
        return 'the centre of P is not that of the images' if moved.max() > _MOST_MOVED else ''

    def needless_P(self) -> str:
        """Return why P would only shrink or crop these images, '' if there is something to rectify or P is K."""
        P, K = np.reshape(self.P, (3, 4))[:, :3], np.reshape(self.K, (3, 3))
        if any(self.D) or not P.any() or np.abs(P[:2] - K[:2]).max() <= _SAME_RATIO * K[0, 0]:
            return ''
        return 'P differs from K, and without distortion there is nothing to rectify'

    def pixels_apart(self, other: Calibration) -> float:
        """Return by how many pixels at most the two place what is seen differently, before and after rectification."""
        if self == other:
            return 0.0
        if self.size != other.size or self.window != other.window:
            return float('inf')
        height, width = self.size
        v, u = np.meshgrid(np.linspace(0, height - 1, _GRID), np.linspace(0, width - 1, _GRID), indexing='ij')
        pixels = np.stack([u.ravel(), v.ravel(), np.ones(u.size)])
        rays = np.ascontiguousarray((np.linalg.inv(np.reshape(self.K, (3, 3))) @ pixels).T)
        apart = [np.abs(one - two).max() for one, two in zip(self._seen(rays), other._seen(rays), strict=True)]
        # Broken coefficients put a point nowhere.
        return float(np.nan_to_num(np.max(apart), nan=np.inf, posinf=np.inf))

    def _seen(self, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels (n, 2) at which rays (n, 3) of z 1 are seen, and are to be seen once rectified."""
        K, P, zero = np.reshape(self.K, (3, 3)), np.reshape(self.P, (3, 4))[:, :3], np.zeros(3)
        D = np.array(self.D if len(self.D) else (0.0,) * 4)
        if self.model == EQUIDISTANT:
            raw = cv2.fisheye.projectPoints(rays[:, None], zero, zero, K, D)[0][:, 0]
        else:
            raw = cv2.projectPoints(rays, zero, zero, K, D)[0][:, 0]
        return raw, (rays @ (P if P.any() else K).T)[:, :2]


def is_camera_matrix(matrix: np.ndarray) -> bool:
    """Return whether a (3, 3) matrix can be a camera's."""
    # Written so that NaN is refused as well.
    plausible = np.abs(matrix).max() < _LARGEST and min(matrix[0, 0], matrix[1, 1]) > _LEAST
    return bool(plausible) and np.array_equal(matrix[2], (0, 0, 1))


def is_of_no_pixels(K: Sequence[float], size: tuple[int, int]) -> bool:
    """Return whether the focal length in K (9 numbers) is too short to be in pixels of a sensor (height, width)."""
    return min(K[0], K[4]) < _SHORTEST * max(size)


def is_off_centre(K: Sequence[float], size: tuple[int, int]) -> bool:
    """Return whether the centre in K (9 numbers) is far from that of a sensor (height, width); False without a size."""
    return all(size) and max(abs(K[2] / size[1] - 0.5), abs(K[5] / size[0] - 0.5)) > _MOST_MOVED
