# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which images show something: a blank one is refused, and a camera that sends the same one again and again is told."""

from __future__ import annotations

import numpy as np

from evict3r_ros.camera import health
from evict3r_ros.ros.perception.faults import Faults, FrameRefused

FROZEN_AFTER = 30  # identical images in a row: a second of a usual camera


class ImageCheck:
    """Look at images one after the other."""

    def __init__(self, faults: Faults) -> None:
        self.frozen = False
        """Whether the last images are all the same."""
        self._faults = faults
        self._watch = health.FrozenWatch()

    def look_at(self, image: np.ndarray) -> None:
        """Take in the next image (h, w, 3) uint8; raises FrameRefused for one that shows nothing."""
        height, width = image.shape[:2]
        if not health.has_usable_shape(height, width):
            raise FrameRefused('broken_image', f'an image of {width} x {height} pixels shows nothing')
        contrast = health.contrast(image)
        if contrast < health.LEAST_CONTRAST:
            raise FrameRefused(
                'blank_image',
                f'an image without contrast (mean {image.mean():.0f}, deviation '
                f'{contrast:.1f} of 255): is the lens covered, or the exposure wrong?',
            )
        repeats = self._watch.update(image)
        if repeats == FROZEN_AFTER:
            self._faults.count('frozen_image', f'{repeats} images in a row are the same: has the camera stopped?')
        self.frozen = repeats >= FROZEN_AFTER
