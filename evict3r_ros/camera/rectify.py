# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Undistortion of camera images with the numbers a calibration has (those of `sensor_msgs/CameraInfo`).

The rectified image keeps the camera's own axes: a stereo rotation is left out, because the image goes on carrying
the camera's frame. Pixel centres lie at integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# model -> the numbers of coefficients OpenCV takes for it; none, or all zero, means no distortion
COEFFICIENTS = {'plumb_bob': (4, 5), 'rational_polynomial': (8, 12, 14), 'equidistant': (4,)}


@dataclass(frozen=True)
class Calibration:
    """A camera's calibration. Hashable and comparable, so that a change is noticed."""

    size: tuple[int, int]
    """(height, width) in pixels."""
    model: str
    """A key of COEFFICIENTS."""
    K: tuple[float, ...]
    """The camera matrix: 9 numbers, row by row."""
    D: tuple[float, ...] = ()
    """Distortion coefficients."""
    P: tuple[float, ...] = (0.0,) * 12
    """12 numbers, row by row, or zeros: the left 3 x 3 is the camera matrix wanted for the rectified image."""


class Rectifier:
    """Undistorts images of one calibration; the maps are computed once.

    K: (3, 3) camera matrix of the rectified image. valid: (h, w) bool, False where the rectified image shows
    nothing the camera saw, or None where all of it is valid. Raises ValueError for a calibration that cannot be.
    """

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        K = _camera_matrix(calibration.K, 'K')
        P = np.array(calibration.P, np.float64).reshape(3, 4)[:, :3]
        self.K = _camera_matrix(P.ravel(), 'P') if P.any() else K
        self.valid: np.ndarray | None = None
        self._maps: tuple[np.ndarray, np.ndarray] | None = None
        D = _coefficients(calibration)
        if not D.any() and np.array_equal(self.K, K):
            return
        height, width = calibration.size
        fisheye = calibration.model == 'equidistant'
        build = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
        x, y = build(K, D, np.eye(3), self.K, (width, height), cv2.CV_32FC1)
        valid = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
        if not valid.any():
            raise ValueError(f'calibration of {calibration.model} maps every pixel outside the image')
        self.valid = None if valid.all() else valid
        # Fixed-point maps: a quarter of the memory traffic of float ones, off by at most 1/64 pixel.
        self._maps = cv2.convertMaps(x, y, cv2.CV_16SC2)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the rectified (h, w, 3) image; black where `valid` is False."""
        if image.shape[:2] != self.calibration.size:
            raise ValueError(
                f'image of {image.shape[1]} x {image.shape[0]} pixels, but the calibration is for '
                f'{self.calibration.size[1]} x {self.calibration.size[0]}'
            )
        if self._maps is None:
            return image
        return cv2.remap(image, *self._maps, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def _camera_matrix(values: tuple[float, ...] | np.ndarray, name: str) -> np.ndarray:
    K = np.array(values, np.float64).reshape(3, 3)
    if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0 and np.array_equal(K[2], (0, 0, 1))):
        raise ValueError(f'{name} = {K.ravel().tolist()} is not a camera matrix')
    return K


def _coefficients(calibration: Calibration) -> np.ndarray:
    known = COEFFICIENTS.get(calibration.model)
    if known is None:
        raise ValueError(f'distortion model {calibration.model!r} is not supported (known: {", ".join(COEFFICIENTS)})')
    D = np.array(calibration.D, np.float64)
    if not np.isfinite(D).all():
        raise ValueError(f'distortion coefficients {calibration.D} are not finite')
    if not D.any():
        return np.zeros(known[0])
    if D.size not in known:
        raise ValueError(
            f'{D.size} coefficients do not fit {calibration.model} (it has '
            f'{" or ".join(str(count) for count in known)})'
        )
    return D
