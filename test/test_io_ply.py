# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""PLY files and the bounded cloud: round trips, damaged files, and a size that stays where it was put."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from evict3r_ros.errors import UserError
from evict3r_ros.io.ply import PlyWriter, PointCloud, VoxelCloud, read_ply, write_ply


def some_cloud(count, seed=0):
    random = np.random.default_rng(seed)
    return PointCloud(
        random.normal(size=(count, 3)).astype(np.float32), random.integers(0, 256, (count, 3)).astype(np.uint8)
    )


@pytest.mark.parametrize('count', [0, 1, 1000])
def test_round_trip(tmp_path, count):
    cloud = some_cloud(count)
    write_ply(tmp_path / 'cloud.ply', cloud)
    read = read_ply(tmp_path / 'cloud.ply')
    assert np.array_equal(read.points, cloud.points)
    assert np.array_equal(read.colours, cloud.colours)


def test_the_header_says_what_the_body_holds(tmp_path):
    path = tmp_path / 'cloud.ply'
    with PlyWriter(path) as writer:
        for seed in range(3):
            part = some_cloud(7, seed)
            writer.append(part.points, part.colours)
    header, body = path.read_bytes().split(b'end_header\n', 1)
    lines = header.decode().splitlines()
    assert lines[:2] == ['ply', 'format binary_little_endian 1.0']
    assert int(next(line for line in lines if line.startswith('element vertex')).split()[-1]) == 21
    assert [line.split()[1:] for line in lines if line.startswith('property')] == [
        ['float', 'x'],
        ['float', 'y'],
        ['float', 'z'],
        ['uchar', 'red'],
        ['uchar', 'green'],
        ['uchar', 'blue'],
    ]
    assert len(body) == 21 * 15
    assert np.array_equal(read_ply(path).points[14:], some_cloud(7, 2).points)


def test_points_without_their_colours_are_refused(tmp_path):
    with PlyWriter(tmp_path / 'cloud.ply') as writer, pytest.raises(ValueError, match='must both be'):
        writer.append(np.zeros((2, 3)), np.zeros((3, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    'damage',
    [
        lambda data: data[:-1],
        lambda data: data + b'x',
        lambda data: data[:20],
        lambda data: b'',
        lambda data: data.replace(b'float', b'doubl'),
        lambda data: b'<html>' + data,
        lambda data: data.replace(b'0010', b'-010'),
    ],
)
def test_damaged_and_foreign_files_are_refused(tmp_path, damage):
    path = tmp_path / 'cloud.ply'
    write_ply(path, some_cloud(10))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r'cloud\.ply'):
        read_ply(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match='cannot be read'):
        read_ply(tmp_path / 'none.ply')


def test_one_point_a_voxel_is_kept():
    cloud = VoxelCloud(voxel=0.1, max_points=1000)
    points = np.array([[0.01, 0.01, 0.01], [0.09, 0.02, 0.03], [0.11, 0.01, 0.01], [-0.01, 0.01, 0.01]])
    colours = np.arange(12, dtype=np.uint8).reshape(4, 3)
    cloud.add(points[:2], colours[:2])
    cloud.add(points, colours)
    kept = cloud.cloud()
    assert sorted(map(tuple, kept.points.tolist())) == sorted(map(tuple, points[[0, 2, 3]].astype(np.float32).tolist()))
    assert [tuple(colours[0])] == [
        tuple(c) for p, c in zip(kept.points, kept.colours, strict=True) if p[0] == np.float32(0.01)
    ]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        arrays.arrays(np.float32, st.tuples(st.integers(0, 60), st.just(3)), elements=st.floats(-1e6, 1e6, width=32)),
        max_size=5,
    ),
    st.integers(8, 40),
)
def test_the_cloud_never_holds_more_than_asked(batches, most):
    cloud = VoxelCloud(voxel=0.5, max_points=most)
    for points in batches:
        cloud.add(points, np.zeros(points.shape, dtype=np.uint8))
        assert len(cloud) <= most
    given_points = {tuple(point) for points in batches for point in points.tolist()}
    kept = [tuple(point) for point in cloud.cloud().points.tolist()]
    assert given_points.issuperset(kept)
    voxels = {tuple(np.floor(np.array(point, dtype=np.float64) / cloud.voxel)) for point in kept}
    assert len(voxels) == len(kept)


def test_points_that_are_nowhere_are_left_out():
    cloud = VoxelCloud(voxel=0.01, max_points=100)
    points = np.array([[np.nan, 0, 0], [0, np.inf, 0], [1e30, 0, 0], [1, 2, 3]], dtype=np.float32)
    cloud.add(points, np.zeros((4, 3), dtype=np.uint8))
    assert cloud.cloud().points.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize('voxel, most', [(0.0, 100), (-1.0, 100), (float('nan'), 100), (0.1, 7)])
def test_sizes_that_cannot_work_are_refused(voxel, most):
    with pytest.raises(ValueError, match='need a voxel'):
        VoxelCloud(voxel, most)
