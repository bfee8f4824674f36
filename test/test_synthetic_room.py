# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Synthetic rooms: depth against signed distances and against other views, poses, and what a seed decides."""

import numpy as np
import pytest
import torch

from evict3r_ros.synthetic.render import pinhole, render, render_walk
from evict3r_ros.synthetic.room import BOXES, SPHERES, SURFACES, cast, make_rooms, occluded, walk

SIZE = (48, 64)
K = pinhole(SIZE)


def points_of(depth, pose):
    """World points (H, W, 3) of a depth map."""
    v, u = np.mgrid[:depth.shape[0], :depth.shape[1]]
    camera = np.stack([(u - K[0, 2]) / K[0, 0] * depth, (v - K[1, 2]) / K[1, 1] * depth, depth], axis=-1)
    return camera @ pose[:3, :3].T + pose[:3, 3]


def signed_distance(rooms, index, points):
    """Distance to the nearest surface, negative inside furniture or walls: another formula than the ray caster's."""
    size = rooms.size[index].numpy()
    gaps = [size[0] / 2 - np.abs(points[..., 0]), size[1] / 2 - np.abs(points[..., 1]), points[..., 2],
            size[2] - points[..., 2]]
    for box in range(BOXES):
        yaw = float(rooms.box_yaw[index, box])
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        q = np.abs((points - rooms.box_centre[index, box].numpy()) @ turn) - rooms.box_half[index, box].numpy()
        gaps.append(np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(axis=-1), 0))
    for ball in range(SPHERES):
        gaps.append(np.linalg.norm(points - rooms.sphere_centre[index, ball].numpy(), axis=-1)
                    - float(rooms.sphere_radius[index, ball]))
    return np.min(gaps, axis=0)


def test_every_pixel_lies_on_a_surface_and_sees_it_freely():
    rooms = make_rooms([3, 4])
    poses = walk(rooms, 240)[:, ::60]
    depth = render(rooms, poses, K, SIZE).depth.numpy().astype(np.float64)
    for room in range(2):
        for view, pose in enumerate(poses[room].numpy()):
            assert np.abs(signed_distance(rooms, room, points_of(depth[room, view], pose))).max() < 2e-5
            for share in (0.25, 0.5, 0.75, 0.97):
                between = signed_distance(rooms, room, points_of(share * depth[room, view], pose))
                assert between.min() > 0, 'a surface nearer than the depth says'


def test_reprojection_into_another_view_agrees_in_depth_and_colour():
    first, *_, last = render_walk(5, 12, K, SIZE)
    points = points_of(first.depth.astype(np.float64), first.world_from_camera)
    camera_from_world = np.linalg.inv(last.world_from_camera)
    seen = points @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    u, v = ((seen[..., axis] / seen[..., 2] * K[axis, axis] + K[axis, 2]) for axis in (0, 1))
    inside = (seen[..., 2] > 0.1) & (u > 0) & (v > 0) & (u < SIZE[1] - 1) & (v < SIZE[0] - 1)
    assert inside.mean() > 0.6
    column, row = np.round(u[inside]).astype(int), np.round(v[inside]).astype(int)
    error = np.abs(last.depth[row, column] - seen[inside][:, 2]) / seen[inside][:, 2]
    assert np.median(error) < 0.01 and (error < 0.05).mean() > 0.93
    near = error < 0.05
    colour_error = np.abs(last.image[row, column].astype(int) - first.image[inside].astype(int))[near].mean()
    moved = np.roll(first.image, 16, axis=1)[inside].astype(int)
    elsewhere = np.abs(last.image[row, column].astype(int) - moved)[near].mean()
    assert colour_error < 15 and colour_error < 0.7 * elsewhere


def test_poses_are_smooth_rotations_that_return_to_the_start():
    rooms = make_rooms([0, 1, 2])
    poses = walk(rooms, 241)
    rotation = poses[..., :3, :3]
    assert torch.allclose(rotation @ rotation.transpose(-1, -2), torch.eye(3, dtype=torch.float64).expand_as(rotation))
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(3, 241, dtype=torch.float64))
    assert torch.allclose(poses[:, 0], poses[:, 240])
    assert (rotation[..., 2, 1] < -0.9).all(), 'the image is upright: camera y points down in the world'
    steps = poses[:, 1:, :3, 3] - poses[:, :-1, :3, 3]
    assert 0.005 < steps.norm(dim=-1).min() and steps.norm(dim=-1).max() < 0.08
    turn = (rotation[:, 1:] * rotation[:, :-1]).sum((-1, -2))  # 1 + 2 cos of the angle between frames
    assert torch.rad2deg(torch.acos(((turn - 1) / 2).clamp(-1, 1))).max() < 5


@pytest.mark.parametrize('seed', range(20))
def test_the_path_stays_clear_of_the_furniture(seed):
    rooms = make_rooms([seed])
    assert signed_distance(rooms, 0, walk(rooms, 60, 60)[0, :, :3, 3].numpy()).min() > 0.25


def test_a_seed_says_everything_and_a_batch_changes_nothing():
    alone, again, other = (list(render_walk(seed, 2, K, SIZE)) for seed in (7, 7, 8))
    assert np.array_equal(alone[1].image, again[1].image) and np.array_equal(alone[1].depth, again[1].depth)
    assert not np.array_equal(alone[1].image, other[1].image)
    rooms = make_rooms([8, 7])
    together = render(rooms, walk(rooms, 2), K, SIZE)
    assert np.abs(together.depth[1, 1].numpy() - alone[1].depth).max() < 1e-5
    assert np.abs(together.image[1, 1].numpy().astype(int) - alone[1].image.astype(int)).mean() < 0.1


def test_pictures_have_something_to_see():
    frame = next(render_walk(1, 1, K, SIZE))
    assert frame.image.dtype == np.uint8 and frame.image.shape == (*SIZE, 3)
    assert frame.image.std() > 25
    assert np.abs(np.diff(frame.image.astype(int), axis=1)).mean() > 2, 'texture'
    assert 0.3 < frame.depth.min() and frame.depth.max() < 10


def test_hits_name_their_surface_and_face_the_ray():
    rooms = make_rooms([3])
    directions = torch.randn(1, 1, 5000, 3, generator=torch.Generator().manual_seed(0))
    directions /= directions.norm(dim=-1, keepdim=True)
    origin = torch.tensor([[[0.0, 0.0, 1.4]]])
    hits = cast(rooms, origin, directions)
    assert ((hits.normal * directions).sum(-1) <= 1e-4).all()
    assert torch.allclose(hits.normal.norm(dim=-1), torch.ones(1, 1, 5000), atol=1e-5)
    assert 0 <= hits.surface.min() and hits.surface.max() < SURFACES
    # Straight down is the floor, straight up the ceiling.
    straight = cast(rooms, origin, torch.tensor([[[[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]]]]))
    assert straight.surface.tolist() == [[[4, 5]]]
    assert torch.allclose(straight.distance[0, 0], torch.tensor([1.4, float(rooms.size[0, 2]) - 1.4]))


def test_shadows_lie_behind_furniture():
    rooms = make_rooms([3])
    ball, above = rooms.sphere_centre[:, :1], torch.tensor([0.0, 0.0, 1.5])
    start = ball + above
    ends = torch.stack([ball - start - torch.tensor([0.0, 0.0, 0.1]), 0.3 * (ball - start)], dim=2)
    assert occluded(rooms, start, ends).tolist() == [[[True, False]]]


def test_no_seeds_no_rooms():
    with pytest.raises(ValueError, match='no seeds'):
        make_rooms([])
