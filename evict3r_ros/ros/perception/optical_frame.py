# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a camera's frame has optical axes (z forward, x right, y down) or those of a body (x forward, z up): REP-103.

All that comes out is in the image's frame, as if it were optical. Where it is a body's, a robot that drives ahead moves
up and the floor is a wall, and nothing else tells.
"""

from __future__ import annotations

import numpy as np

_LEAST_UP = 0.5
"""Of a body frame's z axis, along the base's: pitched or rolled by 60 degrees at most."""
_MOST_LEVEL = 0.35
"""Of its y axis, which stays level when a camera is pitched; that of an optical frame points down."""
_UNTURNED = np.cos(np.radians(10.0))


def doubt_about_axes(frame: str, base_from_camera: np.ndarray | None) -> str:
    """Return why a camera's frame does not look like an optical one, in words, or '' if it does.

    base_from_camera: (4, 4), with z up, or None where nobody published it: then the name alone speaks. A camera that
    looks up at a ceiling has the axes of a body turned by 90 degrees, so there the name decides as well.
    """
    name = frame.rsplit('/', 1)[-1].lower()
    if base_from_camera is None:
        if not name.endswith('_link') and not name.startswith('base'):
            return ''
        return (
            f'{frame!r} has the name of a body frame (x forward), and the images need an optical one (z forward): '
            'does the driver have an ..._optical_frame?'
        )
    axes = base_from_camera[:3, :3]
    is_up = axes[2, 2] > _LEAST_UP and abs(axes[2, 1]) < _MOST_LEVEL
    is_turned = min(axes.diagonal()) < _UNTURNED
    if not is_up or ('optical' in name and is_turned):
        return ''
    return (
        f'by /tf_static the optical axis of {frame!r}, its z axis, points up: these are the axes of a body frame '
        '(x forward), and the images need an optical one (z forward, x right, y down)'
    )
