# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Places: depth of turned solids against signed distances, cameras inside walls, photographs, skies, the shutter."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from evict3r_ros import geometry
from evict3r_ros.errors import UserError
from evict3r_ros.synthetic.clips import render_clips
from evict3r_ros.synthetic.compression import compress_blocks, cosine_matrix
from evict3r_ros.synthetic.effects import SHUTTER
from evict3r_ros.synthetic.photos import PhotoCounts, load_photos
from evict3r_ros.synthetic.place_shapes import KINDS
from evict3r_ros.synthetic.places import make_places
from evict3r_ros.synthetic.scene import SOLID_BOXES, SOLID_ELLIPSOIDS, SOLIDS
from evict3r_ros.synthetic.shutter import motion_blur
from evict3r_ros.synthetic.world import make_worlds

SIZE = (42, 56)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Two textures, one red and one of noise, and a sky that is blue above and green below the horizon."""
    folder = tmp_path_factory.mktemp('photos')
    (folder / 'skies').mkdir()
    red = np.zeros((20, 30, 3), np.uint8)
    red[..., 2] = 200
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    sky = np.zeros((32, 64, 3), np.uint8)
    sky[:16, :, 0], sky[16:, :, 1] = 250, 250
    for name, image in (('a.png', red), ('b.png', noise), ('skies/c.png', sky)):
        assert cv2.imwrite(str(folder / name), image)
    return load_photos(folder)


def solid_distance(scene, world, points):
    """Signed distance (a lower bound of it for ellipsoids) to the nearest solid's surface at points (..., 3)."""
    gaps = []
    for number in range(SOLIDS):
        half = scene.solid_half[world, number].double().numpy()
        if not half.all():
            continue
        local = (points - scene.solid_centre[world, number].double().numpy()) @ scene.solid_axes[
            world, number
        ].double().numpy().T
        if number < SOLID_BOXES:
            outside = np.abs(local) - half
        elif number < SOLID_BOXES + SOLID_ELLIPSOIDS:
            gaps.append((np.linalg.norm(local / half, axis=-1) - 1) * half.min())
            continue
        else:
            side = (np.linalg.norm(local[..., :2] / half[:2], axis=-1) - 1) * half[:2].min()
            outside = np.stack([side, np.abs(local[..., 2]) - half[2]], axis=-1)
        gaps.append(np.linalg.norm(np.maximum(outside, 0), axis=-1) + np.minimum(outside.max(axis=-1), 0))
    return np.min(gaps, axis=0)


def test_what_is_seen_of_solids_lies_on_them_and_nothing_is_seen_through_them():
    seeds = range(24)
    clips, scene = (
        render_clips(seeds, 2, 8, SIZE, effects=False, family='places'),
        make_places(seeds, PhotoCounts()).scene,
    )
    on_solids = 0
    for world in seeds:
        depth = clips.depth[world, 1].double().numpy()
        known = np.isfinite(depth)
        rays = geometry.unproject(np.ones_like(depth), clips.intrinsics[world])
        pose = clips.world_from_camera[world, 1].numpy()
        points = geometry.transform_points(pose, rays * np.where(known, depth, 1.0)[..., None])[known]
        gap = solid_distance(scene, world, points)
        assert gap.min() > -2e-3 * max(1.0, depth[known].max()), 'a solid is seen through'
        on_solids += (np.abs(gap) < 1e-3).sum()
        eye = pose[:3, 3]
        for share in (0.3, 0.6, 0.95):
            assert solid_distance(scene, world, eye + share * (points - eye)).min() > -1e-3
    assert on_solids > 0.05 * clips.depth[:, 1].numel()


def test_cameras_stay_inside_the_walls_whatever_shakes_them():
    worlds = make_places(range(60), PhotoCounts())
    assert set(worlds.kinds) == set(KINDS)
    for loop in (None, 700.0):
        place = worlds.poses(np.arange(0.0, 700.0, 3.0), loop)[..., :3, 3]
        half = worlds.scene.size.double() / 2
        assert (place[..., :2].abs() < half[:, None, :2]).all()
        assert (place[..., 2] > 0).all() and (place[..., 2] < 2 * half[:, None, 2]).all()


