# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A picture of a scene without a display: the cloud in perspective, the camera's path and some camera frusta."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.geometry import transform_points
from evict3r_ros.io.ply import PointCloud
from evict3r_ros.io.scene_camera import FRUSTUM_SHARE, SceneCamera, frustum_corners, scene_extent, time_colours

SIZE = (720, 1280)
"""Default (height, width) in pixels."""
UP_OF_BODY = np.array([0.0, 0.0, 1.0])
"""Up in REP-103 axes: the odom frame."""
UP_OF_OPTICAL = np.array([0.0, -1.0, 0.0])
"""Up in OpenCV axes: a world that is the first, level camera."""

_MOST_FRUSTA = 20
_ELEVATION = math.radians(48.0)
_HALF_WIDTH = math.tan(math.radians(24.0))
"""Half the picture's width at depth 1."""
_MARGIN = 0.96
_OVERSAMPLING = 2
_PATH_WIDTH, _FRUSTUM_WIDTH, _CASING_WIDTH = 5, 2, 4
"""In oversampled pixels."""
_MOST_RADIUS = 8
"""Of a drawn point, in oversampled pixels."""
_CEILING_SHARE, _CEILING_SAMPLES = 0.04, 50
_CHUNK = 100_000
# Colours are BGR, as OpenCV writes them.
_PAPER, _CASING, _WARNING = (250, 250, 250), (255, 255, 255), (30, 30, 200)


@dataclass(frozen=True)
class PictureScene:
    """What a picture shows."""

    cloud: PointCloud
    spacing: float
    """Distance between neighbouring points: the edge of the cloud's voxels."""
    path: np.ndarray
    """(n, 3) positions of the camera in time order."""
    cameras: Sequence[SceneCamera] = ()
    """In time order; at most 20, evenly spread, are drawn."""


def draw_scene(
    scene: PictureScene, up: np.ndarray, untrained: bool = False, size: tuple[int, int] = SIZE
) -> np.ndarray:
    """Draw the scene, (height, width, 3) uint8 BGR, seen from behind and above.

    Outliers are left out, and under a ceiling all that is above the cameras, so that one looks into the rooms. Path and
    cameras run from blue to red in time and are never hidden. up: (3,) unit vector. untrained: write so over the
    picture. Raises ValueError for a scene without points and path.
    """
    cloud, path = scene.cloud, scene.path
    if not len(cloud) and not len(path):
        raise ValueError('a picture of a scene needs points or a path')
    cameras = _spread(scene.cameras)
    points = cloud.points.astype(np.float64)
    extent = scene_extent(np.concatenate([points, path]))
    shown = _near(points, path) & _below_ceiling(points, path, up, _CEILING_SHARE * extent)
    points, colours = points[shown], cloud.colours[shown]
    frusta = [_frustum(camera, FRUSTUM_SHARE * extent) for camera in cameras]
    large = size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING
    everything = np.concatenate([points, path, *frusta])
    view = _View.around(everything, _viewing_direction(everything, cameras, up), up, large)
    picture, depth = _splat(view, points, colours, scene.spacing)
    _shade_edges(picture, depth)
    _draw_lines(picture, view, path, frusta)
    picture = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
    if untrained:
        cv2.putText(picture, 'UNTRAINED', (16, size[0] - 20), cv2.FONT_HERSHEY_SIMPLEX, 1.6, _WARNING, 4, cv2.LINE_AA)
    return picture


def write_scene_picture(path: Path, scene: PictureScene, up: np.ndarray, untrained: bool = False) -> None:
    """Draw the scene into a PNG file; see `draw_scene`. Raises UserError when it cannot be written."""
    if not cv2.imwrite(str(path), draw_scene(scene, up, untrained)):
        raise UserError(f'{path}: the picture of the scene could not be written')


