# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rotations, poses and pinhole cameras, without ROS and without a network.

Conventions: ``a_from_b`` is a 4 x 4 matrix that takes homogeneous points of frame b to frame a. Optical frames are
OpenCV's (x right, y down, z forward), body frames REP-103's (x forward, y left, z up). Quaternions are xyzw.
Pixel (u, v) counts columns and rows from 0, and integers are the pixels' positions.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch

Map = TypeVar('Map', np.ndarray, torch.Tensor)
"""A map of numbers (H, W), or of vectors (H, W, n)."""

BODY_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
"""REP-103 body axes from the optical axes of a camera that looks along the body's x."""

MIN_FOV, MAX_FOV = math.radians(1.0), math.radians(179.0)
"""Fields of view are held inside these: a network that has not been trained may answer 0, and tan would not."""


def matrix_from_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """Return the rotation (3, 3) of a quaternion xyzw (4,) of any length but zero. Raises ValueError for that."""
    x, y, z, w = np.asarray(quaternion, dtype=np.float64)
    square = x * x + y * y + z * z + w * w
    if not square > 0.0:
        raise ValueError('a quaternion of length zero is no rotation')
    s = 2.0 / square
    return np.array(
        [
            [1.0 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
            [s * (x * y + z * w), 1.0 - s * (x * x + z * z), s * (y * z - x * w)],
            [s * (x * z - y * w), s * (y * z + x * w), 1.0 - s * (x * x + y * y)],
        ]
    )


def quaternion_from_matrix(rotation: np.ndarray) -> np.ndarray:
    """Return the unit quaternion xyzw (4,) with w >= 0 of a rotation (3, 3).

    The four squares 4 q_i^2 are read off the diagonal and the largest is the divisor, so no rotation is near a
    division by zero (Shepperd's method).
    """
    r = np.asarray(rotation, dtype=np.float64)[:3, :3]
    t = np.trace(r)
    squares = np.array([1.0 + 2.0 * r[0, 0] - t, 1.0 + 2.0 * r[1, 1] - t, 1.0 + 2.0 * r[2, 2] - t, 1.0 + t])
    largest = int(np.argmax(squares))
    if largest == 3:
        q = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], squares[3]])
    else:
        i, j, k = largest, (largest + 1) % 3, (largest + 2) % 3
        q = np.empty(4)
        q[i], q[j], q[k], q[3] = squares[i], r[j, i] + r[i, j], r[k, i] + r[i, k], r[k, j] - r[j, k]
    q /= np.linalg.norm(q)
    return -q if q[3] < 0.0 else q


