# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""GLB scenes, opened again: by another library, and byte by byte against the glTF 2.0 specification."""

from __future__ import annotations

import json
import struct

import cv2
import numpy as np
import pytest
import trimesh

from evict3r_ros.errors import UserError
from evict3r_ros.geometry import BODY_FROM_OPTICAL, transform
from evict3r_ros.io.glb import GLTF_FROM_BODY, GLTF_FROM_OPTICAL, linear_from_srgb, write_glb
from evict3r_ros.io.ply import PointCloud
from evict3r_ros.io.scene_camera import SceneCamera

K = np.array([[100.0, 0.0, 80.0], [0.0, 100.0, 60.0], [0.0, 0.0, 1.0]])
# RGB of a red, a green, a blue and a dark grey point: right, up, forward and at the camera, with OpenCV's axes.
POINTS = PointCloud(
    np.array([[1, 0, 0], [0, -1, 0], [0, 0, 1], [0, 0, 0]], np.float32),
    np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [40, 40, 40]], np.uint8),
)


def camera(index, x=0.0):
    return SceneCamera(f'camera_{index:05d}', transform(np.eye(3), np.array([x, 0.0, 0.0])), K, (120, 160))


def read_raw(path):
    """Read the header and the accessors' arrays as the specification says."""
    content = path.read_bytes()
    magic, version, length = struct.unpack_from('<4sII', content)
    assert (magic, version, length) == (b'glTF', 2, len(content))
    size, kind = struct.unpack_from('<I4s', content, 12)
    assert kind == b'JSON' and size % 4 == 0
    tree = json.loads(content[20 : 20 + size])
    binary_size, kind = struct.unpack_from('<I4s', content, 20 + size)
    assert kind == b'BIN\0' and binary_size % 4 == 0
    binary = content[28 + size :]
    assert len(binary) == binary_size == tree['buffers'][0]['byteLength']
    arrays = []
    for accessor in tree['accessors']:
        view = tree['bufferViews'][accessor['bufferView']]
        start = view['byteOffset'] + accessor.get('byteOffset', 0)
        assert start % 4 == 0
        dtype = {5126: '<f4', 5125: '<u4'}[accessor['componentType']]
        width = {'SCALAR': 1, 'VEC3': 3}[accessor['type']]
        values = np.frombuffer(binary, dtype, accessor['count'] * width, start).reshape(-1, width)
        for name, value in (('min', values.min(0)), ('max', values.max(0))):
            assert name not in accessor or np.allclose(accessor[name], value)
        arrays.append(values)
    return tree, arrays


def world_points(tree, arrays, node_name):
    """Return a node's vertices, transformed by its matrix, and their colours."""
    node = next(node for node in tree['nodes'] if node['name'] == node_name)
    primitive = tree['meshes'][node['mesh']]['primitives'][0]
    matrix = np.array(node.get('matrix', np.eye(4).ravel())).reshape(4, 4).T
    positions = arrays[primitive['attributes']['POSITION']]
    return positions @ matrix[:3, :3].T + matrix[:3, 3], arrays[primitive['attributes']['COLOR_0']], primitive


def test_points_colours_and_cameras_are_all_there_with_y_up(tmp_path):
    path = tmp_path / 'scene.glb'
    write_glb(path, POINTS, [camera(0), camera(7, x=2.0)], notes={'weights': 'random'})
    tree, arrays = read_raw(path)
    assert [node['name'] for node in tree['nodes'] if 'mesh' in node] == ['points', 'camera_00000', 'camera_00007']
    assert tree['scenes'][0]['extras'] == {'weights': 'random'}
    points, colours, primitive = world_points(tree, arrays, 'points')
    assert primitive['mode'] == 0
    # Right stays right, up is +y, forward is -z.
    assert np.allclose(points, [[1, 0, 0], [0, 1, 0], [0, 0, -1], [0, 0, 0]])
    assert np.allclose(colours, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.0212] * 3], atol=1e-4)
    material = tree['materials'][primitive['material']]
    assert 'KHR_materials_unlit' in material['extensions'] and tree['extensionsUsed'] == ['KHR_materials_unlit']
    assert material['pbrMetallicRoughness']['baseColorFactor'] == [1, 1, 1, 1]


