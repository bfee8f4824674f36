# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a camera's image to the network's and back.

As published: the width becomes the preset's (518), the height round(h * 518 / w / 14) * 14, bicubic with antialiasing;
an image that is then taller than wide is cut to its middle 518 rows. Both sides are multiples of the patch, 14.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from evict3r_ros.errors import UserError
from evict3r_ros.network.presets import PATCH


@dataclass(frozen=True)
class ImageView:
    """What part of the camera's image the network sees, and at what size.

    Sizes are (height, width). Pixel centres lie at integers, and a resize maps (x + 1/2) linearly.
    """

    camera_size: tuple[int, int]
    resized_size: tuple[int, int]
    crop_top: int
    network_size: tuple[int, int]

    @classmethod
    def of(cls, camera_size: tuple[int, int], network_width: int) -> ImageView:
        """Return the view of a camera with images of ``camera_size`` for a network of that width (a multiple of 14)."""
        height, width = camera_size
        if height < 1 or width < 1:
            raise UserError(f'an image of {width} x {height} pixels has nothing to see')
        if network_width < PATCH or network_width % PATCH:
            raise UserError(f'the network takes images whose width is a multiple of {PATCH}, not {network_width}')
        resized = max(1, round(height * network_width / width / PATCH)) * PATCH
        seen = min(resized, network_width)
        return cls((height, width), (resized, network_width), (resized - seen) // 2, (seen, network_width))

    @classmethod
    def whole(cls, size: tuple[int, int]) -> ImageView:
        """Return the view of images of the network's own ``size`` (height, width).

        Raises UserError for a size that the network cannot have.
        """
        view = cls.of(size, size[1])
        if view.network_size != size:
            raise UserError(
                f"the network's images have sides that are multiples of {PATCH} and are not taller than wide, "
                f'not {size[1]} x {size[0]}'
            )
        return view

    @property
    def seen_rows(self) -> tuple[float, float]:
        """What part of the camera image's height the network sees, as (from, to) in 0..1; of the width it sees all."""
        height = self.resized_size[0]
        return self.crop_top / height, (self.crop_top + self.network_size[0]) / height

    @property
    def patches(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.network_size[0] // PATCH, self.network_size[1] // PATCH

    def _network_from_camera(self) -> np.ndarray:
        scale_y = self.resized_size[0] / self.camera_size[0]
        scale_x = self.resized_size[1] / self.camera_size[1]
        return np.array(
            [[scale_x, 0.0, 0.5 * scale_x - 0.5], [0.0, scale_y, 0.5 * scale_y - 0.5 - self.crop_top], [0.0, 0.0, 1.0]]
        )

    def to_network_K(self, camera_matrix: np.ndarray) -> np.ndarray:
        """Return K (3, 3) of the network's image from K of the camera's."""
        network_matrix: np.ndarray = self._network_from_camera() @ camera_matrix
        return network_matrix

    def to_camera_K(self, network_matrix: np.ndarray) -> np.ndarray:
        """Return K (3, 3) of the camera's image from K of the network's."""
        camera_matrix: np.ndarray = np.linalg.inv(self._network_from_camera()) @ network_matrix
        return camera_matrix

    def to_camera(self, values: torch.Tensor) -> torch.Tensor:
        """Return a map (H, W) of the network's size as one (h, w) of the camera's, NaN where the network saw nothing.

        Each pixel takes its nearest neighbour: a mean of a near and a far surface would be a point in mid-air.
        """
        if tuple(values.shape) != self.network_size:
            raise ValueError(f'a map of {tuple(values.shape)} is not of the network size {self.network_size}')
        height, width = self.camera_size
        device = values.device
        rows = (
            torch.arange(height, device=device)
            .mul(2)
            .add(1)
            .mul(self.resized_size[0])
            .div(2 * height, rounding_mode='floor')
            - self.crop_top
        )
        columns = (
            torch.arange(width, device=device)
            .mul(2)
            .add(1)
            .mul(self.resized_size[1])
            .div(2 * width, rounding_mode='floor')
        )
        inside = (rows >= 0) & (rows < self.network_size[0])
        answer = values[rows.clamp(0, self.network_size[0] - 1)][:, columns]
        return torch.where(inside[:, None], answer, torch.nan)

    def to_network(self, values: np.ndarray) -> np.ndarray:
        """Return a map (h, w) of the camera's size as one (H, W) of the network's, each pixel its nearest neighbour."""
        if tuple(values.shape) != self.camera_size:
            raise ValueError(f'a map of {tuple(values.shape)} is not of the camera size {self.camera_size}')
        rows = (
            (2 * (np.arange(self.network_size[0]) + self.crop_top) + 1)
            * self.camera_size[0]
            // (2 * self.resized_size[0])
        )
        columns = (2 * np.arange(self.network_size[1]) + 1) * self.camera_size[1] // (2 * self.resized_size[1])
        return values[rows][:, columns]

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        """Return RGB (h, w, 3) uint8 of the camera's size as float32 (3, H, W) in [0, 1] of the network's size."""
        if tuple(image.shape) != (*self.camera_size, 3) or image.dtype != torch.uint8:
            raise ValueError(f'expected uint8 RGB {(*self.camera_size, 3)}, got {image.dtype} {tuple(image.shape)}')
        planes = image.permute(2, 0, 1)[None].to(torch.float32).div_(255.0)
        if self.resized_size != self.camera_size:
            planes = F.interpolate(planes, self.resized_size, mode='bicubic', antialias=True, align_corners=False)
        rows = slice(self.crop_top, self.crop_top + self.network_size[0])
        return planes[0, :, rows].clamp_(0.0, 1.0)
