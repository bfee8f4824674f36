# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Write a scene as binary glTF 2.0 (GLB): a coloured cloud, and its cameras as small frusta."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from evict3r_ros.errors import UserError
from evict3r_ros.geometry import BODY_FROM_OPTICAL, invert
from evict3r_ros.io.ply import PointCloud
from evict3r_ros.io.scene_camera import FRUSTUM_SHARE, SceneCamera, frustum_corners, scene_extent, time_colours

GLTF_FROM_OPTICAL = np.diag([1.0, -1.0, -1.0, 1.0])
"""From OpenCV axes (x right, y down, z forward) to glTF axes (x right, y up, z towards the viewer), for a world that is
a stream's first camera. The same matrix turns a camera that looks along z into a glTF camera, which looks along -z."""
GLTF_FROM_BODY = GLTF_FROM_OPTICAL @ invert(BODY_FROM_OPTICAL)
"""From REP-103 axes (x forward, y left, z up) to glTF axes, for the odom frame."""

CLOUD_NODE = 'points'
_FLOAT = 5126
_trimesh: Any = trimesh  # the functions called through it have no annotations
# Corners of the image, the eye, and a point above the upper edge that shows which way is up.
_EYE, _TOP = 4, 5
_EDGES = np.array([(0, 1), (1, 2), (2, 3), (3, 0), (0, _EYE), (1, _EYE), (2, _EYE), (3, _EYE), (0, _TOP), (1, _TOP)])
_SIDES = 3
_THICKNESS = 0.02


def write_glb(
    path: str | Path,
    cloud: PointCloud,
    cameras: Sequence[SceneCamera] = (),
    gltf_from_world: np.ndarray = GLTF_FROM_OPTICAL,
    frustum_depth: float | None = None,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write cloud and cameras, rotated to glTF's y up; lengths stay in the world's unit.

    gltf_from_world: ``GLTF_FROM_OPTICAL`` or ``GLTF_FROM_BODY``, by the axes of the world. frustum_depth: length of a
    drawn camera, by default a share of the scene's extent. Cameras run from blue to red in their order; the axes of
    their nodes are those of a glTF camera (looks along -z, y up). notes: stored in the scene's extras. Raises UserError
    for an empty scene, and for a file that cannot be written.
    """
    if not len(cloud) and not cameras:
        raise UserError(f'{path}: neither points nor cameras to write')
    scene = trimesh.Scene(metadata=dict(notes or {}))
    if len(cloud):
        scene.add_geometry(
            _trimesh.PointCloud(cloud.points, cloud.colours),
            node_name=CLOUD_NODE,
            geom_name=CLOUD_NODE,
            transform=gltf_from_world,
        )
    if frustum_depth is None:
        positions = np.array([camera.world_from_camera[:3, 3] for camera in cameras]).reshape(-1, 3)
        frustum_depth = FRUSTUM_SHARE * scene_extent(np.concatenate([cloud.points, positions]))
    for camera, colour in zip(cameras, time_colours(len(cameras)), strict=True):
        scene.add_geometry(
            _frustum(camera, frustum_depth, colour),
            node_name=camera.name,
            geom_name=camera.name,
            transform=gltf_from_world @ camera.world_from_camera @ GLTF_FROM_OPTICAL,
        )
    content = _trimesh.exchange.gltf.export_glb(
        scene, include_normals=False, tree_postprocessor=_unlit, buffer_postprocessor=_linear_colours
    )
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise UserError(f'{path}: cannot be written: {error.strerror}') from error


def linear_from_srgb(colours: np.ndarray) -> np.ndarray:
    """Convert sRGB colours, uint8, to linear light from 0 to 1, float32 (IEC 61966-2-1)."""
    share = np.arange(256) / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    found: np.ndarray = linear.astype('<f4')[colours]
    return found


def _frustum(camera: SceneCamera, depth: float, colour: np.ndarray) -> trimesh.Trimesh:
    """Return the view frustum of a camera up to a depth, its edges as thin bars, in glTF camera axes."""
    corners = frustum_corners(camera, depth)
    top = 0.5 * (corners[0] + corners[1]) + 0.3 * (corners[0] - corners[3])
    points = np.concatenate([corners, np.zeros((1, 3)), top[None]]) @ GLTF_FROM_OPTICAL[:3, :3].T
    vertices, faces = _bars(points[_EDGES[:, 0]], points[_EDGES[:, 1]], _THICKNESS * depth)
    return trimesh.Trimesh(vertices, faces, vertex_colors=np.tile([*colour, 255], (len(vertices), 1)), process=False)


def _bars(start: np.ndarray, stop: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return three-sided bars from start (n, 3) to stop (n, 3): vertices (n * 6, 3), outward faces (n * 6, 3)."""
    along = stop - start
    length = np.linalg.norm(along, axis=1, keepdims=True)
    along = along / np.maximum(length, 1e-12)
    # The axis with the largest angle to a bar gives a direction across it.
    across = np.cross(along, np.eye(3)[np.abs(along).argmin(axis=1)])
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    other = np.cross(along, across)
    angles = 2.0 * np.pi * np.arange(_SIDES) / _SIDES
    ring = radius * (np.cos(angles)[:, None] * across[:, None] + np.sin(angles)[:, None] * other[:, None])
    vertices = np.concatenate([start[:, None] + ring, stop[:, None] + ring], axis=1)
    side = np.arange(_SIDES)
    after = (side + 1) % _SIDES
    faces = np.concatenate(
        [np.stack([side, after, side + _SIDES], axis=1), np.stack([after, after + _SIDES, side + _SIDES], axis=1)]
    )
    firsts = 2 * _SIDES * np.arange(len(start))
    return vertices.reshape(-1, 3), (firsts[:, None, None] + faces).reshape(-1, 3)


def _linear_colours(buffers: Any, tree: dict[str, Any]) -> None:
    """Convert the colours to linear light, as glTF specifies.

    As float32: linear light in 8 bits has visible steps in the dark, and some readers fail with 16 bits.
    """
    items, accessors = list(buffers.items()), list(tree['accessors'].values())
    done = set()
    for number in {primitive['attributes']['COLOR_0'] for mesh in tree['meshes'] for primitive in mesh['primitives']}:
        accessor = accessors[number]
        view, channels = accessor['bufferView'], int(accessor['type'][-1])
        if view not in done:
            key, content = items[view]
            colours = np.frombuffer(content, np.uint8, accessor['count'] * channels).reshape(-1, channels)
            buffers[key] = linear_from_srgb(colours[:, :3]).tobytes()
            done.add(view)
        accessor.update(componentType=_FLOAT, type='VEC3')
        for key in ('normalized', 'min', 'max'):
            accessor.pop(key, None)


def _unlit(tree: dict[str, Any]) -> None:
    """Show the colours without lighting: images are lit already."""
    tree['materials'] = [
        {
            'pbrMetallicRoughness': {'baseColorFactor': [1, 1, 1, 1], 'metallicFactor': 0},
            'extensions': {'KHR_materials_unlit': {}},
        }
    ]
    tree['extensionsUsed'] = sorted({*tree.get('extensionsUsed', ()), 'KHR_materials_unlit'})
    for mesh in tree['meshes']:
        for primitive in mesh['primitives']:
            primitive['material'] = 0
