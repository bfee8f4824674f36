# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of scenes: everything is inside, the path is visible, ceilings and outliers are not drawn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from evict3r_ros.errors import UserError
from evict3r_ros.geometry import BODY_FROM_OPTICAL, transform
from evict3r_ros.io.ply import PointCloud
from evict3r_ros.io.scene_camera import SceneCamera
from evict3r_ros.io.scene_picture import UP_OF_BODY, UP_OF_OPTICAL, PictureScene, draw_scene, write_scene_picture

K = np.array([[100.0, 0.0, 80.0], [0.0, 100.0, 60.0], [0.0, 0.0, 1.0]])
PAPER, GREEN, PURPLE = np.array([250, 250, 250]), (40, 160, 40), (160, 40, 160)
SIZE = (180, 320)


def plane(height, colour):
    """Return a level square of 4 x 4 m around (2, 0), z up."""
    x, y = np.meshgrid(np.linspace(0, 4, 81), np.linspace(-2, 2, 81))
    points = np.stack([x, y, np.full_like(x, height)], axis=-1).reshape(-1, 3).astype(np.float32)
    return points, np.tile(np.array(colour, np.uint8), (len(points), 1))


def scene(*planes, cameras=True, path=True):
    """Return planes and a drive along x at a height of 1 m."""
    points, colours = (np.concatenate(part) for part in zip(*planes, strict=True))
    positions = np.stack([np.linspace(0.5, 3.0, 9), np.zeros(9), np.ones(9)], axis=1) if path else np.empty((0, 3))
    poses = [transform(BODY_FROM_OPTICAL[:3, :3], position) for position in positions] if cameras else []
    return PictureScene(
        PointCloud(points, colours), 0.05, positions, [SceneCamera('', pose, K, (120, 160)) for pose in poses]
    )


def share_of(picture, colour):
    """Return the share of the pixels that have about the hue of an RGB colour; shading may darken them."""
    values = picture[..., ::-1].astype(float)
    wanted = np.array(colour) / np.linalg.norm(colour)
    cosine = values @ wanted / np.maximum(np.linalg.norm(values, axis=-1), 1e-9)
    return float((cosine > 0.995).mean())


def test_the_cloud_fills_the_picture_and_is_not_cut():
    picture = draw_scene(scene(plane(0.0, GREEN)), UP_OF_BODY, size=SIZE)
    assert picture.shape == (*SIZE, 3) and picture.dtype == np.uint8
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (border == PAPER).all()
    assert share_of(picture, GREEN) > 0.3
    rows, columns = (np.flatnonzero((picture != PAPER).any(axis=(axis, 2))) for axis in (1, 0))
    assert np.ptp(rows) > 0.85 * SIZE[0] or np.ptp(columns) > 0.85 * SIZE[1]


def test_the_path_runs_from_blue_to_red_over_the_cloud_away_from_the_viewer():
    without, picture = (
        draw_scene(scene(plane(0.0, GREEN), path=path), UP_OF_BODY, size=SIZE) for path in (False, True)
    )
    assert not share_of(without, (255, 0, 0)) and not share_of(without, (0, 0, 255))
    values = picture.astype(int)
    blue, red = values[..., 0] - values[..., 2] > 60, values[..., 2] - values[..., 0] > 60
    assert blue.sum() > 20 and red.sum() > 20
    # Seen from behind: the drive leads up in the picture.
    assert np.nonzero(blue)[0].mean() > np.nonzero(red)[0].mean() + 20


def test_in_front_hides_what_is_behind():
    low, high = plane(0.0, GREEN), plane(0.5, PURPLE)
    picture = draw_scene(scene(low, high), UP_OF_BODY, size=SIZE)
    assert share_of(picture, PURPLE) > 5 * share_of(picture, GREEN)


def test_a_ceiling_and_outliers_are_left_out():
    floor, ceiling = plane(0.0, GREEN), plane(2.0, PURPLE)
    assert share_of(draw_scene(scene(floor, ceiling), UP_OF_BODY, size=SIZE), PURPLE) == 0.0
    # Something high that is not over the path is no ceiling.
    aside = ceiling[0] + np.array([0.0, 4.5, 0.0], np.float32), ceiling[1]
    assert share_of(draw_scene(scene(floor, aside), UP_OF_BODY, size=SIZE), PURPLE) > 0.1
    far = floor[0][:20] + np.array([500.0, 0.0, 0.0], np.float32), floor[1][:20]
    assert share_of(draw_scene(scene(floor, far), UP_OF_BODY, size=SIZE), GREEN) > 0.3


def test_up_may_be_that_of_a_first_camera():
    """The same scene in OpenCV axes gives the same picture."""
    body = scene(plane(0.0, GREEN))
    turned = BODY_FROM_OPTICAL[:3, :3]
    optical = PictureScene(
        PointCloud((body.cloud.points @ turned).astype(np.float32), body.cloud.colours),
        body.spacing,
        body.path @ turned,
        [SceneCamera('', BODY_FROM_OPTICAL.T @ camera.world_from_camera, K, camera.size) for camera in body.cameras],
    )
    pictures = draw_scene(body, UP_OF_BODY, size=SIZE), draw_scene(optical, UP_OF_OPTICAL, size=SIZE)
    assert (np.abs(pictures[0].astype(int) - pictures[1]) > 8).mean() < 0.02


@pytest.mark.parametrize('cameras', [False, True])
def test_a_path_without_a_cloud_and_a_single_pose_can_be_drawn(cameras):
    full = scene(plane(0.0, GREEN), cameras=cameras)
    nothing = PointCloud(np.empty((0, 3), np.float32), np.empty((0, 3), np.uint8))
    for path in (full.path, full.path[:1]):
        picture = draw_scene(PictureScene(nothing, 0.05, path, full.cameras[: len(path)]), UP_OF_BODY, size=SIZE)
        assert picture.shape == (*SIZE, 3)
    with pytest.raises(ValueError, match='points or a path'):
        draw_scene(PictureScene(nothing, 0.05, np.empty((0, 3))), UP_OF_BODY)


def test_untrained_is_written_over_the_file_or_it_is_told(tmp_path):
    drawn = scene(plane(0.0, GREEN))
    write_scene_picture(tmp_path / 'plain.png', drawn, UP_OF_BODY)
    write_scene_picture(tmp_path / 'warned.png', drawn, UP_OF_BODY, untrained=True)
    plain, warned = (cv2.imread(str(tmp_path / f'{name}.png')) for name in ('plain', 'warned'))
    assert (plain != warned).any(axis=2).sum() > 2000
    with pytest.raises(UserError, match='could not be written'):
        write_scene_picture(tmp_path / 'no' / 'scene.png', drawn, UP_OF_BODY)
