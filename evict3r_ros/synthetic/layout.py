# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Floor plans: the outer walls, the walls inside, and a closed way through them, for many worlds at once (numpy).

World frame: z up, origin on the floor in the middle of the plan, metres. W worlds come first in every shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evict3r_ros.synthetic.draws import Draws

KINDS = ('room', 'corridor', 'joined rooms', 'ring corridor', 'hall')
ROOM, CORRIDOR, JOINED, RING, HALL = range(len(KINDS))
_WEIGHTS = (0.32, 0.24, 0.26, 0.12, 0.06)
_LOOP_WEIGHTS = (0.0, 0.0, 0.75, 0.25, 0.0)
_LENGTH = np.array([(3.5, 9.0), (9.0, 26.0), (7.5, 12.5), (9.0, 18.0), (10.0, 20.0)])
_WIDTH = np.array([(3.0, 7.0), (1.8, 3.2), (7.0, 11.0), (8.0, 14.0), (8.0, 14.0)])
_HEIGHT = np.array([(2.3, 3.4), (2.2, 3.2), (2.3, 3.4), (2.3, 3.2), (3.2, 5.5)])
CONTROLS = 24
"""Control points of a way: a closed uniform cubic B-spline."""
INNER_WALLS = 10
"""Boxes that a plan may need for its inner walls."""


@dataclass(frozen=True)
class Layout:
    """W floor plans."""

    kind: np.ndarray
    """(W,) int: index into KINDS."""
    size: np.ndarray
    """(W, 3): length along x, width along y, height."""
    wall_centre: np.ndarray
    """(W, INNER_WALLS, 3)"""
    wall_half: np.ndarray
    """(W, INNER_WALLS, 3) half edges; zero where a plan has fewer."""
    way: np.ndarray
    """(W, CONTROLS, 2): control points on the floor."""
    lamps: np.ndarray
    """(W, 4, 2): places under which a lamp may hang, so that every part of the plan has one near."""


def make_layouts(draws: Draws, loop: bool) -> Layout:
    """Draw plans of all kinds, or, for loops, of those that lead through several rooms or corners."""
    kind = draws.choose(_LOOP_WEIGHTS if loop else _WEIGHTS)
    size = np.stack([draws.pick(extent, kind) for extent in (_LENGTH, _WIDTH, _HEIGHT)], axis=-1)
    open_way, open_lamps = _open_way(draws, size)
    joined_centre, joined_half, joined_way, joined_lamps = _joined(draws, size)
    ring_centre, ring_half, ring_way, ring_lamps = _ring(draws, size)

    def select(open_part: np.ndarray, joined_part: np.ndarray, ring_part: np.ndarray) -> np.ndarray:
        shape = (-1,) + (1,) * (joined_part.ndim - 1)
        return np.where(
            (kind == JOINED).reshape(shape), joined_part, np.where((kind == RING).reshape(shape), ring_part, open_part)
        )

    nothing = np.zeros_like(joined_centre)
    return Layout(
        kind,
        size,
        select(nothing, joined_centre, ring_centre),
        select(nothing, joined_half, ring_half),
        select(open_way, joined_way, ring_way),
        select(open_lamps, joined_lamps, ring_lamps),
    )


