# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras to draw in a scene, as frusta coloured by time."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

FRUSTUM_SHARE = 0.04
"""Default length of a drawn camera, as a share of the scene's extent."""


@dataclass(frozen=True)
class SceneCamera:
    """A camera to draw."""

    name: str
    """Name of its node in a scene file; unique in the scene."""
    world_from_camera: np.ndarray
    """(4, 4), OpenCV axes."""
    camera_matrix: np.ndarray
    """K (3, 3) of images of that size."""
    size: tuple[int, int]
    """(height, width) in pixels."""


def frustum_corners(camera: SceneCamera, depth: float) -> np.ndarray:
    """Return the image corners at a depth, (4, 3) in the optical frame, clockwise from the top left."""
    height, width = camera.size
    u = np.array([0.0, width, width, 0.0]) - 0.5
    v = np.array([0.0, 0.0, height, height]) - 0.5
    fx, fy, cx, cy = (camera.camera_matrix[i, j] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return depth * np.stack([(u - cx) / fx, (v - cy) / fy, np.ones(4)], axis=1)


def time_colours(count: int) -> np.ndarray:
    """Return (count, 3) uint8 RGB colours from blue to red."""
    levels = np.round(np.linspace(20, 235, max(count, 1))).astype(np.uint8)[:, None]
    return cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[:count, 0, ::-1]


def scene_extent(points: np.ndarray) -> float:
    """Return the diagonal of the box of points (n, 3) without outliers (5 % on each side), or 1 for a size of zero."""
    low, high = np.percentile(points, (5, 95), axis=0)
    extent = float(np.linalg.norm(high - low))
    return extent if extent > 0.0 else 1.0
