# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Procedural textures: patterns of three colours under grain of several sizes, the same on every device."""

from __future__ import annotations

import math

import numpy as np
import torch

from evict3r_ros.synthetic.draws import Draws

PATTERNS = ('plain', 'chequers', 'planks', 'bricks', 'stripes', 'dots', 'mosaic', 'marble', 'shelves', 'clouds')
COSINE, SINE, PLACE, PHOTO, TILES, BLEND = 11, 12, 15, 16, 17, 18
COLUMNS = 19
"""Of a material: three colours (9), pattern, cells a metre, cosine and sine of its turn, grain, grain's cells a metre,
place in the noise; number of its photograph from 1 on (0: none, SKY: a hole onto the sky), how often a metre that is
repeated, and its share of the colour."""
SKY = -1.0
_TABLE = 128
_OCTAVES = 3


def noise_table(device: torch.device | str = 'cpu') -> torch.Tensor:
    """Return (16384,) float32 in 0 … 1, a square of 128 cells a side: the one source of all noise."""
    return torch.from_numpy(Draws([0], _TABLE * _TABLE).uniform(0, 1, _TABLE * _TABLE)[0].astype(np.float32)).to(device)


def draw_materials(draws: Draws, count: int, sides: int, inner_walls: int, posters: slice) -> np.ndarray:
    """Draw (W, count, COLUMNS): outer sides and inner walls are paler and calmer than things, posters livelier."""
    worlds = len(draws)
    colours = draws.uniform(0.05, 0.95, count, 3, 3)
    grey = colours.mean(axis=-1, keepdims=True)
    colours = grey + (colours - grey) * draws.uniform(0.2, 1.5, count, 1, 1)
    pattern = draws.choose((0.8, 1, 1, 1, 1, 1, 1.4, 1.2, 1.2, 1.2), count)
    cells = draws.log_uniform(1.2, 9.0, count)
    walls = slice(0, sides + inner_walls)
    paleness = draws.uniform(0.3, 0.75, walls.stop, 1, 1)
    colours[:, walls] = paleness * 0.85 + (1 - paleness) * colours[:, walls]
    cells[:, walls] = draws.log_uniform(0.6, 4.0, walls.stop)
    # Walls of a house often look alike; those of one room in two are all of one kind.
    alike = np.r_[0:4, sides : sides + inner_walls]
    same = draws.chance(0.5)
    for part in (colours, pattern, cells):
        part[:, alike] = np.where(same.reshape(-1, *[1] * (part.ndim - 1)), part[:, :1], part[:, alike])
    number = posters.stop - posters.start
    pattern[:, posters] = 5 + draws.choose((1, 3, 2, 1, 3), number)
    cells[:, posters] = draws.log_uniform(4.0, 16.0, number)
    turn = np.where(draws.chance(0.3, count), draws.uniform(0, np.pi, count), 0.0)
    grain = draws.log_uniform(0.05, 0.4, count)
    grain_cells = draws.log_uniform(2.0, 9.0, count)
    rest = [pattern, cells, np.cos(turn), np.sin(turn), grain, grain_cells, draws.uniform(0, 100, count)]
    photo = np.zeros((worlds, count, COLUMNS - PHOTO))
    return np.concatenate([colours.clip(0.02, 1.0).reshape(worlds, count, 9), np.stack(rest, axis=-1), photo], axis=-1)


