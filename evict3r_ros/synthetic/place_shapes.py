# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What stands in a place: a table, furniture, clutter of all sizes turned any way, hills, trees, ramps (numpy).

W worlds come first in every shape; metres, z up. Things are boxes, ellipsoids or cylinders with centres (W, n, 3), half
extents (W, n, 3) along their own axes, and axes (W, n, 3, 3), a row an axis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evict3r_ros.synthetic.draws import Draws
from evict3r_ros.synthetic.layout import INNER_WALLS
from evict3r_ros.synthetic.scene import FURNITURE, SOLID_BOXES, SOLID_ELLIPSOIDS, SOLIDS

KINDS = ('table', 'den', 'hall', 'open')
TABLE, DEN, HALL, OPEN = range(len(KINDS))
UPRIGHT = INNER_WALLS + FURNITURE
"""Upright boxes of a world, its table's top and four legs first."""
_TABLE_PARTS = 5
ELLIPSOIDS = slice(SOLID_BOXES, SOLID_BOXES + SOLID_ELLIPSOIDS)
"""Which of the solids they are."""
_CYLINDERS = slice(ELLIPSOIDS.stop, SOLIDS)
_HILLS, _CROWNS = slice(ELLIPSOIDS.start, ELLIPSOIDS.start + 10), slice(ELLIPSOIDS.start + 10, ELLIPSOIDS.stop)
_TRUNKS = slice(_CYLINDERS.start, _CYLINDERS.start + _CROWNS.stop - _CROWNS.start)
_RAMPS = slice(0, 2)
_ITEM = np.log([(0.015, 0.16), (0.03, 0.5), (0.08, 1.5), (0.1, 3.0)])
"""Half extents of clutter by kind."""
_FLAT = np.log([(0.05, 0.6), (0.05, 0.6), (0.1, 1.6), (0.3, 8.0)])
_TALL = np.log([(0.05, 1.1), (0.05, 1.1), (0.1, 2.5), (0.3, 9.0)])
"""Half extents of furniture, buildings outdoors."""
_SPREAD = np.array([0.9, 1.2, 4.0, 9.0])
"""Deviation of clutter's place from the focus."""


@dataclass(frozen=True)
class Things:
    """Boxes, ellipsoids or cylinders."""

    centre: np.ndarray
    half: np.ndarray
    axes: np.ndarray

    def kept(self, which: np.ndarray) -> Things:
        """Take the extent of those away that are not kept; which (W, n) bool."""
        return replace(self, half=np.where(which[..., None], self.half, 0.0))


@dataclass(frozen=True)
class Ground:
    """What things stand on and around."""

    kind: np.ndarray
    """(W,) int: index into KINDS."""
    size: np.ndarray
    """(W, 3) of the outer walls."""
    focus: np.ndarray
    """(W, 3): the middle of the table's top, or of the clutter."""
    table: np.ndarray
    """(W, 3): half extents of the top, 0 where there is no table."""
    yaw: np.ndarray
    """(W,) of the table."""


def upright_axes(yaw: np.ndarray) -> np.ndarray:
    """Return axes (..., 3, 3) of things that stand, turned by yaw (...) about z."""
    cos, sin, zero = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)
    rows = [np.stack([cos, sin, zero], -1), np.stack([-sin, cos, zero], -1), np.stack([zero, zero, zero + 1], -1)]
    return np.stack(rows, axis=-2)


