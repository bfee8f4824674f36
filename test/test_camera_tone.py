# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sixteen bits become eight: contrast for sensors that fill few of them, and no flicker."""

from __future__ import annotations

import numpy as np
import pytest

from evict3r_ros.camera import health
from evict3r_ros.camera.tone import LEAST_RANGE, SteadyTone

SIZE = (120, 160)


def ramp(low: float, high: float) -> np.ndarray:
    """Return an image whose counts go from low to high."""
    return np.linspace(low, high, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint16)


@pytest.mark.parametrize(
    ('low', 'high'), [(7800, 8200), (0, 1023), (64, 4095), (200, 16383), (20_000, 24_000), (0, 65535)]
)
def test_whatever_bits_a_sensor_fills_are_stretched_to_all_shades(low, high):
    grey = SteadyTone().grey(ramp(low, high))
    assert grey.dtype == np.uint8 and grey.shape == SIZE
    assert np.ptp(grey) > 190 and (np.diff(grey.ravel().astype(int)) >= 0).all()


def test_what_stays_the_same_in_the_world_stays_the_same_in_the_picture():
    """A hot thing comes into view, 50 images long: a tenth of the pixels, far above the rest."""
    tone, scene = SteadyTone(), ramp(7800, 8200)
    rng, shades = np.random.default_rng(0), []
    for index in range(60):
        seen = scene + rng.integers(0, 4, SIZE).astype(np.uint16)
        if index >= 10:
            seen[:12] = 8900
        shades.append(float(tone.grey(seen)[60].mean()))
    steps = np.abs(np.diff(shades))
    assert steps.max() < 7.0, 'of 255 between two images'
    assert abs(shades[-1] - shades[9]) > 20.0, 'and yet it follows'


def test_a_range_that_has_nothing_to_do_with_the_last_is_taken_at_once():
    tone = SteadyTone()
    tone.grey(ramp(7800, 8200))
    assert np.ptp(tone.grey(ramp(12_000, 12_500))) > 190


def test_a_shutter_in_front_of_the_sensor_moves_no_range():
    """Thermal cameras close one every few minutes, to calibrate themselves."""
    tone, scene = SteadyTone(), ramp(7800, 8200)
    before = tone.grey(scene)
    for _ in range(20):
        tone.grey(np.full(SIZE, 8010, np.uint16))
    np.testing.assert_array_equal(tone.grey(scene), before)


def test_the_noise_of_a_covered_sensor_is_no_picture():
    noise = np.random.default_rng(0).normal(512, 1.5, SIZE).round().astype(np.uint16)
    shown = SteadyTone().grey(noise)
    assert health.contrast(shown[..., None]) < health.LEAST_CONTRAST
    assert np.ptp(shown) <= np.ptp(noise) and LEAST_RANGE >= 256, 'no count becomes more than a shade'


@pytest.mark.parametrize('bits', [10, 12, 14, 16])
def test_white_of_a_colour_camera_is_the_bits_that_it_fills(bits):
    tone = SteadyTone()
    bright = ramp(0, 2**bits - 1)
    shown = tone.colour(bright)
    assert shown[0, 0] == 0 and shown[-1, -1] == 255
    dark = tone.colour(bright // 8)
    np.testing.assert_allclose(dark, shown / 8.0, atol=1.0, err_msg='a darker image stays darker')