def _cell(table: torch.Tensor, column: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
    """Return a number in 0 … 1 for each whole (column, row)."""
    index = (column.to(torch.int32) + row.to(torch.int32) * _TABLE) & (_TABLE * _TABLE - 1)
    return table[index.long()]


def _smooth(table: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return value noise in 0 … 1, smooth, of one cell a unit."""
    column, row = x.floor(), y.floor()
    s, t = x - column, y - row
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    upper = torch.lerp(_cell(table, column, row), _cell(table, column + 1, row), s)
    lower = torch.lerp(_cell(table, column, row + 1), _cell(table, column + 1, row + 1), s)
    return torch.lerp(upper, lower, t)


def albedo(
    table: torch.Tensor, material: torch.Tensor, u: torch.Tensor, v: torch.Tensor, footprint: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return red, green and blue (...) at place u, v (...) in metres on surfaces of material (..., COLUMNS).

    footprint: metres that a pixel covers there; detail finer than that is left out, or it would sparkle from frame to
    frame.
    """
    pattern, cells, cos, sin, grain, grain_cells, offset = (material[..., i] for i in range(9, PHOTO))
    x, y = (cos * u + sin * v) * cells + offset, (cos * v - sin * u) * cells + offset * 0.37
    width = footprint * cells
    first, second = _pattern(table, pattern, x, y, width.clamp(min=1e-4))
    shade = torch.ones_like(u)
    for octave in range(_OCTAVES):
        frequency = grain_cells * 2.7**octave
        visible = (1.5 - 2.0 * frequency * footprint).clamp(0, 1) * 0.75**octave
        noise = _smooth(table, u * frequency + offset * 1.7, v * frequency + offset * 2.3 + 31 * octave)
        shade = shade + grain * visible * (2 * noise - 1)
    rgb = []
    for channel in range(3):
        a, b, c = (material[..., channel + 3 * i] for i in range(3))
        rgb.append(torch.lerp(torch.lerp(a, b, first), c, second) * shade)
    return rgb[0], rgb[1], rgb[2]


def _pattern(
    table: torch.Tensor, kind: torch.Tensor, x: torch.Tensor, y: torch.Tensor, width: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Say how much of the second and of the third colour there is; x, y in cells, width of a pixel in cells."""
    fine = (1.6 - 2.4 * width).clamp(0, 1)  # 0 where cells are smaller than pixels

    def line(value: torch.Tensor, thick: float) -> torch.Tensor:
        """Return 1 in lines around whole numbers, blurred to the pixel."""
        return ((thick / 2 - (value - value.round()).abs()) / width + 0.5).clamp(0, 1) * fine

    column, row = x.floor(), y.floor()
    own = _cell(table, column * 7, row * 3)
    other = _cell(table, column * 5 + 40, row * 11)
    mean = torch.full_like(x, 0.5)
    wave = torch.sin(x * math.pi) * torch.sin(y * math.pi)
    chequers = torch.lerp(mean, (wave / (3.2 * width).clamp(min=0.03)).clamp(-1, 1) / 2 + 0.5, fine)
    plank = _cell(table, (x * 0.25 + _cell(table, row * 0, row * 5) * 4).floor(), row * 9)
    tone = torch.lerp(mean, plank, fine)
    bricks = torch.maximum(line(y, 0.12), line(x * 0.5 + 0.5 * (row - 2 * (row * 0.5).floor()), 0.05))
    brick = torch.lerp(
        mean, _cell(table, (x * 0.5 + 0.5 + 0.5 * (row - 2 * (row * 0.5).floor())).floor(), row * 13), fine
    )
    stripes = torch.lerp(mean, (torch.sin(x * math.pi) / (3.2 * width).clamp(min=0.03)).clamp(-1, 1) / 2 + 0.5, fine)
    radius = torch.sqrt((x - column - 0.5).square() + (y - row - 0.5).square())
    dots = torch.lerp(mean * 0.4, ((0.2 + 0.25 * own - radius) / width + 0.5).clamp(0, 1), fine)
    swirl = _smooth(table, x * 0.6, y * 0.6 + 17)
    marble = 0.5 + 0.5 * torch.sin((x + 5 * swirl) * 2.0) * (1.4 - width).clamp(0, 1)
    book = (x * 2.3 + _cell(table, row * 3, row * 7)).floor()
    shelf = torch.lerp(mean, _cell(table, book * 3, row * 17), (1.6 - 5.5 * width).clamp(0, 1))
    spine = torch.lerp(mean * 0.5, (_cell(table, book * 11 + 9, row * 29) > 0.7).to(x), (1.6 - 5.5 * width).clamp(0, 1))
    cloud = ((swirl * 0.6 + 0.4 * _smooth(table, x * 1.9, y * 1.9 + 53) - 0.35) * 3.3).clamp(0, 1)
    nothing = torch.zeros_like(x)
    firsts = (nothing, chequers, tone, brick, stripes, dots, torch.lerp(mean, own, fine), marble, shelf, cloud)
    seconds = (
        nothing,
        other * 0.25 * fine,
        line(y, 0.07),
        bricks,
        nothing,
        other * 0.5 * fine,
        torch.lerp(mean * 0.6, (other > 0.6).to(x), fine),
        (swirl * 3 - 1.9).clamp(0, 1),
        torch.maximum(line(y, 0.12), spine),
        (cloud * 4 - 3).clamp(0, 1),
    )
    first, second = nothing, nothing
    for number in range(1, len(PATTERNS)):
        here = kind == number
        first, second = torch.where(here, firsts[number], first), torch.where(here, seconds[number], second)
    return first, second