def transform(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Return the (4, 4) matrix of a rotation (3, 3) and a translation (3,)."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = translation
    return matrix


def invert(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse of a rigid (4, 4) transform."""
    rotation = matrix[:3, :3].T
    return transform(rotation, -rotation @ matrix[:3, 3])


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Return axis times angle (3,), in radians up to pi, of a rotation (3, 3)."""
    quaternion = quaternion_from_matrix(rotation)
    sine = float(np.linalg.norm(quaternion[:3]))
    # The angle over its sine has the limit 2 at no rotation.
    return quaternion[:3] * (2.0 if sine < 1e-9 else 2.0 * math.atan2(sine, quaternion[3]) / sine)


def rotation_from_vector(vector: np.ndarray) -> np.ndarray:
    """Return the rotation (3, 3) about a vector (3,) by its length in radians; the inverse of ``rotation_vector``."""
    half = 0.5 * float(np.linalg.norm(vector))
    share = 0.5 if half < 1e-9 else math.sin(half) / (2.0 * half)
    return matrix_from_quaternion(np.array([*(share * np.asarray(vector, dtype=np.float64)), math.cos(half)]))


def interpolate_pose(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Return the (4, 4) pose at a share, 0 to 1, of the way: straight on, and turning evenly about one axis (slerp)."""
    turn = rotation_vector(first[:3, :3].T @ second[:3, :3])
    return transform(
        first[:3, :3] @ rotation_from_vector(share * turn), (1.0 - share) * first[:3, 3] + share * second[:3, 3]
    )


def skew(vector: np.ndarray) -> np.ndarray:
    """Return the (3, 3) matrix whose product with another vector is the cross product with it."""
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def constant_twist(motion: np.ndarray) -> np.ndarray:
    """Return the (6,) linear and angular motion that, held for one unit of time, makes a (4, 4) rigid motion.

    In the axes of the moving frame: the logarithm of SE(3) (Lynch and Park, Modern Robotics, eq. 3.91).
    """
    turn = rotation_vector(motion[:3, :3])
    angle = float(np.linalg.norm(turn))
    cross = skew(turn)
    # (1 - angle / 2 cot(angle / 2)) / angle^2, with its limit at no rotation.
    share = 1.0 / 12.0 if angle < 1e-4 else (1.0 - 0.5 * angle / math.tan(0.5 * angle)) / angle**2
    linear = (np.eye(3) - 0.5 * cross + share * cross @ cross) @ motion[:3, 3]
    return np.concatenate([linear, turn])


def motion_of_twist(twist: np.ndarray) -> np.ndarray:
    """Return the (4, 4) rigid motion that a (6,) linear and angular twist makes in one unit of time.

    In the axes of the moving frame: the exponential of SE(3) (Lynch and Park, Modern Robotics, eq. 3.88), the inverse
    of ``constant_twist``.
    """
    turn = np.asarray(twist[3:], dtype=np.float64)
    angle = float(np.linalg.norm(turn))
    cross = skew(turn)
    # (1 - cos angle) / angle^2 and (angle - sin angle) / angle^3, with their limits at no rotation.
    small = angle < 1e-4
    first = 0.5 if small else (1.0 - math.cos(angle)) / angle**2
    second = 1.0 / 6.0 if small else (angle - math.sin(angle)) / angle**3
    along = np.eye(3) + first * cross + second * cross @ cross
    return transform(rotation_from_vector(turn), along @ np.asarray(twist[:3], dtype=np.float64))


def world_from_camera(pose_encoding: np.ndarray) -> np.ndarray:
    """Return the (4, 4) pose of a camera in the world, which is the stream's first camera.

    ``pose_encoding`` (9,): translation 3, quaternion xyzw 4, vertical and horizontal field of view 2 (radians), of the
    transform camera-from-world.
    """
    encoding = np.asarray(pose_encoding, dtype=np.float64)
    return invert(transform(matrix_from_quaternion(encoding[3:7]), encoding[:3]))


def intrinsics(pose_encoding: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the camera matrix K (3, 3) for an image of ``size`` (height, width) from a pose encoding (9,)."""
    height, width = size
    fov_y, fov_x = np.clip(np.asarray(pose_encoding, dtype=np.float64)[7:9], MIN_FOV, MAX_FOV)
    return np.array(
        [
            [width / 2.0 / math.tan(fov_x / 2.0), 0.0, width / 2.0],
            [0.0, height / 2.0 / math.tan(fov_y / 2.0), height / 2.0],
            [0.0, 0.0, 1.0],
        ]
    )


def unproject(depth: Map, camera_matrix: np.ndarray) -> Map:
    """Return points (H, W, 3) in the camera's optical frame from depth (H, W) along z and K (3, 3).

    Takes and returns a numpy array or a torch tensor, in the depth's precision. NaN depths give NaN points.
    """
    x, y = lateral_planes(depth, camera_matrix)
    return torch.stack((x, y, depth), dim=-1) if isinstance(depth, torch.Tensor) else np.stack((x, y, depth), axis=-1)


def lateral_planes(depth: Map, camera_matrix: np.ndarray) -> tuple[Map, Map]:
    """Return the x and the y, each (H, W), of ``unproject``: for those who want planes and not points."""
    height, width = depth.shape
    fx, fy, cx, cy = (float(camera_matrix[i][j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    u: Map
    v: Map
    if isinstance(depth, torch.Tensor):
        u = torch.arange(width, dtype=depth.dtype, device=depth.device)
        v = torch.arange(height, dtype=depth.dtype, device=depth.device)
    else:
        u, v = np.arange(width, dtype=depth.dtype), np.arange(height, dtype=depth.dtype)
    return depth * ((u - cx) / fx)[None, :], depth * ((v - cy) / fy)[:, None]


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return points (..., 3) moved by a (4, 4) transform, in the points' precision."""
    rotation = matrix[:3, :3].astype(points.dtype)
    moved: np.ndarray = points @ rotation.T + matrix[:3, 3].astype(points.dtype)
    return moved
