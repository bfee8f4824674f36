# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scale from the camera's known height over the ground: that height over the distance of the ground's plane."""

from __future__ import annotations

import numpy as np

from evict3r_ros.odometry.scale.frame import ScaleFrame, SurePixels
from evict3r_ros.odometry.scale.robust import MAD_TO_DEVIATION, Estimate, Window

_TRIALS = 2000  # planes through three points, of which few are level
_MOST_LEVEL = 300  # that are then compared with points
_MOST_COMPARED = 400  # of those: enough to rank planes by, and a frame has to wait for it
_LARGEST_TILT = np.cos(np.radians(10.0))  # of the ground against the robot's base
_TOLERANCE = 0.04  # of an inlier, as a share of the camera's height
_LEAST_SHARE = 0.1  # of all sure pixels that have to lie on the ground
_LOWER_SHARE = 0.3  # a plane below a table top wins with this share of its pixels
_INDEPENDENT = 25  # see from_depth


class CameraHeightScale:
    """Finds the ground in each frame by RANSAC, and takes the median over frames.

    height: of the camera's optical centre over the ground, in metres. The ground is a plane below the camera, level
    with the robot's base up to 10 degrees; of several, such as a floor and a table, it is the lowest.
    """

    def __init__(self, height: float) -> None:
        self._height = height
        self._window = Window(size=30, least=5)
        # Seeded, so that a bag gives the same scale each time.
        self._random = np.random.default_rng(0)

    def observe(self, frame: ScaleFrame) -> Estimate | None:
        """Take in a frame and return the scale, or None while it is unknown."""
        up = frame.base_from_camera[:3, :3].T @ np.array([0.0, 0.0, 1.0])
        ground = find_ground(SurePixels.of(frame).points(frame.K), up, self._random)
        if ground is not None:
            distance, spread = ground
            own = spread / distance / np.sqrt(_INDEPENDENT)
            self._window.add(Estimate(float(np.log(self._height / distance)), own))
        return self._window.estimate()

    def restart(self) -> None:
        """Forget what was seen of the network's ground: a new stream has a unit of its own."""
        self._window.clear()


def find_ground(points: np.ndarray, up: np.ndarray, random: np.random.Generator) -> tuple[float, float] | None:
    """Return distance of the ground from the camera and the spread of its points, or None where no ground is seen.

    points: (n, 3) in the camera's frame. up: (3,), of length 1, the direction that is up, in the same frame. RANSAC
    (Fischler and Bolles, 1981) over planes through three points, then least squares over the inliers.
    """
    below = points[points @ up < 0.0]
    if len(below) < 3 or len(below) < _LEAST_SHARE * len(points):
        return None
    corners = below[random.integers(0, len(below), (_TRIALS, 3))]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    normals = normals[lengths > 0] / lengths[lengths > 0, None]
    normals *= np.sign(normals @ up)[:, None]
    distances = -np.einsum('ij,ij->i', normals, corners[lengths > 0, 0])
    level = (normals @ up >= _LARGEST_TILT) & (distances > 0.0)
    normals, distances = normals[level][:_MOST_LEVEL], distances[level][:_MOST_LEVEL]
    if not len(normals):
        return None
    compared = below[:: -(-len(below) // _MOST_COMPARED)].astype(np.float32)
    off = normals.astype(np.float32) @ compared.T + distances[:, None].astype(np.float32)
    inliers = np.abs(off, out=off) <= (_TOLERANCE * distances[:, None]).astype(np.float32)
    counts = np.count_nonzero(inliers, axis=1)
    best = int(counts.argmax())
    # The floor under a table has points below the table's plane, and they count alone: a plane that merely tilts
    # through the best one shares its points.
    under = compared @ normals[best] + distances[best] < -2.0 * _TOLERANCE * distances[best]
    lower = np.count_nonzero(inliers[:, under], axis=1)
    if lower.max() >= max(_LOWER_SHARE * counts[best], _LEAST_SHARE * len(points) * len(compared) / len(below)):
        best = int(lower.argmax())
    return _refine(below, normals[best], float(distances[best]), up, _LEAST_SHARE * len(points))


def _refine(
    points: np.ndarray, normal: np.ndarray, distance: float, up: np.ndarray, least: float
) -> tuple[float, float] | None:
    for _ in range(3):
        inliers = points[np.abs(points @ normal + distance) <= _TOLERANCE * distance]
        if len(inliers) < max(3.0, least):
            return None
        middle = inliers.mean(axis=0)
        spread = inliers - middle
        normal = np.linalg.eigh(spread.T @ spread)[1][:, 0]  # of the smallest eigenvalue: across the plane
        normal = normal if normal @ up > 0 else -normal
        distance = -float(normal @ middle)
        if normal @ up < _LARGEST_TILT or distance <= 0.0:
            return None
    residuals = points[np.abs(points @ normal + distance) <= _TOLERANCE * distance] @ normal + distance
    return distance, MAD_TO_DEVIATION * float(np.median(np.abs(residuals)))
