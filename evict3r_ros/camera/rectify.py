# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Undistortion of camera images with the numbers a calibration has (those of `sensor_msgs/CameraInfo`).

The rectified image keeps the camera's own axes: a stereo rotation is left out, because the image goes on carrying
the camera's frame. Pixel centres lie at integers.
"""

from __future__ import annotations

import cv2
import numpy as np

from evict3r_ros.camera.calibration import Calibration, is_camera_matrix
from evict3r_ros.camera.lens import COEFFICIENTS, EQUIDISTANT

_LEAST_SEEN = 0.1
"""Share of a rectified image that must show something, or P is not of this camera, or D of no lens."""


class Rectifier:
    """Undistorts images of one calibration; the maps are computed once.

    K: (3, 3) camera matrix of the rectified image. valid: (h, w) bool, False where the rectified image shows
    nothing the camera saw, or None where all of it is valid. assumed: what had to be, in words: K stands in for a P
    that contradicts it, and a D that leaves nothing of the image is left out. Raises ValueError for a calibration that
    cannot be.
    """

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        K = np.array(calibration.K, np.float64).reshape(3, 3)
        if not is_camera_matrix(K):
            raise ValueError(f'K = {K.ravel().tolist()} is not a camera matrix')
        P = np.array(calibration.P, np.float64).reshape(3, 4)[:, :3]
        D = _coefficients(calibration)
        foreign = calibration.foreign_P() or calibration.needless_P()
        self.K = P if P.any() and not foreign else K
        self._map(K, D)
        if self._shows_nothing() and not np.array_equal(self.K, K):
            foreign = 'with P a rectified image shows next to nothing of what the camera sees'
            self.K = K
            self._map(K, D)
        assumed = [f'{foreign}: K is used instead'] if foreign else []
        if self._shows_nothing():
            assumed.append('its distortion maps the image outside of itself: the image is taken for undistorted')
            self._map(K, np.zeros_like(D))
        self.assumed = '; '.join(assumed)

    def _shows_nothing(self) -> bool:
        return self.valid is not None and bool(self.valid.mean() < _LEAST_SEEN)

    def _map(self, K: np.ndarray, D: np.ndarray) -> None:
        """Compute where each pixel of the rectified image comes from."""
        self.valid: np.ndarray | None = None
        self._maps: tuple[np.ndarray, np.ndarray] | None = None
        if not D.any() and np.array_equal(self.K, K):
            return
        height, width = self.calibration.size
        fisheye = self.calibration.model == EQUIDISTANT
        build = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
        x, y = build(K, D, np.eye(3), self.K, (width, height), cv2.CV_32FC1)
        valid = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
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