def test_a_drawn_camera_stands_where_it_was_and_looks_where_it_looked(tmp_path):
    path = tmp_path / 'scene.glb'
    turn = cv2.Rodrigues(np.array([0.0, np.pi / 2, 0.0]))[0]  # about y, which is down: it looks along +x
    pose = transform(turn, np.array([3.0, 0.0, 5.0]))
    write_glb(
        path,
        PointCloud(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)),
        [SceneCamera('camera_00000', pose, K, (120, 160))],
        frustum_depth=1.0,
    )
    tree, arrays = read_raw(path)
    vertices, _, primitive = world_points(tree, arrays, 'camera_00000')
    assert primitive['mode'] == 4 and len(arrays[primitive['indices']]) % 3 == 0
    # From the eye at x 3 to the image plane at x 4; the image is 1.6 wide (along z) and, but for the mark, 1.2 high.
    low, high = vertices.min(0), vertices.max(0)
    assert np.allclose([low[0], high[0]], [3, 4], atol=0.05)
    assert np.allclose([low[2], high[2]], [-5.8, -4.2], atol=0.05)
    assert np.isclose(low[1], -0.6, atol=0.05) and np.isclose(high[1], 0.6 + 0.3 * 1.2, atol=0.05)
    node = next(node for node in tree['nodes'] if node['name'] == 'camera_00000')
    matrix = np.array(node['matrix']).reshape(4, 4).T
    assert np.allclose(matrix[:3, :3] @ [0, 0, -1], [1, 0, 0])  # a glTF camera looks along its -z
    assert np.allclose(matrix[:3, :3] @ [0, 1, 0], [0, 1, 0])


def test_another_library_reads_the_same(tmp_path):
    path = tmp_path / 'scene.glb'
    random = np.random.default_rng(0)
    cloud = PointCloud(
        random.normal(size=(1001, 3)).astype(np.float32), random.integers(0, 256, (1001, 3)).astype(np.uint8)
    )
    write_glb(path, cloud, [camera(index, x=0.1 * index) for index in range(5)])
    scene = trimesh.load(path)
    points = scene.geometry['points']
    assert np.allclose(points.vertices, cloud.points)
    assert np.abs(points.colors[:, :3] - linear_from_srgb(cloud.colours) * 255).max() <= 1
    frusta = [mesh for mesh in scene.geometry.values() if isinstance(mesh, trimesh.Trimesh)]
    assert len(frusta) == 5
    for frustum in frusta:
        # Ten bars of six faces, open at their ends; seen from outside, since glTF's renderers cull what faces away.
        assert len(frustum.faces) == 60
        centres = frustum.vertices.reshape(10, 6, 3).mean(1).repeat(6, axis=0)
        assert ((frustum.triangles_center - centres) * frustum.face_normals).sum(1).min() > 0
    # From blue to red in the order of the cameras.
    first, last = (scene.geometry[f'camera_{index:05d}'].visual.vertex_attributes['color'][0] for index in (0, 4))
    assert first[2] > first[0] and last[0] > last[2]


def test_the_odom_frame_with_z_up_comes_out_with_y_up_too():
    forward, left, up = np.eye(4)[:3]
    assert np.allclose(GLTF_FROM_BODY @ up, [0, 1, 0, 0])
    assert np.allclose(GLTF_FROM_BODY @ forward, [0, 0, -1, 0])
    assert np.allclose(GLTF_FROM_BODY @ left, [-1, 0, 0, 0])
    assert np.allclose(GLTF_FROM_BODY @ BODY_FROM_OPTICAL, GLTF_FROM_OPTICAL)


def test_colours_are_linear_light():
    # IEC 61966-2-1: half of the light is 188 of 255.
    assert linear_from_srgb(np.array([0, 188, 255], np.uint8)) == pytest.approx([0.0, 0.5, 1.0], abs=0.005)


def test_nothing_to_write_and_nowhere_to_write_are_told(tmp_path):
    nothing = PointCloud(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8))
    with pytest.raises(UserError, match='neither points nor cameras'):
        write_glb(tmp_path / 'scene.glb', nothing)
    with pytest.raises(UserError, match='cannot be written'):
        write_glb(tmp_path / 'missing' / 'scene.glb', POINTS)
