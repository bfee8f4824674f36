# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Worlds of a seed: a floor plan, what stands in it, materials, lamps, a camera and its faults.

A world is a handful of tensors of fixed size, so that worlds of all kinds render as one batch. It is drawn in float64
on the CPU, by numpy, from the seed alone: the same wherever it is rendered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from evict3r_ros.synthetic.draws import Draws
from evict3r_ros.synthetic.effects import draw_effects
from evict3r_ros.synthetic.layout import INNER_WALLS, JOINED, KINDS, RING, Layout, make_layouts
from evict3r_ros.synthetic.path import Motion, make_motions
from evict3r_ros.synthetic.photos import SKY_COLUMNS, PhotoCounts, draw_photos
from evict3r_ros.synthetic.scene import BOXES, CYLINDERS, FURNITURE, LAMPS, POSTERS, SIDES, SPHERES, SURFACES, Scene
from evict3r_ros.synthetic.texture import draw_materials

CLEARANCE = 0.3
"""Metres between the camera and any thing beside its way."""
_DRAWS, _PHOTO_DRAWS, _PHOTO_STREAM = 4096, 512, 2


class CameraMotion(Protocol):
    """How the cameras of W worlds move."""

    def poses(self, times: np.ndarray, loop: float | None = None) -> np.ndarray:
        """Return world_from_camera (W, F, 4, 4) float64 at times (F,) or (W, F); loop: see ``path.camera_poses``."""


@dataclass(frozen=True)
class Worlds:
    """What seeds say: scenes to render and how their cameras move."""

    scene: Scene
    motion: CameraMotion
    kinds: tuple[str, ...]
    """What each world is called."""
    layout: Layout | None = None
    """The floor plans, where there are any."""

    def poses(self, times: np.ndarray, loop: float | None = None) -> torch.Tensor:
        """Return world_from_camera (W, F, 4, 4) float64 at times (F,) or (W, F); see ``path.camera_poses``."""
        return torch.from_numpy(self.motion.poses(times, loop))

    def turns(self, times: np.ndarray, loop: float | None = None) -> torch.Tensor:
        """Return radians (W, F, 3) that the cameras turn in one frame of time, about their own axes."""
        before, after = (self.motion.poses(times + shift, loop)[..., :3, :3] for shift in (-0.25, 0.25))
        turn = np.swapaxes(before, -1, -2) @ after
        # Of a small turn the skew part of the matrix is the rotation vector.
        parts = [
            turn[..., 2, 1] - turn[..., 1, 2],
            turn[..., 0, 2] - turn[..., 2, 0],
            turn[..., 1, 0] - turn[..., 0, 1],
        ]
        return torch.from_numpy(np.stack(parts, axis=-1))


def make_worlds(
    seeds: Sequence[int], effects: bool = True, loop: bool = False, photos: PhotoCounts | None = None
) -> Worlds:
    """Make one world a seed (an int of at least 0), with photographs on some if there are any.

    Raises ValueError without seeds.
    """
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
    if photos is not None:
        _lay_photos(seeds, materials, photos)
    parts = {
        'size': layout.size,
        'box_centre': boxes[0],
        'box_half': boxes[1],
        'box_yaw': boxes[2],
        'cylinder_centre': cylinders[0],
        'cylinder_extent': cylinders[1],
        'sphere_centre': spheres[0],
        'sphere_radius': spheres[1][..., 0],
        'lamps': lamps,
        'lamp_colour': colour,
        'ambient': ambient,
        'materials': materials,
        'tan_half_fov': np.tan(fov / 2),
        'effects': faults if effects else np.zeros_like(faults),
        'solid_centre': np.zeros((len(seeds), 0, 3)),
        'solid_half': np.zeros((len(seeds), 0, 3)),
        'solid_axes': np.zeros((len(seeds), 0, 3, 3)),
        'sky': np.zeros((len(seeds), SKY_COLUMNS)),
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)) for name, part in parts.items()}
    scene = Scene(seeds=torch.tensor([int(seed) for seed in seeds], dtype=torch.int64), **tensors)
    return Worlds(scene, motion, tuple(KINDS[number] for number in layout.kind), layout)


def _lay_photos(seeds: Sequence[int], materials: np.ndarray, photos: PhotoCounts) -> None:
    """Lay photographs on most surfaces of half of the worlds, drawn apart so that all else stays as it is."""
    draws = Draws(seeds, _PHOTO_DRAWS, _PHOTO_STREAM)
    share = np.where(draws.chance(0.5), draws.uniform(0.5, 1.0), 0.0)
    draw_photos(draws, materials, photos, share, draws.log_uniform(0.3, 3.0, materials.shape[1]))


