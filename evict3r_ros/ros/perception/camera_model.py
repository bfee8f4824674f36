# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The camera as camera_info describes it: rectification, its matrix, and what stands in where nobody calibrated it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import torch
from sensor_msgs.msg import CameraInfo

from evict3r_ros.camera.field_of_view import SteadyFocal
from evict3r_ros.camera.rectify import Calibration, Rectifier
from evict3r_ros.camera.view import ImageView
from evict3r_ros.errors import MessageError
from evict3r_ros.ros.messages import conversions
from evict3r_ros.stream import Prediction


class CameraModel:
    """Rectify images and know K of what is published. Only `on_camera_info` is safe between threads.

    fault(text): where to say why a camera_info is not used.
    """

    def __init__(self, fault: Callable[[str], None]) -> None:
        self._fault = fault
        self._heard: Calibration | None = None
        self._heard_any = threading.Event()
        self._refused = ''  # why the last camera_info was not used
        self._rectifier: Rectifier | None = None
        self._mask: np.ndarray | None = None  # the rectifier's valid pixels, at the published size
        self._focal = SteadyFocal()

    @property
    def calibration(self) -> Calibration | None:
        """The last calibration heard, None before the first and for a camera that says it has none."""
        return self._heard

    def on_camera_info(self, message: CameraInfo) -> None:
        """Take in a camera_info, from any thread; it holds from the next image on."""
        try:
            self._heard, refused = conversions.calibration_from_info(message), ''
        except MessageError as error:
            self._heard, refused = None, str(error)
        if refused and refused != self._refused:
            self._fault(f'camera_info is not used: {refused}')
        self._refused = refused
        self._heard_any.set()

    def wait(self, expected: Callable[[], bool], timeout_s: float, cancelled: threading.Event) -> None:
        """Wait for a first camera_info as long as one is expected."""
        deadline = time.monotonic() + timeout_s
        while expected() and time.monotonic() < deadline and not cancelled.is_set():
            if self._heard_any.wait(0.05):
                return

    def adopt(self, calibration: Calibration | None, size: tuple[int, int]) -> None:
        """Use a calibration for images of `size` (height, width), or tell why it is of no use."""
        self._rectifier = self._mask = None
        self._focal = SteadyFocal()
        if calibration is None:
            return
        if calibration.size != size:
            height, width = calibration.size
            self._fault(
                f'camera_info is not used: it is for {width} x {height} pixels, and the image has {size[1]} x {size[0]}'
            )
            return
        try:
            self._rectifier = Rectifier(calibration)
        except ValueError as error:
            self._fault(f'camera_info is not used: {error}')

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
