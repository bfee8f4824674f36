# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Synthetic worlds: depth against signed distances and other views, paths, seeds, camera faults, difficulty."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evict3r_ros import geometry
from evict3r_ros.synthetic.clips import WorldStream, render_clips
from evict3r_ros.synthetic.layout import KINDS
from evict3r_ros.synthetic.world import BOXES, CYLINDERS, SPHERES, make_worlds

SIZE = (42, 56)


def world_points(clips, clip, frame):
    """Points (H, W, 3) of a frame's depth in the world, float64."""
    depth = clips.depth[clip, frame].double().numpy()
    return geometry.transform_points(
        clips.world_from_camera[clip, frame].numpy(), geometry.unproject(depth, clips.intrinsics[clip])
    )


def signed_distance(scene, index, points):
    """Distance to the nearest surface, negative inside things or walls: another formula than the ray caster's."""
    size = scene.size[index].double().numpy()
    gaps = [
        size[0] / 2 - np.abs(points[..., 0]),
        size[1] / 2 - np.abs(points[..., 1]),
        points[..., 2],
        size[2] - points[..., 2],
    ]
    for box in range(BOXES):
        half = scene.box_half[index, box].double().numpy()
        if not half.all():
            continue
        yaw = float(scene.box_yaw[index, box])
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        q = np.abs((points - scene.box_centre[index, box].double().numpy()) @ turn) - half
        gaps.append(np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(axis=-1), 0))
    for number in range(CYLINDERS):
        radius, half = scene.cylinder_extent[index, number].double().numpy()
        if radius:
            away = points - scene.cylinder_centre[index, number].double().numpy()
            q = np.stack([np.hypot(away[..., 0], away[..., 1]) - radius, np.abs(away[..., 2]) - half], axis=-1)
            gaps.append(np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(axis=-1), 0))
    for ball in range(SPHERES):
        radius = float(scene.sphere_radius[index, ball])
        if radius:
            gaps.append(np.linalg.norm(points - scene.sphere_centre[index, ball].double().numpy(), axis=-1) - radius)
    return np.min(gaps, axis=0)


@pytest.fixture(scope='module')
def clips():
    """Twelve perfect cameras, three views each."""
    return render_clips(range(12), 3, stride=8, size=SIZE, effects=False)


def test_every_pixel_lies_on_a_surface_and_sees_it_freely(clips):
    worlds = make_worlds(range(12), effects=False)
    assert len(set(worlds.layout.kind)) >= 4, 'the seeds show most kinds of plan'
    for clip in range(12):
        points = world_points(clips, clip, 2)
        assert np.abs(signed_distance(worlds.scene, clip, points)).max() < 2e-4
        eye = clips.world_from_camera[clip, 2, :3, 3].numpy()
        for share in (0.25, 0.5, 0.75, 0.97):
            between = signed_distance(worlds.scene, clip, eye + share * (points - eye))
            assert between.min() > -1e-4, 'a surface nearer than the depth says'


def test_reprojection_into_another_view_agrees_in_depth_and_colour(clips):
    judged = 0
    for clip in range(12):
        points = world_points(clips, clip, 0)
        matrix = clips.intrinsics[clip].numpy()
        camera_from_world = geometry.invert(clips.world_from_camera[clip, 1].numpy())
        seen = geometry.transform_points(camera_from_world, points)
        u, v = (seen[..., axis] / seen[..., 2] * matrix[axis, axis] + matrix[axis, 2] for axis in (0, 1))
        inside = (seen[..., 2] > 0.1) & (u > 0) & (v > 0) & (u < SIZE[1] - 1) & (v < SIZE[0] - 1)
        if inside.mean() < 0.3:
            continue
        judged += 1
        column, row = np.round(u[inside]).astype(int), np.round(v[inside]).astype(int)
        depth, image = clips.depth[clip, 1].numpy(), clips.images[clip, 1].numpy().astype(int)
        error = np.abs(depth[row, column] - seen[inside][:, 2]) / seen[inside][:, 2]
        assert np.median(error) < 0.02 and (error < 0.1).mean() > 0.7
        own = clips.images[clip, 0].numpy().astype(int)
        near = error < 0.05
        right = np.abs(image[row, column] - own[inside])[near].mean()
        wrong = np.abs(image[row, column] - np.roll(own, (9, 14), (0, 1))[inside])[near].mean()
        assert right < 20 and right < 0.85 * wrong
    assert judged >= 8


def test_intrinsics_are_those_the_network_can_say(clips):
    for clip in range(12):
        fov = 2 * np.arctan2([SIZE[0] / 2, SIZE[1] / 2], [clips.intrinsics[clip, 0, 0]] * 2)
        assert 50 <= np.degrees(fov[1]) <= 90
        assert np.allclose(geometry.intrinsics(np.r_[np.zeros(7), fov], SIZE), clips.intrinsics[clip])