@dataclass(frozen=True)
class _View:
    """A pinhole camera that looks at the scene."""

    rotation: np.ndarray
    """(3, 3) view_from_world, OpenCV axes."""
    eye: np.ndarray
    """(3,) in the world."""
    focal: float
    """Pixels."""
    size: tuple[int, int]
    """(height, width) in pixels."""

    @classmethod
    def around(cls, points: np.ndarray, direction: np.ndarray, up: np.ndarray, size: tuple[int, int]) -> _View:
        """Return the nearest view along a direction that has all points (n, 3) in the picture."""
        right = np.cross(direction, up)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(direction, right), direction])
        rotated = points @ rotation.T
        # An eye e sees a point if |x - e_x| <= t (z - e_z), which is two half-planes for each axis of the image.
        tangents = _MARGIN * _HALF_WIDTH * np.array([1.0, size[0] / size[1]])
        highest = (rotated[:, :2] - tangents * rotated[:, 2:]).max(axis=0)
        lowest = (-rotated[:, :2] - tangents * rotated[:, 2:]).max(axis=0)
        back = (-(highest + lowest) / (2.0 * tangents)).min()
        eye = np.array([*(0.5 * (highest - lowest)), back - 1e-6])
        return cls(rotation, eye @ rotation, 0.5 * size[1] / _HALF_WIDTH, size)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels (n, 2) and depths (n,) of points (n, 3) in the world."""
        seen = (points - self.eye) @ self.rotation.T
        depth = np.maximum(seen[:, 2], 1e-9)
        centre = 0.5 * np.array([self.size[1] - 1, self.size[0] - 1])
        return self.focal * seen[:, :2] / depth[:, None] + centre, depth


def _spread(cameras: Sequence[SceneCamera]) -> list[SceneCamera]:
    chosen = np.linspace(0, len(cameras) - 1, min(_MOST_FRUSTA, len(cameras))).round().astype(int)
    return [cameras[index] for index in chosen]


def _near(points: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Return a mask (n,) of the points in or near the box of the inner 96 % and the path; others are outliers."""
    if not len(points):
        return np.zeros(0, dtype=bool)
    low, high = np.percentile(points, (2, 98), axis=0)
    reach = 0.15 * (high - low)
    corners = np.concatenate([[low - reach, high + reach], path])
    near: np.ndarray = np.all((points >= corners.min(axis=0)) & (points <= corners.max(axis=0)), axis=1)
    return near


