# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Photographs as textures and skies: a folder of images as one table a device, sampled by the pixel's footprint."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from evict3r_ros.errors import UserError
from evict3r_ros.io.image_file import is_hidden
from evict3r_ros.synthetic.draws import Draws
from evict3r_ros.synthetic.ray_vectors import Vector, vector
from evict3r_ros.synthetic.texture import BLEND, PHOTO, TILES

SIDE, LEVELS = 128, 8
"""Pixels of a texture's side, and halvings of it down to one pixel, itself counted in."""
_STRIDE = (4**LEVELS - 1) // 3
SKY_SIZE = (256, 512)
SKIES = 'skies'
"""Images in a folder of this name are panoramas of the sky: 360 degrees wide, 180 high."""
PANORAMA, YAW, GAIN, RED, BLUE = range(5)
SKY_COLUMNS = 5
"""Of a world's sky: number of the panorama from 1 on (0: a plain one), turn in radians, brightness, tint."""
_IMAGES = ('.jpg', '.jpeg', '.png', '.webp')


class PhotoCounts(NamedTuple):
    """How many photographs there are: what a world must know to choose among them."""

    textures: int = 0
    skies: int = 0


@dataclass(frozen=True)
class Photos:
    """Photographs on a device. Pixels are packed, red in the highest of three bytes."""

    textures: torch.Tensor
    """(textures * _STRIDE,) int32: each with its halvings one after the other, row by row."""
    skies: torch.Tensor
    """(skies, *SKY_SIZE) int32"""

    @property
    def counts(self) -> PhotoCounts:
        """Say how many there are."""
        return PhotoCounts(len(self.textures) // _STRIDE, len(self.skies))

    def to(self, device: torch.device | str) -> Photos:
        """Copy them to a device."""
        return Photos(self.textures.to(device), self.skies.to(device))


def load_photos(folder: Path) -> Photos:
    """Read all images below a folder, in the order of their paths. Raises UserError where there are no textures."""
    paths = sorted(path for path in folder.rglob('*') if path.suffix.lower() in _IMAGES and not is_hidden(path))
    skies = [path for path in paths if SKIES in path.relative_to(folder).parts]
    textures = [path for path in paths if path not in set(skies)]
    if not textures:
        raise UserError(f'{folder}: no images to take for textures ({", ".join(_IMAGES)})')
    return Photos(
        torch.from_numpy(np.concatenate([_halvings(_read(path, (SIDE, SIDE))) for path in textures])),
        torch.from_numpy(np.array([_packed(_read(path, SKY_SIZE)) for path in skies], dtype=np.int32)).view(
            -1, *SKY_SIZE
        ),
    )


def _read(path: Path, size: tuple[int, int]) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f'{path}: not an image that OpenCV can read')
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def _packed(image: np.ndarray) -> np.ndarray:
    blue, green, red = (image[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _halvings(image: np.ndarray) -> np.ndarray:
    levels = []
    for level in range(LEVELS):
        side = SIDE >> level
        levels.append(_packed(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)).ravel())
    return np.concatenate(levels)


def draw_photos(draws: Draws, materials: np.ndarray, counts: PhotoCounts, share: np.ndarray, tiles: np.ndarray) -> None:
    """Lay photographs on materials (W, n, texture.COLUMNS), in place.

    share (W,): of a world's surfaces; tiles (W, n): repetitions a metre.
    """
    n = materials.shape[1]
    chosen = draws.chance(share[:, None], n)
    number = 1 + np.floor(draws.uniform(0, max(counts.textures, 1), n))
    blend = np.where(draws.chance(0.7, n), 1.0, draws.uniform(0.4, 1.0, n))
    if counts.textures:
        materials[..., PHOTO] = np.where(chosen, number, 0.0)
        materials[..., TILES] = tiles
        materials[..., BLEND] = np.where(chosen, blend, 0.0)


def draw_skies(draws: Draws, counts: PhotoCounts) -> np.ndarray:
    """Draw what sky each world has: (W, SKY_COLUMNS)."""
    number = 1 + np.floor(draws.uniform(0, max(counts.skies, 1)))
    columns = [
        np.where(draws.chance(0.85), number, 0.0) if counts.skies else 0 * number,
        draws.uniform(0, 2 * np.pi),
        draws.log_uniform(0.7, 2.5),
        draws.uniform(0.85, 1.15),
        draws.uniform(0.85, 1.15),
    ]
    return np.stack(columns, axis=-1)


def _unpacked(texels: torch.Tensor) -> Vector:
    return vector([((texels >> shift) & 255).float() * (1 / 255) for shift in (16, 8, 0)])


def _bilinear(
    table: torch.Tensor,
    start: torch.Tensor,
    x: torch.Tensor,
    y: torch.Tensor,
    width: torch.Tensor,
    height: torch.Tensor,
    wrap: bool,
) -> Vector:
    """Return colours at pixel places x, y of images (height, width) that begin at ``start`` in the flat table."""
    column, row = x.floor(), y.floor()
    s, t = x - column, y - row
    columns = [column, column + 1]
    if wrap:
        columns = [torch.remainder(one, width) for one in columns]
    columns = [one.clamp(min=0).minimum(width - 1).to(torch.int32) for one in columns]
    rows = [one.clamp(min=0).minimum(height - 1).to(torch.int32) for one in (row, row + 1)]
    width = width.to(torch.int32)
    corners = [_unpacked(table[(start + r * width + c).long()]) for r in rows for c in columns]
    return vector(
        [
            torch.lerp(torch.lerp(corners[0][i], corners[1][i], s), torch.lerp(corners[2][i], corners[3][i], s), t)
            for i in range(3)
        ]
    )


def photo_colour(photos: Photos, number: torch.Tensor, x: torch.Tensor, y: torch.Tensor, width: torch.Tensor) -> Vector:
    """Return red, green and blue in 0 … 1, linear in light, of texture ``number`` from 1 on at x, y.

    x, y and the pixel's ``width`` are in sides of the texture, which is mirrored at its edges so that no seam shows.
    """
    level = (width * SIDE).clamp(min=1).log2().round().clamp(max=LEVELS - 1)
    side = torch.exp2(math.log2(SIDE) - level).round()
    x, y = (1 - (1 - torch.remainder(place, 2.0)).abs() for place in (x, y))
    before = ((SIDE * SIDE - side * side) * (4 / 3)).round().to(torch.int32)
    start = (number.clamp(min=1).to(torch.int32) - 1) * _STRIDE + before
    colour = _bilinear(photos.textures, start, x * side - 0.5, y * side - 0.5, side, side, wrap=False)
    return vector([channel.clamp(min=1e-4).pow(1.8) for channel in colour])


def sky_colour(photos: Photos | None, sky: torch.Tensor, direction: Vector) -> Vector:
    """Return light (N, R) that comes from a direction (N, R each) of skies (N, SKY_COLUMNS)."""
    x, y, z = direction
    height = torch.atan2(z, (x * x + y * y).sqrt().clamp(min=1e-6))
    column = {name: sky[:, index, None] for index, name in enumerate(('panorama', 'yaw', 'gain', 'red', 'blue'))}
    up = (height / (math.pi / 2)).clamp(0, 1)
    colour = (0.75 - 0.5 * up, 0.8 - 0.35 * up, 0.95 - 0.15 * up)
    if photos is not None and len(photos.skies):
        rows, columns = SKY_SIZE
        azimuth = torch.remainder(torch.atan2(y, x) + column['yaw'], 2 * math.pi)
        start = (column['panorama'].clamp(min=1).to(torch.int32) - 1) * (rows * columns)
        place = (azimuth * (columns / (2 * math.pi)) - 0.5, (0.5 - height / math.pi) * rows - 0.5)
        extent = (torch.full_like(x, columns), torch.full_like(x, rows))
        seen = _bilinear(photos.skies.view(-1), start, *place, *extent, wrap=True)
        real = column['panorama'] > 0
        colour = vector([torch.where(real, one.pow(1.8), plain) for one, plain in zip(seen, colour, strict=True)])
    tint = (column['red'], torch.ones_like(column['red']), column['blue'])
    return vector([one * column['gain'] * t for one, t in zip(colour, tint, strict=True)])
