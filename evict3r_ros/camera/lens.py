# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a driver or a calibration calls its lens, and the distortion that it means by that.

sensor_msgs/distortion_models.hpp names three models; drivers, calibration tools and data sets have a dozen other names
for the same formulas, and give more or fewer coefficients than the standard says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

PLUMB_BOB, RATIONAL, EQUIDISTANT = 'plumb_bob', 'rational_polynomial', 'equidistant'

COEFFICIENTS = {PLUMB_BOB: (4, 5), RATIONAL: (8, 12, 14), EQUIDISTANT: (4,)}
"""Model -> the numbers of coefficients that OpenCV takes for it; none, or all zero, means no distortion."""

# What a name holds, in this order, says which formula it is. OpenCV's pinhole formula is one, whose later coefficients
# may be left out: k1 k2 p1 p2 k3 is plumb_bob, with k4 k5 k6 behind it the rational polynomial.
_PARTS = (
    (('fisheye', 'equi', 'kannala', 'kb4'), EQUIDISTANT),
    (('rational', 'thin_prism', 'tilted', 'full_opencv'), RATIONAL),
    (('plumb', 'radtan', 'radial', 'tangential', 'brown', 'conrady', 'pinhole', 'opencv', 'standard'), PLUMB_BOB),
)
_OTHER = ('inverse', 'omni', 'double_sphere', 'ftheta', 'f_theta', 'scaramuzza', 'division', 'unified')
_NONE = ('none', 'no_distortion', 'undistorted', 'rectified', 'perspective', 'ideal')


def distortion_of(name: str, coefficients: Sequence[float]) -> tuple[str, tuple[float, ...], str]:
    """Return model, coefficients in a number that OpenCV takes, and what was assumed, '' if nothing had to be.

    No coefficients are left where there is no distortion, and where its formula is not known.
    """
    word = re.sub(r'[^a-z0-9]+', '_', name[:60].lower()).strip('_')
    values = [float(value) for value in coefficients]
    if not np.isfinite(values).all():
        return PLUMB_BOB, (), 'its distortion coefficients are no numbers: the image is taken for undistorted'
    while values and values[-1] == 0.0:
        values.pop()
    if not values:
        return (_model(word) or PLUMB_BOB), (), ''
    model = PLUMB_BOB if not word else _model(word)
    if model is None:
        return PLUMB_BOB, (), f'its distortion model {name[:60]!r} is not known: the image is taken for undistorted'
    allowed = (4,) if model == EQUIDISTANT else (4, 5, 8, 12, 14)
    given = len(coefficients)
    if len(values) > allowed[-1]:
        if model != EQUIDISTANT:
            return PLUMB_BOB, (), f'it has {given} distortion coefficients: the image is taken for undistorted'
        return model, tuple(values[:4]), f'it has {given} coefficients of {model}: the first four are used'
    count = next(count for count in allowed if count >= len(values))
    assumed = '' if given in (*allowed, 0) else f'it has {given} coefficients of {model}: those missing are taken as 0'
    if word in _NONE:
        assumed = f'its distortion model is {name[:60]!r}, and yet it has coefficients: they are taken for {model}'
    if model != EQUIDISTANT:
        model = RATIONAL if count > 5 else PLUMB_BOB
    return model, (*values, *(0.0,) * (count - len(values))), assumed


def _model(word: str) -> str | None:
    """Return the model that a name means, None if it means none of ours."""
    if any(part in word for part in _OTHER):
        return None
    if word in _NONE:
        return PLUMB_BOB
    return next((model for parts, model in _PARTS if any(part in word for part in parts)), None)
