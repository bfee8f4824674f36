# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What drivers and calibration tools call a lens, and how many coefficients they give."""

from __future__ import annotations

import pytest

from evict3r_ros.camera.lens import COEFFICIENTS, distortion_of

TWO, FOUR, FIVE, EIGHT = ([0.1 * (i + 1) for i in range(count)] for count in (2, 4, 5, 8))


@pytest.mark.parametrize(
    ('name', 'given', 'model', 'taken'),
    [
        ('plumb_bob', FIVE, 'plumb_bob', FIVE),
        ('', FIVE, 'plumb_bob', FIVE),
        ('Plumb Bob', FOUR, 'plumb_bob', FOUR),
        ('radtan', FOUR, 'plumb_bob', FOUR),
        ('radial-tangential', FOUR, 'plumb_bob', FOUR),
        ('Brown Conrady', FIVE, 'plumb_bob', FIVE),
        ('modified_brown_conrady', FIVE, 'plumb_bob', FIVE),
        ('plumb_bob', EIGHT, 'rational_polynomial', EIGHT),
        ('rational_polynomial', FIVE, 'plumb_bob', FIVE),
        ('rational_polynomial', [*EIGHT, 0.0, 0.0, 0.0, 0.0], 'rational_polynomial', EIGHT),
        ('plumb_bob', [*FOUR, 0.0, 0.0, 0.0, 0.0], 'plumb_bob', FOUR),
        ('equidistant', FOUR, 'equidistant', FOUR),
        ('fisheye', FOUR, 'equidistant', FOUR),
        ('kannala_brandt4', FOUR, 'equidistant', FOUR),
        ('Kannala Brandt', [*FOUR, 0.0], 'equidistant', FOUR),
        ('pinhole-equi', FOUR, 'equidistant', FOUR),
        ('none', [], 'plumb_bob', []),
        ('inverse_brown_conrady', [0.0] * 5, 'plumb_bob', []),
        ('double_sphere', [0.0, 0.0], 'plumb_bob', []),
    ],
)
def test_what_is_meant_is_taken(name, given, model, taken):
    assert distortion_of(name, given)[:2] == (model, tuple(taken))


@pytest.mark.parametrize(
    ('name', 'given', 'model', 'taken', 'told'),
    [
        ('plumb_bob', TWO, 'plumb_bob', [*TWO, 0.0, 0.0], 'those missing are taken as 0'),
        ('equidistant', TWO, 'equidistant', [*TWO, 0.0, 0.0], 'those missing are taken as 0'),
        ('equidistant', EIGHT, 'equidistant', EIGHT[:4], 'the first four are used'),
        ('none', FIVE, 'plumb_bob', FIVE, 'and yet it has coefficients'),
        ('plumb_bob', [0.1] * 20, 'plumb_bob', [], '20 distortion coefficients'),
        ('inverse_brown_conrady', FIVE, 'plumb_bob', [], 'is not known'),
        ('omnidirectional', FIVE, 'plumb_bob', [], 'is not known'),
        ('plumb_bob', [float('inf')] * 5, 'plumb_bob', [], 'no numbers'),
    ],
)
def test_what_cannot_be_known_is_assumed_and_said(name, given, model, taken, told):
    found = distortion_of(name, given)
    assert found[:2] == (model, tuple(taken)) and told in found[2]


@pytest.mark.parametrize('count', range(1, 15))
@pytest.mark.parametrize('name', ['plumb_bob', 'rational_polynomial', 'fisheye'])
def test_whatever_the_count_opencv_takes_what_comes_out(name, count):
    model, taken, _ = distortion_of(name, [0.01] * count)
    assert len(taken) in COEFFICIENTS[model]