def _beside_the_way(draws: Draws, layout: Layout, motion: Motion, count: int, reach: np.ndarray) -> np.ndarray:
    """Draw places (W, count, 2), half of them near the way, half anywhere between the outer walls."""
    dense = motion.way.dense
    which = (draws.uniform(0, 1, count) * dense.shape[1]).astype(np.int64)
    near = np.take_along_axis(dense, which[..., None], axis=1)
    angle = draws.uniform(0, 2 * np.pi, count)
    far = CLEARANCE + reach + draws.uniform(0.0, 1.6, count)
    near = near + np.stack([np.cos(angle), np.sin(angle)], axis=-1) * far[..., None]
    anywhere = draws.uniform(-0.5, 0.5, count, 2) * layout.size[:, None, :2]
    place = np.where(draws.chance(0.55, count)[..., None], near, anywhere)
    inside: np.ndarray = np.clip(place, -layout.size[:, None, :2] / 2, layout.size[:, None, :2] / 2)
    return inside


def _camera_heights(motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest (W, 1) that a camera comes, with clearance."""
    swing = motion.height[:, 1:] + motion.bob[:, :1] + CLEARANCE
    return motion.height[:, :1] - swing, motion.height[:, :1] + swing


def _boxes(draws: Draws, layout: Layout, motion: Motion) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw centres, half edges and yaws of inner walls, furniture and posters, in this order."""
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
    posters = draw_posters(draws, layout.size)
    own = (centre, half, yaw)
    centre, half, yaw = (np.concatenate(pair, axis=1) for pair in zip(own, posters, strict=True))
    return centre, half, yaw


def _clear_of_the_way(centre: np.ndarray, half: np.ndarray, yaw: np.ndarray, motion: Motion) -> np.ndarray:
    """Say (W, n) whether a camera on its way keeps its distance from the boxes, or passes above or below."""
    cos, sin = np.cos(yaw)[..., None], np.sin(yaw)[..., None]
    away = motion.way.dense[:, None] - centre[:, :, None, :2]
    x, y = cos * away[..., 0] + sin * away[..., 1], cos * away[..., 1] - sin * away[..., 0]
    gap = np.hypot((np.abs(x) - half[..., :1]).clip(min=0), (np.abs(y) - half[..., 1:2]).clip(min=0)).min(axis=-1)
    low, high = _camera_heights(motion)
    passed = (centre[..., 2] + half[..., 2] < low) | (centre[..., 2] - half[..., 2] > high)
    clear: np.ndarray = (gap > CLEARANCE) | passed
    return clear


def draw_posters(draws: Draws, size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw pictures flat on the outer walls, two on each of the long ones; size (W, 3) of the outer walls.

    Centres, half edges and yaws.
    """
    wall = np.arange(POSTERS) % 4
    across = (wall % 2 == 0).astype(np.int64)  # which axis points out of the wall: y for the long ones
    sign = np.where(wall < 2, 1.0, -1.0)
    extent = size[:, across] / 2
    span = size[:, 1 - across] / 2
    wide = np.minimum(draws.log_uniform(0.25, 1.1, POSTERS), span * 0.6)
    tall = np.minimum(draws.log_uniform(0.2, 0.8, POSTERS), size[:, 2:] * 0.3)
    place = np.zeros((len(draws), POSTERS, 3))
    along = draws.uniform(-0.85, 0.85, POSTERS) * (span - wide)
    index = np.arange(POSTERS)
    place[:, index, across], place[:, index, 1 - across] = extent * sign, along
    place[:, :, 2] = np.minimum(draws.uniform(1.0, 1.9, POSTERS), size[:, 2:] - tall - 0.05)
    half = np.stack([wide, np.full_like(wide, 0.02), tall], axis=-1)
    return place, half, np.broadcast_to(np.where(across == 1, 0.0, np.pi / 2), wide.shape).copy()


def _upright(draws: Draws, layout: Layout, motion: Motion, count: int, round_ends: bool) -> tuple[np.ndarray, ...]:
    """Draw centres (W, n, 3) and extents (radius, half height) (W, n, 2) of cylinders, or of balls."""
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
    """Draw places and colours of lamps, and the light from all around."""
    place = layout.lamps + draws.uniform(-0.4, 0.4, LAMPS, 2)
    height = layout.size[:, 2:] - draws.uniform(0.08, 0.5, LAMPS)
    tint = 1.0 + draws.uniform(-0.15, 0.15, LAMPS, 3)
    power = draws.log_uniform(0.5, 1.6, LAMPS)
    # A plan of several rooms needs them all; one room has one to three.
    lit = np.arange(LAMPS) < np.where(np.isin(layout.kind, (JOINED, RING)), LAMPS, 1 + draws.choose((2, 2, 1)))[:, None]
    ambient = draws.uniform(0.25, 0.6)[:, None] * (1.0 + draws.uniform(-0.08, 0.08, 3))
    return np.concatenate([place, height[..., None]], axis=-1), tint * (power * lit)[..., None], ambient
