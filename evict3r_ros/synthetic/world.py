# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Worlds of a seed: a floor plan, what stands in it, materials, lamps, a camera and its faults.

A world is a handful of tensors of fixed size, so that worlds of all kinds render as one batch. It is drawn in float64 on
the CPU, by numpy, from the seed alone: the same wherever it is rendered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from evict3r_ros.synthetic.draws import Draws
from evict3r_ros.synthetic.effects import draw_effects
from evict3r_ros.synthetic.layout import INNER_WALLS, JOINED, RING, Layout, make_layouts
from evict3r_ros.synthetic.path import Motion, camera_poses, make_motions
from evict3r_ros.synthetic.texture import draw_materials

FURNITURE, POSTERS = 16, 6
BOXES = INNER_WALLS + FURNITURE + POSTERS
CYLINDERS = SPHERES = 4
LAMPS = 4
SIDES = 6
SURFACES = SIDES + BOXES + CYLINDERS + SPHERES
"""Materials of a world, in this order: low x, high x, low y, high y, floor, ceiling, then one for each thing."""
CLEARANCE = 0.3
"""Metres between the camera and any thing beside its way."""
_DRAWS = 4096


@dataclass(frozen=True)
class Scene:
    """W worlds as the ray caster reads them, float32. A thing that is not there has no extent."""

    size: torch.Tensor
    """(W, 3) length, width, height of the outer walls."""
    box_centre: torch.Tensor
    """(W, BOXES, 3)"""
    box_half: torch.Tensor
    """(W, BOXES, 3) half edges."""
    box_yaw: torch.Tensor
    """(W, BOXES) radians about z."""
    cylinder_centre: torch.Tensor
    """(W, CYLINDERS, 3); cylinders stand upright."""
    cylinder_extent: torch.Tensor
    """(W, CYLINDERS, 2): radius, half height."""
    sphere_centre: torch.Tensor
    """(W, SPHERES, 3)"""
    sphere_radius: torch.Tensor
    """(W, SPHERES)"""
    lamps: torch.Tensor
    """(W, LAMPS, 3)"""
    lamp_colour: torch.Tensor
    """(W, LAMPS, 3); black where none hangs."""
    ambient: torch.Tensor
    """(W, 3)"""
    materials: torch.Tensor
    """(W, SURFACES, texture.COLUMNS)"""
    tan_half_fov: torch.Tensor
    """(W,) of the horizontal field of view."""
    effects: torch.Tensor
    """(W, effects.COLUMNS)"""
    seeds: torch.Tensor
    """(W,) int64"""

    def map(self, function) -> Scene:
        """The scene with every tensor put through a function."""
        return Scene(*(function(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True)
class Worlds:
    """What seeds say: scenes to render and how their cameras move."""

    scene: Scene
    motion: Motion
    layout: Layout

    def poses(self, times: np.ndarray, loop: float | None = None) -> torch.Tensor:
        """world_from_camera (W, F, 4, 4) float64 at times (F,) or (W, F) in frames; see ``path.camera_poses``."""
        return torch.from_numpy(camera_poses(self.motion, times, loop))


def make_worlds(seeds: Sequence[int], effects: bool = True, loop: bool = False) -> Worlds:
    """One world a seed (an int of at least 0). Raises ValueError without any."""
    if not len(seeds):
        raise ValueError('no seeds, no worlds')
    draws = Draws(seeds, _DRAWS)
    layout = make_layouts(draws, loop)
    motion = make_motions(draws, layout, loop)
    boxes = _boxes(draws, layout, motion)
    cylinders = _upright(draws, layout, motion, CYLINDERS, round_ends=False)
    spheres = _upright(draws, layout, motion, SPHERES, round_ends=True)
    lamps, colour, ambient = _lights(draws, layout)
    fov = np.radians(draws.uniform(50.0, 90.0))
    materials = draw_materials(draws, SURFACES, SIDES, INNER_WALLS, slice(SIDES + BOXES - POSTERS, SIDES + BOXES))
    faults = draw_effects(draws)
    parts = (
        layout.size,
        *boxes,
        cylinders[0],
        cylinders[1],
        spheres[0],
        spheres[1][..., 0],
        lamps,
        colour,
        ambient,
        materials,
        np.tan(fov / 2),
        faults if effects else np.zeros_like(faults),
    )
    tensors = [torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)) for part in parts]
    return Worlds(Scene(*tensors, torch.tensor([int(seed) for seed in seeds], dtype=torch.int64)), motion, layout)


