# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The points of a map as one cloud, and a picture of it from above."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evict3r_ros import geometry
from evict3r_ros.errors import UserError
from evict3r_ros.io.figures import new_figure, save
from evict3r_ros.io.ply import PointCloud, VoxelCloud
from evict3r_ros.mapping.map_file import Keyframe, MapFile
from evict3r_ros.mapping.sim3 import Sim3

MOST_POINTS = 500_000
VOXEL_OF_DEPTH = 0.01
"""Edge of a voxel at first, over the median depth of the first keyframe."""


def keyframe_points(keyframe: Keyframe, world_from_segment: Sim3) -> tuple[np.ndarray, np.ndarray]:
    """Return the points (n, 3) of the surer half of a keyframe in the map's world, and their colours (n, 3) uint8."""
    height, width = keyframe.depth.shape
    rows, columns = keyframe.image.shape[0] // height, keyframe.image.shape[1] // width
    u, v = np.meshgrid(np.arange(width) * columns + columns // 2, np.arange(height) * rows + rows // 2)
    depth, K = keyframe.depth.astype(np.float64), keyframe.intrinsics
    points = np.stack([(u - K[0, 2]) / K[0, 0] * depth, (v - K[1, 2]) / K[1, 1] * depth, depth], axis=-1)
    sure = np.isfinite(depth) & (depth > 0.0) & (keyframe.confidence >= np.median(keyframe.confidence))
    pose = world_from_segment.pose(keyframe.world_from_camera)
    return geometry.transform_points(pose, world_from_segment.scale * points[sure]), keyframe.image[v[sure], u[sure]]


def map_cloud(found: MapFile, most: int = MOST_POINTS) -> PointCloud:
    """Return the points of all keyframes, one a voxel, at most ``most``. Raises UserError for a map without any."""
    segments = dict(found.segments())
    cloud: VoxelCloud | None = None
    for keyframe in found.keyframes():
        world_from_segment = keyframe.correction @ segments[keyframe.segment]
        if cloud is None:
            depth = world_from_segment.scale * float(np.median(keyframe.depth))
            cloud = VoxelCloud(max(VOXEL_OF_DEPTH * depth, 1e-6), most)
        cloud.add(*keyframe_points(keyframe, world_from_segment))
    if cloud is None:
        raise UserError(f'{found.path}: the map holds no keyframe')
    return cloud.cloud()


def draw_map(found: MapFile, path: Path) -> None:
    """Draw path and points from above: along y of the first camera, which is taken to be level. Raises UserError."""
    cloud = map_cloud(found)
    poses = list(found.poses())
    figure = new_figure(8, 8)
    axes = figure.add_subplot()
    # What is over the cameras would hide the floor plan: ceilings.
    height = np.median([pose[1, 3] for _, _, pose in poses])
    level = cloud.points[:, 1] > height - 0.3 * np.ptp(cloud.points[:, 1])
    axes.scatter(
        cloud.points[level, 0], cloud.points[level, 2], c=cloud.colours[level] / 255.0, s=0.4, linewidths=0, zorder=1
    )
    numbers = sorted({segment for _, segment, _ in poses})
    for index, number in enumerate(numbers):
        way = np.array([pose[:3, 3] for _, segment, pose in poses if segment == number])
        axes.plot(way[:, 0], way[:, 2], '.-', color=f'C{index % 10}', linewidth=1.5, markersize=3, zorder=2)
    axes.set_aspect('equal')
    axes.set_xlabel('x, right of the first camera')
    axes.set_ylabel('z, ahead of the first camera')
    axes.set_title(f'{len(poses)} keyframes in {len(numbers)} segments (a colour each)')
    save(figure, path)
