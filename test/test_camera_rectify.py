# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rectification against OpenCV's forward projection, which it does not use itself."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from evict3r_ros.camera.calibration import Calibration, SensorWindow
from evict3r_ros.camera.rectify import Rectifier

SIZE = (240, 320)
K = np.array([[200.0, 0, 158.0], [0, 201.0, 121.0], [0, 0, 1]])
MODELS = {
    'plumb_bob': (-0.28, 0.07, 0.0002, -0.0003, 0.0),
    'rational_polynomial': (0.1, -0.05, 0.0002, -0.0003, 0.01, 0.35, -0.02, 0.02),
    'equidistant': (-0.02, 0.01, -0.003, 0.001),
}


def calibration(model: str, **changes) -> Calibration:
    return Calibration(**{'size': SIZE, 'model': model, 'K': tuple(K.ravel()), 'D': MODELS.get(model, ()), **changes})


def project(points: np.ndarray, model: str) -> np.ndarray:
    """Return the distorted pixels (n, 2) that the camera sees points (n, 3) at."""
    D, zero = np.array(MODELS[model]), np.zeros(3)
    if model == 'equidistant':
        return cv2.fisheye.projectPoints(points[:, None], zero, zero, K, D)[0][:, 0]
    return cv2.projectPoints(points, zero, zero, K, D)[0][:, 0]


@pytest.mark.parametrize('model', MODELS)
def test_a_point_in_space_comes_to_lie_where_the_new_camera_matrix_says(model):
    """Draw a blob where the lens puts a point, rectify, and find its centre where K alone would have put it."""
    rectifier = Rectifier(calibration(model))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    for direction in ([0.0, 0.0], [0.35, 0.2], [-0.4, 0.3], [0.3, -0.4], [-0.5, -0.25]):
        point = np.array([[*direction, 1.0]])
        u, v = project(point, model)[0]
        image = np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 2.0**2))
        weights = rectifier(np.repeat((255 * image)[..., None], 3, 2).astype(np.uint8))[..., 0].astype(float)
        found = np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()
        np.testing.assert_allclose(found, (rectifier.K @ point[0])[:2], atol=0.35)


@pytest.mark.parametrize('model', MODELS)
def test_a_texture_seen_through_the_lens_comes_back(model):
    """Render a smooth texture through the lens by exact projection of each pixel's ray, then rectify it."""

    def texture(u, v):
        return 127 + 60 * np.sin(u / 9.0) + 60 * np.cos(v / 7.0)

    v, u = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    pixels = np.stack([u.ravel(), v.ravel()], 1)[:, None]
    undo = cv2.fisheye.undistortPoints if model == 'equidistant' else cv2.undistortPoints
    ideal = undo(pixels, K, np.array(MODELS[model]), P=K).reshape(*SIZE, 2)
    distorted = np.repeat(texture(ideal[..., 0], ideal[..., 1])[..., None], 3, 2).astype(np.uint8)
    rectifier = Rectifier(calibration(model))
    answer = rectifier(distorted)[..., 0].astype(float)
    inside = np.ones(SIZE, bool) if rectifier.valid is None else rectifier.valid
    inside[:30], inside[-30:], inside[:, :30], inside[:, -30:] = False, False, False, False
    assert inside.mean() > 0.4
    assert np.abs(answer - texture(u, v))[inside].mean() < 2.0


@pytest.mark.parametrize('model', MODELS)
def test_no_distortion_leaves_the_image_alone(model):
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    for D in ((), (0.0,) * len(MODELS[model])):
        rectifier = Rectifier(calibration(model, D=D))
        assert rectifier(image) is image and rectifier.valid is None
        np.testing.assert_array_equal(rectifier.K, K)


def test_projection_matrix_of_the_calibration_is_the_new_camera_matrix():
    P = (150.0, 0, 160.0, -12.0, 0, 150.0, 120.0, 0, 0, 0, 1.0, 0)
    rectifier = Rectifier(calibration('plumb_bob', P=P))
    np.testing.assert_array_equal(rectifier.K, np.reshape(P, (3, 4))[:, :3])