def _below_ceiling(points: np.ndarray, path: np.ndarray, up: np.ndarray, radius: float) -> np.ndarray:
    """Return a mask (n,) of the points to draw: all, or under a ceiling those up to a little above the path.

    There is a ceiling if most positions have points within the radius of the vertical line above them.
    """
    heights, floor_plan = points @ up, points - np.outer(points @ up, up)
    positions = path[:: max(1, len(path) // _CEILING_SAMPLES)]
    above = []
    for position in positions:
        height = position @ up
        over = np.square(floor_plan - (position - height * up)).sum(axis=1) < radius * radius
        higher = heights[over & (heights > height + radius)]
        if len(higher):
            above.append(float(np.median(higher)))
    if 2 * len(above) <= len(positions):
        return np.ones(len(points), dtype=bool)
    highest = float((path @ up).max())
    below: np.ndarray = heights < highest + 0.25 * max(float(np.median(above)) - highest, 0.0)
    return below


def _viewing_direction(points: np.ndarray, cameras: Sequence[SceneCamera], up: np.ndarray) -> np.ndarray:
    """Return the unit vector (3,) that the picture looks along: with the cameras, and down.

    Where the cameras looked all around, it looks across the longer side of the scene's points (n, 3).
    """
    forward: np.ndarray = np.zeros(3)
    for camera in cameras:
        forward = forward + camera.world_from_camera[:3, 2] / len(cameras)
    forward = forward - up * (forward @ up)
    if np.linalg.norm(forward) < 0.3:
        level = points - points.mean(axis=0)
        level = level - np.outer(level @ up, up)
        # The added term makes up the eigenvector of the largest eigenvalue; the first is then the shorter side.
        spread = level.T @ level
        _, axes = np.linalg.eigh(spread + (np.trace(spread) + 1.0) * np.outer(up, up))
        forward = axes[:, 0] if axes[:, 0] @ forward >= 0.0 else -axes[:, 0]
    forward = forward / np.linalg.norm(forward)
    direction: np.ndarray = math.cos(_ELEVATION) * forward - math.sin(_ELEVATION) * up
    return direction


def _splat(view: _View, points: np.ndarray, colours: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Return picture (height, width, 3) uint8 BGR and depth (height, width), infinite where nothing is drawn."""
    height, width = view.size
    picture = np.full((height * width, 3), _PAPER, dtype=np.uint8)
    depth_map = np.full(height * width, np.inf)
    pixels, depth = view.project(points)
    # From back to front: of several points on one pixel, numpy keeps the last.
    order = np.argsort(-depth)
    for first in range(0, len(order), _CHUNK):
        chunk = order[first : first + _CHUNK]
        radius = min(max(round(view.focal * spacing / float(np.median(depth[chunk]))), 1), _MOST_RADIUS)
        side = np.arange(-radius, radius + 1)
        offsets = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
        offsets = offsets[np.square(offsets).sum(axis=1) <= radius * radius + 1]
        places = np.round(pixels[chunk]).astype(np.int64)[:, None] + offsets
        inside = ((places >= 0) & (places < (width, height))).all(axis=2)
        flat = (places[..., 1] * width + places[..., 0])[inside]
        source = np.broadcast_to(chunk[:, None], inside.shape)[inside]
        picture[flat] = colours[source, ::-1]
        depth_map[flat] = depth[source]
    return picture.reshape(height, width, 3), depth_map.reshape(height, width)


def _shade_edges(picture: np.ndarray, depth: np.ndarray) -> None:
    """Darken what lies just behind something else (eye-dome lighting), so that shapes stand out."""
    drawn = np.isfinite(depth)
    if not drawn.any():
        return
    logarithm = np.log(np.where(drawn, depth, depth[drawn].max()))
    behind = np.zeros_like(logarithm)
    step = 2 * _OVERSAMPLING
    for shift, axis in ((-step, 0), (step, 0), (-step, 1), (step, 1)):
        behind += np.clip(logarithm - np.roll(logarithm, shift, axis), 0.0, 0.05)
    light = np.where(drawn, np.exp(-4.0 * behind), 1.0)
    picture[:] = np.round(picture * light[..., None])


def _frustum(camera: SceneCamera, depth: float) -> np.ndarray:
    """Return eye and image corners, (5, 3) in the world."""
    corners = np.concatenate([np.zeros((1, 3)), frustum_corners(camera, depth)])
    return transform_points(camera.world_from_camera, corners)


def _draw_lines(picture: np.ndarray, view: _View, path: np.ndarray, frusta: Sequence[np.ndarray]) -> None:
    """Draw the path and the cameras over the picture, with a light casing."""
    lines = []
    if len(path) > 1:
        pixels = view.project(path)[0]
        lines += [
            (pixels[index : index + 2], colour, _PATH_WIDTH) for index, colour in enumerate(time_colours(len(path) - 1))
        ]
    for corners, colour in zip(frusta, time_colours(len(frusta)), strict=True):
        pixels = view.project(corners)[0]
        lines += [(pixels[order], colour, _FRUSTUM_WIDTH) for order in ([1, 2, 3, 4, 1, 0, 2], [3, 0, 4])]
    for casing in (_CASING_WIDTH, 0):
        for pixels, colour, width in lines:
            shown = _CASING if casing else tuple(int(channel) for channel in colour[::-1])
            # Pixels are given in 16ths.
            steps = np.round(16.0 * pixels).astype(np.int32)
            cv2.polylines(picture, [steps], False, shown, width + casing, cv2.LINE_AA, 4)