def _beside_the_way(draws: Draws, layout: Layout, motion: Motion, count: int, reach: np.ndarray) -> np.ndarray:
    """(W, count, 2): half of them near the way, half anywhere between the outer walls."""
    dense = motion.way.dense
    which = (draws.uniform(0, 1, count) * dense.shape[1]).astype(np.int64)
    near = np.take_along_axis(dense, which[..., None], axis=1)
    angle = draws.uniform(0, 2 * np.pi, count)
    far = CLEARANCE + reach + draws.uniform(0.0, 1.6, count)
    near = near + np.stack([np.cos(angle), np.sin(angle)], axis=-1) * far[..., None]
    anywhere = draws.uniform(-0.5, 0.5, count, 2) * layout.size[:, None, :2]
    place = np.where(draws.chance(0.55, count)[..., None], near, anywhere)
    return np.clip(place, -layout.size[:, None, :2] / 2, layout.size[:, None, :2] / 2)


def _camera_heights(motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest (W, 1) that a camera comes, with clearance."""
    swing = motion.height[:, 1:] + motion.bob[:, :1] + CLEARANCE
    return motion.height[:, :1] - swing, motion.height[:, :1] + swing


def _boxes(draws: Draws, layout: Layout, motion: Motion) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres, half edges and yaws of inner walls, furniture and posters, in this order."""
    count = INNER_WALLS + FURNITURE
    height = layout.size[:, 2:]
    flat = draws.log_uniform(0.08, 0.7, count, 2)
    # Cabinets, pillars, things that hang from the ceiling, table tops, boards on edge.
    form = draws.choose((0.5, 0.12, 0.12, 0.14, 0.12), count)
    tall = np.select(
        [form == 0, form == 1, form == 2, form == 3],
        [
            draws.uniform(0.12, 1.0, count) * np.minimum(height, 2.4) / 2,
            height / 2 + 0 * flat[..., 0],
            draws.uniform(0.05, 0.5, count),
            np.full_like(flat[..., 0], 0.03),
        ],
        draws.uniform(0.3, 0.9, count),
    )
    flat = np.where((form == 1)[..., None], flat.clip(max=0.3), flat)
    flat[..., 1] = np.where(form == 4, 0.03, flat[..., 1])
    middle = np.select([form == 2, form == 3], [height - tall, draws.uniform(0.35, 1.1, count)], tall)
    place = _beside_the_way(draws, layout, motion, count, np.linalg.norm(flat, axis=-1))
    yaw = np.where(
        draws.chance(0.5, count), np.pi / 2 * np.floor(draws.uniform(0, 2, count)), draws.uniform(0, np.pi, count)
    )
    centre = np.concatenate([place, middle[..., None]], axis=-1)
    half = np.concatenate([flat, tall[..., None]], axis=-1)
    kept = draws.chance(draws.uniform(0.35, 1.0)[:, None], count)
    kept &= _clear_of_the_way(centre, half, yaw, motion)
    half = np.where(kept[..., None], half, 0.0)
    walled = np.isin(layout.kind, (JOINED, RING))[:, None]
    yaw[:, :INNER_WALLS] = np.where(walled, 0.0, yaw[:, :INNER_WALLS])
    centre[:, :INNER_WALLS] = np.where(walled[..., None], layout.wall_centre, centre[:, :INNER_WALLS])
    half[:, :INNER_WALLS] = np.where(walled[..., None], layout.wall_half, half[:, :INNER_WALLS])
    posters = _posters(draws, layout)
    return tuple(np.concatenate(pair, axis=1) for pair in zip((centre, half, yaw), posters, strict=True))


def _clear_of_the_way(centre: np.ndarray, half: np.ndarray, yaw: np.ndarray, motion: Motion) -> np.ndarray:
    """(W, n) bool: whether a camera on its way keeps its distance from the boxes, or passes above or below."""
    cos, sin = np.cos(yaw)[..., None], np.sin(yaw)[..., None]
    away = motion.way.dense[:, None] - centre[:, :, None, :2]
    x, y = cos * away[..., 0] + sin * away[..., 1], cos * away[..., 1] - sin * away[..., 0]
    gap = np.hypot((np.abs(x) - half[..., :1]).clip(min=0), (np.abs(y) - half[..., 1:2]).clip(min=0)).min(axis=-1)
    low, high = _camera_heights(motion)
    passed = (centre[..., 2] + half[..., 2] < low) | (centre[..., 2] - half[..., 2] > high)
    return (gap > CLEARANCE) | passed


def _posters(draws: Draws, layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures flat on the outer walls, two on each of the long ones."""
    wall = np.arange(POSTERS) % 4
    across = (wall % 2 == 0).astype(np.int64)  # which axis points out of the wall: y for the long ones
    sign = np.where(wall < 2, 1.0, -1.0)
    extent = layout.size[:, across] / 2
    span = layout.size[:, 1 - across] / 2
    wide = np.minimum(draws.log_uniform(0.25, 1.1, POSTERS), span * 0.6)
    tall = np.minimum(draws.log_uniform(0.2, 0.8, POSTERS), layout.size[:, 2:] * 0.3)
    place = np.zeros((len(draws), POSTERS, 3))
    along = draws.uniform(-0.85, 0.85, POSTERS) * (span - wide)
    index = np.arange(POSTERS)
    place[:, index, across], place[:, index, 1 - across] = extent * sign, along
    place[:, :, 2] = np.minimum(draws.uniform(1.0, 1.9, POSTERS), layout.size[:, 2:] - tall - 0.05)
    half = np.stack([wide, np.full_like(wide, 0.02), tall], axis=-1)
    return place, half, np.broadcast_to(np.where(across == 1, 0.0, np.pi / 2), wide.shape).copy()


def _upright(draws: Draws, layout: Layout, motion: Motion, count: int, round_ends: bool) -> tuple[np.ndarray, ...]:
    """Centres (W, n, 3) and extents (radius, half height) (W, n, 2) of cylinders, or of balls."""
    height = layout.size[:, 2:]
    radius = draws.log_uniform(0.08, 0.45, count)
    pillar = draws.chance(0.4, count)
    half = radius if round_ends else np.where(pillar, height / 2, draws.uniform(0.15, 0.9, count))
    floating = draws.chance(0.35 if round_ends else 0.0, count)
    middle = np.where(floating, draws.uniform(0.2, 0.9, count) * height, half)
    centre = np.concatenate([_beside_the_way(draws, layout, motion, count, radius), middle[..., None]], axis=-1)
    gap = np.linalg.norm(motion.way.dense[:, None] - centre[:, :, None, :2], axis=-1).min(axis=-1) - radius
    low, high = _camera_heights(motion)
    kept = (gap > CLEARANCE) | (middle + half < low) | (middle - half > high)
    kept &= draws.chance(0.75, count)
    return centre, np.where(kept[..., None], np.stack([radius, half], axis=-1), 0.0)


def _lights(draws: Draws, layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, colours, and the light from all around."""
    place = layout.lamps + draws.uniform(-0.4, 0.4, LAMPS, 2)
    height = layout.size[:, 2:] - draws.uniform(0.08, 0.5, LAMPS)
    tint = 1.0 + draws.uniform(-0.15, 0.15, LAMPS, 3)
    power = draws.log_uniform(0.5, 1.6, LAMPS)
    # A plan of several rooms needs them all; one room has one to three.
    lit = np.arange(LAMPS) < np.where(np.isin(layout.kind, (JOINED, RING)), LAMPS, 1 + draws.choose((2, 2, 1)))[:, None]
    ambient = draws.uniform(0.25, 0.6)[:, None] * (1.0 + draws.uniform(-0.08, 0.08, 3))
    return np.concatenate([place, height[..., None]], axis=-1), tint * (power * lit)[..., None], ambient