@pytest.mark.parametrize(
    ('P', 'reason'),
    [
        ((1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0, 0), 'focal length in P is 0.005'),
        ((100.0, 0, 79.0, 0, 0, 100.5, 60.5, 0, 0, 0, 1.0, 0), '0.5 times as large'),
        ((-1.0, *(0.0,) * 11), 'not a camera matrix'),
        ((200.0, 0, 3000.0, 0, 0, 201.0, 121.0, 0, 0, 0, 1.0, 0), 'centre of P'),
        # of half the size, and zoomed so that no black is left, as getOptimalNewCameraMatrix does
        ((85.0, 0, 79.0, 0, 0, 85.0, 60.5, 0, 0, 0, 1.0, 0), 'centre of P'),
    ],
)
def test_a_projection_matrix_that_contradicts_the_camera_is_left_out(P, reason):
    rectifier = Rectifier(calibration('plumb_bob', P=P))
    np.testing.assert_array_equal(rectifier.K, K)
    assert reason in rectifier.assumed and 'K is used instead' in rectifier.assumed
    assert rectifier.valid is None or rectifier.valid.mean() > 0.9


def test_a_projection_matrix_beside_no_distortion_is_left_out_unless_the_image_is_rectified():
    """P of alpha 1 and D of zeros: there is nothing to rectify, only black to add; but a rectified image has that K."""
    P = (150.0, 0, 160.0, 0, 0, 150.0, 120.0, 0, 0, 0, 1.0, 0)
    given = calibration('plumb_bob', D=(0.0,) * 5, P=P)
    rectifier = Rectifier(given)
    np.testing.assert_array_equal(rectifier.K, K)
    assert 'nothing to rectify' in rectifier.assumed and rectifier.valid is None
    rectified = Rectifier(given.of_rectified_images())
    assert (rectified.K[0, 0], rectified.assumed) == (150.0, '')
    foreign = Rectifier(calibration('plumb_bob', P=(1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0, 0)).of_rectified_images())
    np.testing.assert_array_equal(foreign.K, K)
    assert not foreign.assumed and 'K is used instead' in foreign.calibration.assumed


@pytest.mark.parametrize('model', MODELS)
def test_a_distortion_that_leaves_nothing_of_the_image_does_not_cost_the_camera_matrix(model):
    rectifier = Rectifier(calibration(model, D=(1e9, *MODELS[model][1:])))
    np.testing.assert_array_equal(rectifier.K, K)
    assert 'taken for undistorted' in rectifier.assumed and rectifier.valid is None
    broken = calibration(model, D=(1e300, *MODELS[model][1:]))
    assert broken.pixels_apart(broken) == 0.0, 'else each camera_info would begin a stream'
    assert broken.pixels_apart(calibration(model)) > SIZE[1]


@pytest.mark.parametrize(('across', 'width'), [(2, 160), (3, 106), (3, 107)])
def test_a_binning_that_does_not_divide_the_size_is_rounded_either_way(across, width):
    given = calibration('plumb_bob', window=SensorWindow((2, across)))
    assert given.of_images((120, width)).K[0] == pytest.approx(200.0 / across)
    assert given.of_images((120, width + 2)) is None


def test_a_calibration_without_a_size_is_taken_for_that_of_the_images():
    found = calibration('plumb_bob', size=(0, 0)).of_images(SIZE)
    assert found.size == SIZE and found.K[0] == 200.0 and 'has no size' in found.assumed


def test_corners_that_the_camera_did_not_see_are_not_valid():
    wide = (100.0, 0, 160.0, 0, 0, 100.0, 120.0, 0, 0, 0, 1.0, 0)
    rectifier = Rectifier(calibration('plumb_bob', P=wide))
    answer = rectifier(np.full((*SIZE, 3), 255, np.uint8))[..., 0]
    assert not rectifier.valid[0, 0] and rectifier.valid[120, 160]
    assert (answer[~rectifier.valid] < 255).all() and np.median(answer[rectifier.valid]) == 255


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'model': 'kannala'}, "'kannala' is not supported"),
        ({'D': (0.1, 0.2, 0.3)}, '3 coefficients do not fit plumb_bob'),
        ({'D': (np.nan, 0, 0, 0, 0)}, 'not finite'),
        ({'K': (0.0,) * 9}, 'not a camera matrix'),
        ({'K': (200.0, 0, 158.0, 0, 1e-300, 121.0, 0, 0, 1.0)}, 'not a camera matrix'),
        ({'K': tuple(K.T.ravel())}, 'not a camera matrix'),
    ],
)
def test_calibrations_that_cannot_be_are_refused(changes, reason):
    with pytest.raises(ValueError, match=reason):
        Rectifier(calibration(**{'model': 'plumb_bob', **changes}))


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match='320 x 240'):
        Rectifier(calibration('plumb_bob'))(np.zeros((10, 20, 3), np.uint8))
