# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Masks of pixels that do not become points: black, white, and sky."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.network.presets import MEAN, STD

BLACK_SUM = 16
"""A pixel is black if its red, green and blue sum to less: borders and empty areas of renderings."""
WHITE_LEVEL = 240
"""A pixel is white if its red, green and blue are all greater."""
_SKY = 0.5
_DYNAMIC_SIDE = 320


def black_pixels(image: np.ndarray) -> np.ndarray:
    """Return the mask (H, W) of black pixels of an image (H, W, 3) uint8 RGB."""
    mask: np.ndarray = image.sum(axis=2, dtype=np.int32) < BLACK_SUM
    return mask


def white_pixels(image: np.ndarray) -> np.ndarray:
    """Return the mask (H, W) of white pixels of an image (H, W, 3) uint8 RGB."""
    mask: np.ndarray = np.all(image > WHITE_LEVEL, axis=2)
    return mask


class SkyModel:
    """A segmentation network in an ONNX file, run by onnxruntime on the CPU.

    Input: one float32 tensor (1, 3, h, w), RGB normalised by ImageNet's mean and standard deviation, of the size that
    the file fixes, or 320 x 320. Output, the first one: a map of any size with one value per pixel, high for sky: a
    probability, or a logit if values lie outside [0, 1].
    """

    def __init__(self, path: str | Path):
        """Load the file. Raises UserError for another file, and if onnxruntime is not installed."""
        path = Path(path).expanduser()
        if not path.is_file():
            raise UserError(
                f'--mask-sky {path}: no such file. It takes a sky segmentation network as ONNX (input '
                '(1, 3, h, w) RGB, output one value per pixel, high for sky); this package '
                'neither contains nor downloads one'
            )
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise UserError('--mask-sky needs onnxruntime: pip install onnxruntime') from error
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        except Exception as error:  # exceptions of onnxruntime have no other common base
            raise UserError(f'{path}: not an ONNX network: {str(error).splitlines()[0]}') from error
        self._path = path
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or (shape[1] not in (3, None) and not isinstance(shape[1], str)):
            raise UserError(f'{path}: expected one input (1, 3, h, w), found {[entry.shape for entry in inputs]}')
        self._name = inputs[0].name
        self._size = tuple(side if isinstance(side, int) else _DYNAMIC_SIDE for side in shape[2:])

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the mask (H, W) of the sky of an image (H, W, 3) uint8 RGB. Raises UserError for an invalid output."""
        height, width = self._size
        pixels: np.ndarray = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
        pixels = (pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        try:
            answer = self._session.run(None, {self._name: pixels.transpose(2, 0, 1)[None]})[0]
        except Exception as error:  # as above
            raise UserError(f'{self._path}: failed: {str(error).splitlines()[0]}') from error
        answer = np.asarray(answer, dtype=np.float32)
        if answer.squeeze().ndim != 2:
            raise UserError(f'{self._path}: answers {answer.shape}, expected one value per pixel')
        answer = answer.squeeze()
        if answer.min() < 0.0 or answer.max() > 1.0:
            answer = 1.0 / (1.0 + np.exp(-np.clip(answer, -50.0, 50.0)))
        mask: np.ndarray = cv2.resize(answer, image.shape[1::-1], interpolation=cv2.INTER_LINEAR) > _SKY
        return mask
