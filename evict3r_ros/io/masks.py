# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pixels that are not to become points: black or white ones, and the sky."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.network.presets import MEAN, STD

BLACK_SUM = 16
"""A pixel is black when its red, green and blue add up to less: borders, and what a renderer left empty."""
WHITE_LEVEL = 240
"""A pixel is white when each of them is above."""
_SKY = 0.5
_DYNAMIC_SIDE = 320


def black_pixels(image: np.ndarray) -> np.ndarray:
    """(H, W) bool of an image (H, W, 3) uint8 RGB."""
    return image.sum(axis=2, dtype=np.int32) < BLACK_SUM


def white_pixels(image: np.ndarray) -> np.ndarray:
    """(H, W) bool of an image (H, W, 3) uint8 RGB."""
    return (image > WHITE_LEVEL).all(axis=2)


class SkyModel:
    """A segmentation network in an ONNX file, run by onnxruntime on the CPU.

    Input: one float32 tensor (1, 3, h, w), RGB normalised by ImageNet's mean and deviation, of the size that the file
    fixes, or else 320 x 320. Output, the first one: a map of any size with one value a pixel, high for sky: a
    probability, or where values lie outside of [0, 1], its logit.
    """

    def __init__(self, path: str | Path):
        """Raises UserError for a file that is no such network, and where onnxruntime is not installed."""
        path = Path(path).expanduser()
        if not path.is_file():
            raise UserError(
                f'--mask-sky {path}: no such file. It takes a sky segmentation network as ONNX (input '
                '(1, 3, h, w) RGB, output one value a pixel, high for sky); none comes with this package, '
                'and none is downloaded'
            )
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise UserError('--mask-sky needs onnxruntime: pip install onnxruntime') from error
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        except Exception as error:  # onnxruntime's own exceptions share no base but this one
            raise UserError(f'{path}: not an ONNX network: {str(error).splitlines()[0]}') from error
        self._path = path
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or shape[1] not in (3, None) and not isinstance(shape[1], str):
            raise UserError(f'{path}: expected one input (1, 3, h, w), found {[entry.shape for entry in inputs]}')
        self._name = inputs[0].name
        self._size = tuple(side if isinstance(side, int) else _DYNAMIC_SIDE for side in shape[2:])

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W) bool, True for sky, of an image (H, W, 3) uint8 RGB. Raises UserError where the answer is no map."""
        height, width = self._size
        pixels = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
        pixels = (pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        try:
            answer = self._session.run(None, {self._name: pixels.transpose(2, 0, 1)[None]})[0]
        except Exception as error:  # as above
            raise UserError(f'{self._path}: failed: {str(error).splitlines()[0]}') from error
        answer = np.asarray(answer, dtype=np.float32)
        if answer.squeeze().ndim != 2:
            raise UserError(f'{self._path}: answers {answer.shape}, expected one value a pixel')
        answer = answer.squeeze()
        if answer.min() < 0.0 or answer.max() > 1.0:
            answer = 1.0 / (1.0 + np.exp(-np.clip(answer, -50.0, 50.0)))
        return cv2.resize(answer, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR) > _SKY