def _open_way(draws: Draws, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw a way around the middle of one space, nearer and farther from it; and its lamps."""
    count = np.array([6, 8, 12, CONTROLS])[draws.choose((0.35, 0.3, 0.25, 0.1))]
    number = np.arange(CONTROLS) % count[:, None]
    angle = draws.uniform(-0.3, 0.3, CONTROLS) + number
    reach = draws.uniform(0.45, 1.0, CONTROLS)
    # The same point has the same place in every turn.
    angle, reach = (np.take_along_axis(x, number, axis=1) for x in (angle, reach))
    angle = angle * (2 * np.pi / count[:, None])
    half = (size[:, None, :2] / 2 - 0.6).clip(min=0.25)
    way = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * reach[..., None] * half * 1.1
    way = np.clip(way, -half, half)
    return way, draws.uniform(-0.4, 0.4, 4, 2) * size[:, None, :2]


def _joined(draws: Draws, size: np.ndarray) -> tuple[np.ndarray, ...]:
    """Draw four rooms around a cross of walls, a doorway in each arm; the way leads through all of them."""
    length, width, height = size.T
    cross_x, cross_y = draws.uniform(-0.14, 0.14) * length, draws.uniform(-0.14, 0.14) * width
    thick = draws.uniform(0.05, 0.14)
    door = draws.uniform(0.9, 1.7, 4)
    top = np.minimum(draws.uniform(1.95, 2.6), height - 0.02)
    margin = door / 2 + 0.45
    south, north, west, east = -width / 2, width / 2, -length / 2, length / 2
    # Doorways in the order of the way: south arm, east arm, north arm, west arm.
    low = np.stack([south, cross_x, cross_y, west], axis=1) + margin
    high = np.stack([cross_y, east, north, cross_x], axis=1) - margin
    place = draws.uniform(low, high, 4)
    centres, halves = [], []

    def wall(along: int, at: np.ndarray, start: np.ndarray, end: np.ndarray, bottom: np.ndarray) -> None:
        centre, half = np.zeros((len(at), 3)), np.zeros((len(at), 3))
        centre[:, along], centre[:, 1 - along], centre[:, 2] = (start + end) / 2, at, (bottom + height) / 2
        half[:, along], half[:, 1 - along], half[:, 2] = (end - start) / 2, thick, (height - bottom) / 2
        centres.append(centre)
        halves.append(half)

    floor = np.zeros_like(height)
    for along, at, first, second, start, end in ((1, cross_x, 0, 2, south, north), (0, cross_y, 3, 1, west, east)):
        a, b = place[:, first], place[:, second]
        half_a, half_b = door[:, first] / 2, door[:, second] / 2
        wall(along, at, start, a - half_a, floor)
        wall(along, at, a + half_a, b - half_b, floor)
        wall(along, at, b + half_b, end, floor)
        wall(along, at, a - half_a, a + half_a, top)
        wall(along, at, b - half_b, b + half_b, top)

    def through(number: int, direction: int) -> list[np.ndarray]:
        """Put four control points in line, so that the curve goes straight through the doorway."""
        at, axis = (cross_x, 0) if number in (0, 2) else (cross_y, 1)
        points = []
        for step in (-1.0, -0.4, 0.4, 1.0):
            point = np.zeros((len(at), 2))
            point[:, axis], point[:, 1 - axis] = at + direction * step, place[:, number]
            points.append(point)
        return points

    doors = [through(0, 1), through(1, 1), through(2, -1), through(3, -1)]
    corners = [
        ((cross_x, east), (south, cross_y)),
        ((cross_x, east), (cross_y, north)),
        ((west, cross_x), (cross_y, north)),
        ((west, cross_x), (south, cross_y)),
    ]
    way, lamps = [], []
    for number, ((x0, x1), (y0, y1)) in enumerate(corners):
        entered, left = doors[number][-1], doors[(number + 1) % 4][0]
        low, high = np.stack([x0, y0], axis=1) + 0.65, np.stack([x1, y1], axis=1) - 0.65
        way += doors[number]
        for share in (1 / 3, 2 / 3):
            aside = draws.uniform(-0.3, 0.3, 2) * (high - low)
            way.append(np.clip(entered * (1 - share) + left * share + aside, low, high))
        lamps.append((low + high) / 2)
    return np.stack(centres, 1), np.stack(halves, 1), np.stack(way, 1), np.stack(lamps, 1)


def _ring(draws: Draws, size: np.ndarray) -> tuple[np.ndarray, ...]:
    """Draw a corridor around one large block."""
    worlds = len(size)
    passage = draws.uniform(1.5, 3.0, 2)
    centre, half = np.zeros((worlds, INNER_WALLS, 3)), np.zeros((worlds, INNER_WALLS, 3))
    centre[:, 0, 2] = half[:, 0, 2] = size[:, 2] / 2
    half[:, 0, :2] = size[:, :2] / 2 - passage
    corner = size[:, :2] / 2 - passage / 2
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    corners = corner[:, None] * signs
    # Close to the corners, so that the curve keeps away from the block's edge.
    shares = np.array([0.0, 0.08, 0.3, 0.5, 0.7, 0.92])
    way = corners[:, :, None] * (1 - shares)[:, None] + np.roll(corners, -1, axis=1)[:, :, None] * shares[:, None]
    aside = draws.uniform(-0.14, 0.14, 4, len(shares), 2) * passage[:, None, None]
    aside[:, :, (0, 1, 5)] = 0.0
    lamps = (corners + np.roll(corners, -1, axis=1)) / 2
    return centre, half, (way + aside).reshape(worlds, CONTROLS, 2), lamps