@pytest.mark.parametrize('loop', [False, True])
def test_paths_are_smooth_upright_and_clear_of_everything(loop):
    seeds = range(40)
    worlds = make_worlds(seeds, loop=loop)
    poses = worlds.poses(np.arange(400.0), 1000.0 if loop else None).numpy()
    rotation, place = poses[..., :3, :3], poses[..., :3, 3]
    assert np.allclose(np.einsum('wfji,wfjk->wfik', rotation, rotation), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(rotation), 1)
    assert (rotation[..., 2, 1] < -0.8).all(), 'the image is upright: camera y points down in the world'
    step = np.linalg.norm(np.diff(place, axis=1), axis=-1)
    assert step.max() < 0.35 and np.median(step) > 0.005
    turn = np.einsum('wfij,wfij->wf', rotation[:, 1:], rotation[:, :-1])
    degrees = np.degrees(np.arccos(np.clip((turn - 1) / 2, -1, 1)))
    assert np.quantile(degrees, 0.99) < 8 and degrees.max() < 20
    for index in seeds:
        assert signed_distance(worlds.scene, index, place[index]).min() > 0.1, f'seed {index} walks into something'


def test_loops_lead_through_joined_rooms_and_come_back():
    worlds = make_worlds(range(16), loop=True)
    assert {KINDS[kind] for kind in worlds.layout.kind} == {'joined rooms', 'ring corridor'}
    poses = worlds.poses(np.arange(0.0, 1001.0), 1000.0).numpy()
    assert np.allclose(poses[:, 0], poses[:, 1000], atol=1e-6)
    reach = np.ptp(poses[:, :, :2, 3], axis=1)
    assert (reach > 0.25 * worlds.layout.size[:, :2]).all(), 'the path leads all the way round'


def test_a_seed_says_everything_and_a_batch_changes_nothing():
    together = render_clips([8, 7], 2, 3, SIZE)
    alone, again = (render_clips([7], 2, 3, SIZE) for _ in range(2))
    assert torch.equal(alone.images, again.images) and torch.equal(alone.depth, again.depth)
    assert torch.equal(together.images[1], alone.images[0]) and torch.equal(together.depth[1], alone.depth[0])
    assert not torch.equal(together.images[0], together.images[1])
    perfect = render_clips([7], 2, 3, SIZE, effects=False)
    assert torch.equal(perfect.world_from_camera, alone.world_from_camera)
    assert not torch.equal(perfect.images, alone.images)
    longer = render_clips([7], 4, 3, SIZE)
    assert torch.equal(longer.images[:, :2], alone.images), 'more frames leave the first as they were'


def test_a_stream_is_the_same_clip_frame_by_frame():
    stream = WorldStream(7, 2, 3, SIZE)
    clip = render_clips([7], 2, 3, SIZE)
    frames = list(stream)
    assert len(stream) == len(frames) == 2
    assert np.array_equal(frames[1].image, clip.images[0, 1].numpy())
    assert np.array_equal(frames[1].depth, clip.depth[0, 1].numpy())
    assert np.array_equal(frames[1].world_from_camera, clip.world_from_camera[0, 1].numpy())
    assert np.array_equal(stream.intrinsics, clip.intrinsics[0].numpy())


def test_worlds_are_hard_enough():
    """A constant depth and a camera that stands still must not look good: see the held-out table of the docs."""
    clips = render_clips(range(5000, 5120), 12, 4, (18, 24), effects=False)
    depth = clips.depth.flatten(1)
    constant = ((depth.median(1, keepdim=True).values - depth).abs() / depth).mean(1)
    assert constant.mean() >= 0.3 and constant.median() >= 0.3
    place = clips.world_from_camera[..., :3, 3]
    length = place.diff(dim=1).norm(dim=-1).sum(1)
    still = (place - place.mean(1, keepdim=True)).square().sum(-1).mean(1).sqrt() / length
    assert still.median() >= 0.3
    assert (clips.depth > 0).all()


def test_pictures_have_something_to_see(clips):
    spread = clips.images.float().flatten(2).std(2)
    assert spread.median() > 20 and (spread > 8).float().mean() > 0.9
    brightness = clips.images.float().mean((2, 3, 4))
    assert 60 < brightness.median() < 200


@pytest.mark.parametrize(('seeds', 'frames', 'stride'), [([], 1, 1), ([1], 0, 1), ([1], 1, 0)])
def test_nothing_to_render_is_refused(seeds, frames, stride):
    with pytest.raises(ValueError):
        render_clips(seeds, frames, stride)
