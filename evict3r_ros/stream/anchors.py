# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the stream tells the cache of the camera: how far it moved, and whether it sees something new."""

from __future__ import annotations

import numpy as np

from evict3r_ros import geometry
from evict3r_ros.cache import KeyValueCache
from evict3r_ros.network import NetworkOutput

GRID = 24
"""Points of a view, along its longer side."""
LEAST_OVERLAP = 0.2
"""OVGGT (arXiv 2603.05959): a frame becomes an anchor when less of the newest anchor's points fall inside its image."""


def motion(world_from_earlier: np.ndarray, world_from_later: np.ndarray, depth: float) -> float:
    """Return how far a camera moved: the angle in radians, plus the way as a share of the scene's ``depth``."""
    relative = geometry.invert(world_from_earlier) @ world_from_later
    cosine = np.clip((np.trace(relative[:3, :3]) - 1.0) / 2.0, -1.0, 1.0)
    return float(np.arccos(cosine) + np.linalg.norm(relative[:3, 3]) / max(depth, 1e-9))


def sight_points(depth: np.ndarray, camera_matrix: np.ndarray, world_from_camera: np.ndarray) -> np.ndarray:
    """Return a few of the points (n, 3) that a frame sees, in the world.

    depth: (H, W); camera_matrix: K (3, 3) of that size; world_from_camera: (4, 4).
    """
    stride = max(1, max(depth.shape) // GRID)
    points = geometry.unproject(depth.astype(np.float64), camera_matrix)[::stride, ::stride].reshape(-1, 3)
    return geometry.transform_points(world_from_camera, points)


def share_in_sight(
    points: np.ndarray, camera_matrix: np.ndarray, world_from_camera: np.ndarray, size: tuple[int, int]
) -> float:
    """Return which share of points (n, 3) of the world fall inside an image of ``size`` (height, width).

    camera_matrix: K (3, 3) of that size.
    """
    height, width = size
    seen = geometry.transform_points(geometry.invert(world_from_camera), points)
    pixels = seen[seen[:, 2] > 1e-6] @ camera_matrix.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    inside = ((pixels >= -0.5) & (pixels < (width - 0.5, height - 0.5))).all(axis=1)
    return float(inside.sum()) / max(len(points), 1)


class AnchorChooser:
    """Says which frames should be pinned as anchors, so that every part of the scene keeps one."""

    def __init__(self) -> None:
        self._points: np.ndarray | None = None

    def reset(self) -> None:
        """Forget the stream."""
        self._points = None

    def is_anchor(self, depth: np.ndarray, camera_matrix: np.ndarray, world_from_camera: np.ndarray) -> bool:
        """Return whether a frame sees less than a fifth of the newest anchor's points; it is the newest then.

        depth: (H, W); camera_matrix: K (3, 3) of that size; world_from_camera: (4, 4). The first frame, which is pinned
        anyway, is the first anchor's stand-in and no anchor.
        """
        height, width = depth.shape
        is_first = self._points is None
        if self._points is not None:
            share = share_in_sight(self._points, camera_matrix, world_from_camera, (height, width))
            if share >= LEAST_OVERLAP:
                return False
        self._points = sight_points(depth, camera_matrix, world_from_camera)
        return not is_first


class CameraFeedback:
    """Tells a cache, which knows no camera, how far the camera moved and which frames to pin.

    For each frame: ``send`` before it ends, ``frame_ended`` after.
    """

    def __init__(self, cache: KeyValueCache):
        self._cache = cache
        self._chooser = AnchorChooser() if len(cache.anchors) else None
        self.reset()

    @staticmethod
    def is_wanted(cache: KeyValueCache) -> bool:
        """Return whether a cache asks for any of it."""
        return len(cache.anchors) > 0 or cache.wants_motion

    def reset(self) -> None:
        """Forget the stream."""
        self._pose = self._admitted_pose = np.eye(4)
        if self._chooser is not None:
            self._chooser.reset()

    def send(self, output: NetworkOutput, index: int, size: tuple[int, int]) -> None:
        """Tell the cache of a frame; index: its number in the cache; size: (height, width) of the network's images."""
        pose_encoding = output.pose_encoding[0, 0].double().cpu().numpy()
        self._pose, depth = geometry.world_from_camera(pose_encoding), output.depth[0, 0].cpu().numpy()
        if self._cache.wants_motion:
            self._cache.observe_motion(motion(self._admitted_pose, self._pose, float(np.median(depth))))
        if self._chooser is not None:
            camera_matrix = geometry.intrinsics(pose_encoding, size)
            if self._chooser.is_anchor(depth, camera_matrix, self._pose):
                self._cache.pin(index)

    def frame_ended(self) -> None:
        """Remember where the last admitted frame was taken."""
        if self._cache.wants_motion and self._cache.admitted:
            self._admitted_pose = self._pose
