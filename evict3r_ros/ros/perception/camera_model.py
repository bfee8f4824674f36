# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The camera as camera_info describes it: rectification, its matrix, and what stands in where nobody calibrated it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

import numpy as np
import torch
from sensor_msgs.msg import CameraInfo

from evict3r_ros.camera.calibration import Calibration
from evict3r_ros.camera.field_of_view import SteadyFocal
from evict3r_ros.camera.rectify import Rectifier
from evict3r_ros.camera.view import ImageView
from evict3r_ros.errors import MessageError
from evict3r_ros.ros.messages import conversions
from evict3r_ros.stream import Prediction

_SAME_PIXELS = 0.05
"""By how much a calibration may move things and still count as the same: numbers that a driver computes anew."""
_RESTART_SHARE = 0.01
"""Of the image's width: things that have moved by more than that since a stream began are seen by another camera."""
_AGREE = 3
"""Images in a row that make it another camera."""
_MOST_TOLD = 32
_RECTIFIED = re.compile(r'(?<![a-z])(rect(ified)?|undist(orted)?)(?![a-z])')


def names_rectified_images(topic: str) -> bool:
    """Return whether a topic's name says that its images are rectified.

    As image_proc, ZED and RealSense have it: image_rect, image_rect_color, rect/image, image_rect_raw.
    """
    return _RECTIFIED.search(topic.lower()) is not None


class CameraModel:
    """Rectify images and know K of what is published. Only `on_camera_info` is safe between threads.

    fault(text): where to say what is wrong with a camera_info, each thing once. rectified: whether images come
    rectified already, so that P is their K.
    """

    def __init__(self, fault: Callable[[str], None], rectified: bool = False) -> None:
        self._fault, self._rectified = fault, rectified
        self._told: set[str] = set()
        self._heard: Calibration | None = None
        self._heard_any = threading.Event()
        self._used: Calibration | None = None
        self._began: Calibration | None = None  # what was used when the stream began
        self._other: tuple[Calibration, int] | None = None  # of another lens, and how many images in a row
        self._rectifier: Rectifier | None = None
        self._mask: np.ndarray | None = None  # the rectifier's valid pixels, at the published size
        self._focal = SteadyFocal()

    def on_camera_info(self, message: CameraInfo) -> None:
        """Take in a camera_info, from any thread; it holds from the next image on. A broken one changes nothing."""
        try:
            self._heard = conversions.calibration_from_info(message)
        except MessageError as error:
            self._tell(f'camera_info is not used: {error}')
        self._heard_any.set()

    def wait(self, expected: Callable[[], bool], timeout_s: float, cancelled: threading.Event) -> None:
        """Wait for a first camera_info as long as one is expected."""
        deadline = time.monotonic() + timeout_s
        while expected() and time.monotonic() < deadline and not cancelled.is_set():
            if self._heard_any.wait(0.05):
                return

    def follow(self, size: tuple[int, int], anew: bool) -> bool:
        """Use the last calibration heard, for images of `size` (height, width).

        anew: whether a stream begins with this image anyway. Returns whether one has to, because the images are now
        those of another lens. A focus that breathes moves the matrix alone.
        """
        heard = self._for_images(size)
        if anew:
            self._adopt(heard)
            self._began = self._used
            return False
        if heard is None and self._heard is not None:
            return False  # of other images
        if heard is None or self._used is None:
            if heard is self._used:
                return False
        elif self._is_doubtful(heard, size) or self._used.pixels_apart(heard) < _SAME_PIXELS:
            return False
        self._adopt(heard)
        if self._began is not None and self._used is not None:
            if self._began.pixels_apart(self._used) < _RESTART_SHARE * size[1]:
                self._tell('the calibration in camera_info moves (autofocus?): the stream goes on with the new one')
                return False
        elif self._began is self._used:
            return False
        self._began = self._used
        return True

    def _is_doubtful(self, heard: Calibration, size: tuple[int, int]) -> bool:
        """Return whether a calibration is of another lens, and not yet that of enough images in a row.

        A focus that hunts, or a stabiliser, comes back at once; a zoom stays.
        """
        bound = _RESTART_SHARE * size[1]
        if self._began is None or self._began.pixels_apart(heard) < bound:
            self._other = None
            return False
        first, count = self._other or (heard, 0)
        if first.pixels_apart(heard) >= bound:
            first, count = heard, 0
        self._other = first, count + 1
        return count + 1 < _AGREE

    def _for_images(self, size: tuple[int, int]) -> Calibration | None:
        """Return the last calibration heard as that of images of a size, None and tell why if it is not."""
        if self._heard is None:
            return None
        calibration = self._heard.of_images(size)
        if calibration is None:
            height, width = self._heard.size
            self._tell(
                f'camera_info is not used: it is for {width} x {height} pixels, and the image has {size[1]} x {size[0]}'
            )
        elif self._rectified:
            return calibration.of_rectified_images()
        return calibration

    def _adopt(self, calibration: Calibration | None) -> None:
        """Use a calibration of images as they come, or tell why it is of no use."""
        self._used = self._rectifier = self._mask = None
        self._focal = SteadyFocal()
        if calibration is None:
            return
        try:
            self._rectifier = Rectifier(calibration)
        except ValueError as error:
            self._tell(f'camera_info is not used: {error}')
            return
        self._used = calibration
        for assumed in filter(None, (calibration.assumed, self._rectifier.assumed)):
            self._tell(f'camera_info: {assumed}')

    def _tell(self, text: str) -> None:
        if text not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(text)
            self._fault(text)

    def rectify(self, image: np.ndarray) -> np.ndarray:
        """Return the (h, w, 3) image without its lens's distortion, as far as that is known."""
        return image if self._rectifier is None else self._rectifier(image)

    def matrix(self, prediction: Prediction, at_camera: bool) -> np.ndarray:
        """Return K (3, 3) of the published size; of one frame once, because predictions are averaged."""
        view = prediction.view
        if self._rectifier is not None:
            return self._rectifier.K if at_camera else view.to_network_K(self._rectifier.K)
        K = self._focal.update(prediction.intrinsics)
        return view.to_camera_K(K) if at_camera else K

    def seen(self, view: ImageView, at_camera: bool) -> np.ndarray | bool:
        """Return where the image shows what the camera saw: not in the corners that rectification left black."""
        if self._rectifier is None or self._rectifier.valid is None:
            return True
        if self._mask is None and at_camera:
            self._mask = self._rectifier.valid
        elif self._mask is None:
            white = torch.from_numpy(self._rectifier.valid.astype(np.uint8) * 255)
            self._mask = view.prepare(white[..., None].expand(-1, -1, 3))[0].numpy() > 0.99
        return self._mask