def test_cameras_are_pitched_rolled_still_and_fast():
    worlds = make_places(range(200), PhotoCounts())
    pose = worlds.poses(np.arange(24.0)).numpy()
    pitch = np.degrees(np.arcsin(pose[:, 0, 2, 2]))
    roll = np.degrees(np.arctan2(pose[:, 0, 2, 0], -pose[:, 0, 2, 1]))
    assert np.quantile(pitch, 0.1) < -40 and np.quantile(pitch, 0.95) > 5
    assert np.quantile(np.abs(roll), 0.9) > 15 and np.median(np.abs(roll)) < 10
    step = np.median(np.linalg.norm(np.diff(pose[..., :3, 3], axis=1), axis=-1), axis=1)
    assert np.quantile(step, 0.9) > 10 * np.quantile(step, 0.1)
    fov = np.degrees(2 * np.arctan(worlds.scene.tan_half_fov.numpy()))
    assert fov.min() < 45 and fov.max() > 105


def test_a_way_comes_back_to_where_it_began():
    poses = make_places(range(12), PhotoCounts()).poses(np.array([0.0, 400.0, 800.0]), 400.0)
    assert torch.allclose(poses[:, 0], poses[:, 1], atol=1e-6) and torch.allclose(poses[:, 0], poses[:, 2], atol=1e-6)


def test_turns_are_those_of_the_poses():
    worlds = make_places(range(8), PhotoCounts())
    times = np.arange(5.0)
    turns, step = worlds.turns(times).numpy(), 0.01
    before, after = (worlds.poses(times + shift).numpy()[..., :3, :3] for shift in (-step / 2, step / 2))
    for world in range(8):
        for frame in range(5):
            expected = geometry.rotation_vector(before[world, frame].T @ after[world, frame]) / step
            assert np.allclose(turns[world, frame], expected, atol=0.03 * np.linalg.norm(expected) + 2e-3)


def test_photographs_and_skies_are_seen(photos):
    assert photos.counts == (2, 1)
    plain, painted = (
        render_clips(range(16), 1, 1, SIZE, False, family='places', photos=each) for each in (None, photos)
    )
    assert torch.equal(plain.depth, painted.depth) and not torch.equal(plain.images, painted.images)
    again = render_clips(range(16), 1, 1, SIZE, False, family='places', photos=photos)
    assert torch.equal(again.images, painted.images)
    sky = painted.depth.isinf()
    assert 0.01 < sky.float().mean() < 0.5
    red, _, blue = painted.images.float()[sky].mean(0)
    assert blue > 2 * red, 'the panorama is blue'
    rooms = render_clips(range(8), 1, 1, SIZE, False, photos=photos)
    assert torch.equal(rooms.depth, render_clips(range(8), 1, 1, SIZE, False).depth)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match='no images'):
        load_photos(tmp_path)


def test_rooms_beside_places_look_as_they_do_alone(photos):
    worlds = make_worlds(range(3))
    padded = worlds.scene.with_solids()
    assert padded.has_solids and not worlds.scene.has_solids and padded.with_solids() is padded
    assert torch.equal(padded.materials[:, : worlds.scene.materials.shape[1]], worlds.scene.materials)
    assert (padded.solid_half == 0).all()


def test_a_turning_camera_blurs_along_its_turn():
    image = torch.zeros(1, 3, 20, 40)
    image[..., 20] = 1.0
    y, x = torch.meshgrid((torch.arange(20.0) - 10) / 20, (torch.arange(40.0) - 20) / 20, indexing='ij')
    faults = torch.zeros(1, 20)
    faults[:, SHUTTER] = 1.0
    across, along = (
        motion_blur(image, faults, torch.tensor([turn]), x.reshape(1, -1), y.reshape(1, -1), torch.ones(1, 1))
        for turn in ((0.0, 0.1, 0.0), (0.1, 0.0, 0.0))
    )
    assert along[0, 0, 10, 20] == pytest.approx(1.0) and across[0, 0, 10, 20] < 0.7
    assert across[0, 0, 10].sum() == pytest.approx(1.0, abs=0.2)


def test_compression_rounds_and_can_be_off():
    matrix = cosine_matrix(torch.device('cpu'))
    assert torch.allclose(matrix @ matrix.T, torch.eye(8), atol=1e-6)
    image = torch.rand(3, 3, 21, 30, generator=torch.Generator().manual_seed(0))
    found = compress_blocks(image, torch.tensor([0.0, 0.01, 0.2]))
    error = (found - image).abs().mean((1, 2, 3))
    assert torch.equal(found[0], image[0]) and 0 < error[1] < 0.02 and error[2] > 4 * error[1]