def random_axes(draws: Draws, n: int) -> np.ndarray:
    """Draw axes (W, n, 3, 3) turned any way: from a quaternion of three uniform numbers (Shoemake 1992)."""
    first, second, third = (draws.uniform(0, 1, n) for _ in range(3))
    a, b = np.sqrt(1 - first), np.sqrt(first)
    x, y = a * np.sin(2 * np.pi * second), a * np.cos(2 * np.pi * second)
    z, w = b * np.sin(2 * np.pi * third), b * np.cos(2 * np.pi * third)
    rows = [
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def gap(things: Things, way: np.ndarray, round_things: slice) -> np.ndarray:
    """Say how far (W, n) things keep at least from the points (W, m, 3) of a way; ``round_things`` are ellipsoids."""
    local = np.einsum('wnij,wnmj->wnmi', things.axes, way[:, None] - things.centre[:, :, None])
    half = things.half[:, :, None]
    found = np.linalg.norm((np.abs(local) - half).clip(min=0), axis=-1)
    inner, half = local[:, round_things], half[:, round_things].clip(min=1e-6)
    found[:, round_things] = (np.linalg.norm(inner / half, axis=-1) - 1) * half.min(-1)
    least: np.ndarray = found.min(axis=-1)
    return least


def make_furniture(draws: Draws, ground: Ground) -> Things:
    """Draw upright boxes (W, UPRIGHT): the table, then cabinets, poles, beams and shelves, or buildings."""
    kind, n = ground.kind, UPRIGHT
    low, high = (_FLAT[kind][:, side, None, None] for side in (0, 1))
    flat = np.exp(draws.uniform(low, high, n, 2))
    low, high = (_TALL[kind][:, side, None] for side in (0, 1))
    height = ground.size[:, 2:]
    tall = np.minimum(np.exp(draws.uniform(low, high, n)), height / 2)
    pole = draws.chance(0.15, n)
    flat = np.where(pole[..., None], draws.log_uniform(0.008, 0.06, n, 1), flat)
    tall = np.where(pole & draws.chance(0.5, n), height.clip(max=8) / 2, tall)
    half = np.concatenate([flat, tall[..., None]], axis=-1)
    form = np.where(kind[:, None] == OPEN, 0, draws.choose((0.65, 0.2, 0.15), n))
    middle = np.select(
        [form == 0, form == 1], [tall, draws.uniform(tall, (height - tall).clip(min=tall), n)], height - tall
    )
    extent = np.where(kind == OPEN, 40.0, ground.size[:, 0] / 2)[:, None, None]
    extent = np.minimum(extent, ground.size[:, None, :2] / 2)
    place = draws.uniform(-1.0, 1.0, n, 2) * extent
    at_wall = draws.chance(0.5, n) & (kind[:, None] != OPEN)
    axis = draws.choose((1, 1), n)
    for side in (0, 1):
        pushed = np.sign(place[..., side]) * (extent[..., side] - half[..., side])
        place[..., side] = np.where(at_wall & (axis == side), pushed, place[..., side])
    yaw = np.where(at_wall | draws.chance(0.3, n), 0.0, draws.uniform(0, np.pi, n))
    things = Things(np.concatenate([place, middle[..., None]], axis=-1), half, upright_axes(yaw))
    things = things.kept(draws.chance(draws.uniform(0.3, 1.0)[:, None], n))
    _put_table(draws, ground, things)
    return things


def _put_table(draws: Draws, ground: Ground, things: Things) -> None:
    """Put its top and legs in the first places."""
    worlds = len(ground.kind)
    axes = upright_axes(ground.yaw)
    corner = np.array([(0, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)], dtype=np.float64)
    leg = draws.log_uniform(0.008, 0.05)[:, None]
    half = np.tile(ground.table[:, None], (1, _TABLE_PARTS, 1))
    drop = (ground.focus[:, 2] - 2 * ground.table[:, 2]).clip(min=0)
    half[:, 1:, :2], half[:, 1:, 2] = leg[:, None], drop[:, None] / 2
    offset = np.zeros((worlds, _TABLE_PARTS, 3))
    offset[..., :2] = corner * (ground.table[:, None, :2] - leg[:, None]).clip(min=0)
    centre = ground.focus[:, None] + np.einsum('wji,wpj->wpi', axes, offset)
    centre[:, 0, 2], centre[:, 1:, 2] = ground.focus[:, 2] - ground.table[:, 2], drop[:, None] / 2
    there = (ground.table[:, :1] > 0)[..., None]
    first = slice(0, _TABLE_PARTS)
    things.centre[:, first] = np.where(there, centre, things.centre[:, first])
    things.half[:, first] = np.where(there, half, things.half[:, first])
    things.axes[:, first] = np.where(there[..., None], axes[:, None], things.axes[:, first])


def make_solids(draws: Draws, ground: Ground) -> Things:
    """Draw clutter (W, SOLIDS) on the table, on the floor and in the air; outdoors hills and trees among it."""
    kind, n = ground.kind, SOLIDS
    low, high = (_ITEM[kind][:, side, None] for side in (0, 1))
    half = np.exp(draws.uniform(low, high, n))[..., None] * draws.log_uniform(0.4, 1.6, n, 3)
    thin = draws.chance(0.25, n)[..., None] & (np.arange(3) == draws.choose((1, 1, 1), n)[..., None])
    half = np.where(thin, half * draws.log_uniform(0.06, 0.3, n, 1), half).clip(min=0.003)
    standing = draws.chance(0.5, n)
    axes = upright_axes(draws.uniform(0, 2 * np.pi, n))
    axes = np.where(standing[..., None, None], axes, random_axes(draws, n))
    on_table = (ground.table[:, :1] > 0) & draws.chance(np.where(kind == TABLE, 0.75, 0.3)[:, None], n)
    near = draws.uniform(-1, 1, n, 2) + draws.uniform(-1, 1, n, 2)
    near = ground.focus[:, None, :2] + near * _SPREAD[kind][:, None, None]
    limit = ground.size[:, None, :2] / 2
    spot = draws.uniform(-0.95, 0.95, n, 2) * ground.table[:, None, :2]
    spot = ground.focus[:, None, :2] + np.einsum('wji,wpj->wpi', upright_axes(ground.yaw)[:, :2, :2], spot)
    support = np.where(on_table, ground.focus[:, 2:], 0.0)
    reach = (np.abs(axes[..., 2]) * half).sum(-1)
    stacked = np.where(draws.chance(0.25, n), draws.uniform(0, 3, n) * reach, 0.0)
    flying = np.where(draws.chance(0.1, n), draws.uniform(0.0, 0.6, n) * ground.size[:, 2:].clip(max=8.0), 0.0)
    height = support + reach * draws.uniform(0.7, 1.0, n) + stacked + flying
    place = np.where(on_table[..., None], spot, near).clip(-limit, limit)
    things = Things(np.concatenate([place, height[..., None]], axis=-1), half, axes)
    _put_ramps(draws, ground, things)
    _put_landscape(draws, ground, things)
    return things.kept(draws.chance(draws.uniform(0.25, 1.0)[:, None], n))


def _put_ramps(draws: Draws, ground: Ground, things: Things) -> None:
    """Put plates on a slope, sunk into the ground, where there is room for them."""
    n = _RAMPS.stop
    scale = np.choose(ground.kind, (0.4, 0.8, 2.0, 4.0))[:, None, None]
    half = np.concatenate([draws.log_uniform(0.5, 2.0, n, 2) * scale, np.full_like(scale, 0.05) * np.ones((n, 1))], -1)
    slope, yaw = draws.uniform(0.1, 0.7, n), draws.uniform(0, 2 * np.pi, n)
    cos, sin, zero = np.cos(slope), np.sin(slope), np.zeros_like(slope)
    tilt = np.stack(
        [np.stack([cos, zero, sin], -1), np.stack([zero, zero + 1, zero], -1), np.stack([-sin, zero, cos], -1)], axis=-2
    )
    there = draws.chance(0.3, n)[..., None]
    place = things.centre[:, _RAMPS].copy()
    place[..., 2] = sin * half[..., 0] * 0.8
    things.centre[:, _RAMPS] = np.where(there, place, things.centre[:, _RAMPS])
    things.half[:, _RAMPS] = np.where(there, half, things.half[:, _RAMPS])
    things.axes[:, _RAMPS] = np.where(there[..., None], tilt @ upright_axes(yaw), things.axes[:, _RAMPS])


def _put_landscape(draws: Draws, ground: Ground, things: Things) -> None:
    """Put hills out of wide ellipsoids outdoors, and trees out of crowns over trunks."""
    hills, trees = _HILLS.stop - _HILLS.start, _CROWNS.stop - _CROWNS.start
    outdoors = (ground.kind == OPEN)[:, None, None]
    half = np.concatenate([draws.log_uniform(3, 25, hills, 2), draws.log_uniform(0.3, 5, hills, 1)], axis=-1)
    centre = np.concatenate(
        [draws.uniform(-40, 40, hills, 2), -half[..., 2:] * draws.uniform(0.1, 0.9, hills, 1)], axis=-1
    )
    things.centre[:, _HILLS] = np.where(outdoors, centre, things.centre[:, _HILLS])
    things.half[:, _HILLS] = np.where(outdoors, half, things.half[:, _HILLS])
    upright = upright_axes(draws.uniform(0, np.pi, hills))
    things.axes[:, _HILLS] = np.where(outdoors[..., None], upright, things.axes[:, _HILLS])
    place, top = draws.uniform(-18, 18, trees, 2), draws.uniform(1.5, 6.0, trees, 1)
    there = outdoors & draws.chance(0.6)[:, None, None]
    crown = draws.log_uniform(0.5, 2.5, trees, 3)
    trunk = np.concatenate([np.tile(draws.log_uniform(0.05, 0.3, trees, 1), 2), top / 2], axis=-1)
    for where, z, extent in ((_CROWNS, top, crown), (_TRUNKS, top / 2, trunk)):
        things.centre[:, where] = np.where(there, np.concatenate([place, z], axis=-1), things.centre[:, where])
        things.half[:, where] = np.where(there, extent, things.half[:, where])
    things.axes[:, _TRUNKS] = np.where(there[..., None], np.eye(3), things.axes[:, _TRUNKS])
