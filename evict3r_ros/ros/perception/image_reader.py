# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The images of one camera as RGB, one after the other: with a steady brightness; what their encodings leave open."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from evict3r_ros.camera.tone import SteadyTone
from evict3r_ros.io.encodings import COLOUR_ENCODINGS, encoding_name
from evict3r_ros.ros.messages import conversions


class ImageReader:
    """Read images of either kind. assume(text): is told once of each encoding that does not say what its pixels are."""

    def __init__(self, assume: Callable[[str], None]) -> None:
        self._assume = assume
        self._tone = SteadyTone()
        self._told: set[str] = set()

    def read(self, message: Image | CompressedImage) -> np.ndarray:
        """Return an image as (h, w, 3) uint8 RGB. Raises MessageError with the reason for one that cannot be read."""
        if isinstance(message, CompressedImage):
            return conversions.rgb_from_compressed(message, self._tone)
        rgb = conversions.rgb_from_image(message, self._tone)
        name = encoding_name(message.encoding, COLOUR_ENCODINGS)
        assumed = COLOUR_ENCODINGS[name].assumed
        if assumed and name not in self._told:
            self._told.add(name)
            self._assume(f'encoding {name} does not say what its pixels are: they are taken for {assumed}')
        return rgb
