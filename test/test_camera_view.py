# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Image preparation: sizes as published, and the way back to the camera."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evict3r_ros.camera.view import ImageView
from evict3r_ros.errors import UserError
from evict3r_ros.network.presets import PATCH

sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


@pytest.mark.parametrize(
    ('camera', 'network'),
    [
        ((480, 640), (392, 518)),
        ((480, 752), (336, 518)),
        ((720, 1280), (294, 518)),
        ((1000, 500), (518, 518)),
        ((1, 1), (518, 518)),
        ((1, 4000), (14, 518)),
        ((518, 518), (518, 518)),
    ],
)
def test_sizes_as_published(camera, network):
    assert ImageView.of(camera, 518).network_size == network


def test_tall_images_lose_top_and_bottom_alike():
    view = ImageView.of((1000, 500), 518)
    assert view.resized_size == (1036, 518)
    assert view.crop_top == 259
    assert view.seen_rows == (0.25, 0.75)
    assert ImageView.of((480, 640), 518).seen_rows == (0.0, 1.0)


def test_nothing_to_see():
    with pytest.raises(UserError, match='0 x 480'):
        ImageView.of((480, 0), 518)


@given(sizes, st.sampled_from([154, 224, 518]))
def test_network_sizes_are_patches(camera, width):
    view = ImageView.of(camera, width)
    assert view.network_size[1] == width
    assert view.network_size[0] % PATCH == 0
    assert PATCH <= view.network_size[0] <= width
    assert view.patches == (view.network_size[0] // PATCH, width // PATCH)


@given(sizes, st.tuples(*[st.floats(10.0, 2000.0)] * 4))
def test_camera_matrix_round_trip(camera, numbers):
    fx, fy, cx, cy = numbers
    matrix = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    view = ImageView.of(camera, 154)
    np.testing.assert_allclose(view.to_camera_K(view.to_network_K(matrix)), matrix, rtol=1e-9, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.integers(20, 200), st.integers(20, 200)))
def test_a_ray_is_the_same_in_both_images(camera):
    """A pixel of the camera and the pixel that preparation makes of it look along one ray."""
    view = ImageView.of(camera, 154)
    camera_matrix = np.array([[120.0, 0, camera[1] / 2], [0, 130.0, camera[0] / 2], [0, 0, 1]])
    rows = np.broadcast_to(np.arange(camera[0])[:, None], camera).astype(np.float32)
    columns = np.broadcast_to(np.arange(camera[1])[None, :], camera).astype(np.float32)
    # Where each camera pixel's own row and column lie in the network's image, read from maps of the network's image.
    v_network, u_network = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float32) for n in view.network_size), indexing='ij'
    )
    v, u = view.to_camera(v_network).numpy(), view.to_camera(u_network).numpy()
    seen = np.isfinite(v)
    ray_camera = np.linalg.inv(camera_matrix) @ np.stack((columns, rows, np.ones_like(rows)))[:, seen]
    ray_network = np.linalg.inv(view.to_network_K(camera_matrix)) @ np.stack((u, v, np.ones_like(u)))[:, seen]
    # The nearest pixel is at most half a pixel away.
    scale = np.array([view.resized_size[1] / camera[1], view.resized_size[0] / camera[0]])
    assert (np.abs(ray_camera - ray_network)[0] * 120.0 * scale[0]).max() <= 0.5 + 1e-3
    assert (np.abs(ray_camera - ray_network)[1] * 130.0 * scale[1]).max() <= 0.5 + 1e-3


def test_map_back_to_the_camera_of_a_crop_has_nan_outside():
    view = ImageView.of((1000, 500), 518)
    answer = view.to_camera(torch.ones(518, 518))
    assert answer.shape == (1000, 500)
    assert torch.isnan(answer[:249]).all() and torch.isnan(answer[-249:]).all()
    assert torch.isfinite(answer[250:750]).all()


def test_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match='network size'):
        ImageView.of((480, 640), 518).to_camera(torch.ones(10, 10))


def test_an_image_of_the_networks_size_passes_unchanged():
    image = torch.randint(0, 256, (112, 154, 3), dtype=torch.uint8)
    prepared = ImageView.of((112, 154), 154).prepare(image)
    assert torch.equal((prepared * 255).round().to(torch.uint8).permute(1, 2, 0), image)


@settings(max_examples=20, deadline=None)
@given(st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_prepared_images_stay_in_range_and_keep_flat_colours(camera):
    view = ImageView.of(camera, 154)
    image = torch.full((*camera, 3), 255, dtype=torch.uint8)
    image[..., 1] = 128
    prepared = view.prepare(image)
    assert prepared.shape == (3, *view.network_size)
    assert prepared.min() >= 0.0 and prepared.max() <= 1.0
    assert torch.allclose(prepared[1], torch.tensor(128 / 255.0), atol=1e-4)


def test_a_smooth_image_survives_the_round_trip():
    """Down to the network's size and back at the camera's: a ramp moves by less than a network pixel's step."""
    camera = (240, 320)
    ramp = np.tile(np.linspace(0, 255, 320)[None, :, None], (240, 1, 3)).astype(np.uint8)
    view = ImageView.of(camera, 154)
    back = view.to_camera(view.prepare(torch.from_numpy(ramp))[0]) * 255
    assert (back - torch.from_numpy(ramp[..., 0]).float()).abs().max() < 255 / 154 + 1.5


@pytest.mark.parametrize(
    'image',
    [torch.zeros(10, 10, 3), torch.zeros(10, 9, 3, dtype=torch.uint8), torch.zeros(10, 10, 4, dtype=torch.uint8)],
)
def test_wrong_images_are_refused(image):
    with pytest.raises(ValueError, match='uint8 RGB'):
        ImageView.of((10, 10), 154).prepare(image)


@pytest.mark.parametrize('camera_size', [(42, 56), (126, 168), (480, 640), (900, 500)])
def test_to_network_takes_the_nearest_pixel(camera_size):
    """Where the camera's pixel lies, by K, is what is taken: off by half a pixel of the camera at most."""
    view = ImageView.of(camera_size, 56)
    rows, columns = np.meshgrid(*(np.arange(side, dtype=float) for side in camera_size), indexing='ij')
    taken = np.stack([view.to_network(columns), view.to_network(rows)])
    to_camera = view.to_camera_K(np.eye(3))
    u, v = np.meshgrid(np.arange(view.network_size[1]), np.arange(view.network_size[0]))
    wanted = np.stack([to_camera[0, 0] * u + to_camera[0, 2], to_camera[1, 1] * v + to_camera[1, 2]])
    assert np.abs(taken - wanted).max() <= 0.5 + 1e-9
    with pytest.raises(ValueError, match='camera size'):
        view.to_network(columns[1:])
