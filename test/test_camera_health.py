# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images that show nothing, and images that never change."""

from __future__ import annotations

import numpy as np
import pytest

from evict3r_ros.camera.health import LEAST_CONTRAST, FrozenWatch, contrast, has_usable_shape


@pytest.mark.parametrize('size', [(20, 30), (480, 640), (2160, 3840)])
@pytest.mark.parametrize('level', [0, 255])
def test_a_dark_and_a_white_sensor_show_nothing(size, level):
    noise = np.random.default_rng(0).normal(0.0, 1.0, (*size, 3))
    image = np.clip(level + noise, 0, 255).astype(np.uint8)
    assert contrast(image) < LEAST_CONTRAST


@pytest.mark.parametrize('size', [(20, 30), (480, 640), (2160, 3840)])
def test_a_dim_room_shows_something(size):
    ramp = np.linspace(5, 25, size[1])[None, :, None] * np.ones((size[0], 1, 3))
    assert contrast(ramp.astype(np.uint8)) > 2 * LEAST_CONTRAST


def test_one_colour_alone_is_contrast():
    image = np.zeros((50, 50, 3), np.uint8)
    image[:, ::2, 2] = 40
    assert contrast(image) > LEAST_CONTRAST


@pytest.mark.parametrize(
    ('size', 'usable'),
    [((1, 1), False), ((13, 200), False), ((14, 200), True), ((5000, 20), False), ((4320, 7680), True)],
)
def test_lines_of_pixels_are_no_images(size, usable):
    assert has_usable_shape(*size) == has_usable_shape(*size[::-1]) == usable


def test_images_that_are_the_same_are_counted_until_one_differs():
    watch, rng = FrozenWatch(), np.random.default_rng(1)
    image, other = rng.integers(0, 256, (2, 480, 640, 3), np.uint8)
    assert [watch.update(image), watch.update(image.copy()), watch.update(image)] == [0, 1, 2]
    assert [watch.update(other), watch.update(image), watch.update(image)] == [0, 0, 1]


def test_noise_of_one_level_tells_a_living_camera():
    watch, rng = FrozenWatch(), np.random.default_rng(2)
    image = rng.integers(50, 200, (480, 640, 3), np.uint8)
    for _ in range(20):
        assert watch.update(image + rng.integers(0, 2, image.shape, np.uint8)) == 0
