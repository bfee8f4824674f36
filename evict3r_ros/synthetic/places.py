# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Places: worlds in which little can be guessed, seen by cameras that are carried, flown or driven.

Tables with clutter seen from near, cluttered rooms, halls and open ground under a sky; beside the rooms and corridors
of ``world``, whose scenes they share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from evict3r_ros.synthetic.draws import Draws
from evict3r_ros.synthetic.effects import draw_effects, draw_motion_effects
from evict3r_ros.synthetic.free_motion import Wander, make_free_motions
from evict3r_ros.synthetic.layout import INNER_WALLS
from evict3r_ros.synthetic.photos import PhotoCounts, draw_photos, draw_skies
from evict3r_ros.synthetic.place_shapes import (
    DEN,
    ELLIPSOIDS,
    HALL,
    KINDS,
    OPEN,
    TABLE,
    Ground,
    Things,
    gap,
    make_furniture,
    make_solids,
)
from evict3r_ros.synthetic.scene import BOXES, CYLINDERS, LAMPS, POSTERS, SIDES, SOLIDS, SPHERES, SURFACES, Scene
from evict3r_ros.synthetic.texture import PHOTO, SKY, draw_materials
from evict3r_ros.synthetic.world import Worlds, draw_posters

_WEIGHTS = (0.32, 0.33, 0.2, 0.15)
_LENGTH = np.array([(2.6, 7.0), (2.6, 7.0), (8.0, 26.0), (60.0, 160.0)])
_WIDTH = np.array([(2.6, 6.0), (2.6, 6.0), (7.0, 18.0), (60.0, 160.0)])
_HEIGHT = np.array([(2.2, 3.4), (2.2, 3.4), (3.5, 11.0), (40.0, 90.0)])
_ORBIT = np.array([(0.45, 1.5), (0.9, 2.4), (2.0, 7.0), (3.0, 15.0)])
_ON_ORBIT = np.array([0.8, 0.3, 0.25, 0.25])
_SCALE = np.array([0.6, 1.0, 2.2, 4.0])
_CLEARANCE = np.array([0.08, 0.15, 0.3, 0.4])
"""Metres between the camera and any thing beside its way, by kind."""
_WANDER = np.array([1.5, 2.5, 9.0, 12.0])
"""Metres from its middle that a wander goes at most."""
_DRAWS, _STREAM = 8192, 1
_SUN_AWAY = 60.0


def make_places(seeds: Sequence[int], photos: PhotoCounts, effects: bool = True) -> Worlds:
    """Make one place a seed (an int of at least 0). Raises ValueError without any."""
    if not len(seeds):
        raise ValueError('no seeds, no places')
    draws = Draws(seeds, _DRAWS, _STREAM)
    kind = draws.choose(_WEIGHTS)
    size = np.stack([draws.pick(extent, kind) for extent in (_LENGTH, _WIDTH, _HEIGHT)], axis=-1)
    ground = _ground(draws, kind, size)
    motion = make_free_motions(draws, _wander(draws, ground))
    way, clearance = motion.way(), _CLEARANCE[kind][:, None]
    furniture = make_furniture(draws, ground)
    furniture = furniture.kept(gap(furniture, way, slice(0, 0)) > clearance)
    solids = make_solids(draws, ground)
    solids = solids.kept(gap(solids, way, ELLIPSOIDS) > clearance)
    posters = [
        part * np.where(kind == OPEN, 0.0, 1.0).reshape(-1, *[1] * (part.ndim - 1))
        for part in draw_posters(draws, size)
    ]
    boxes = _boxes(furniture, posters)
    materials = _materials(draws, kind, boxes[1], solids, photos)
    fov = np.radians(draws.uniform(40.0, 110.0))
    faults = draw_effects(draws)
    draw_motion_effects(draws, faults)
    worlds = len(kind)
    parts = {
        'size': size,
        'box_centre': boxes[0],
        'box_half': boxes[1],
        'box_yaw': boxes[2],
        'cylinder_centre': np.zeros((worlds, CYLINDERS, 3)),
        'cylinder_extent': np.zeros((worlds, CYLINDERS, 2)),
        'sphere_centre': np.zeros((worlds, SPHERES, 3)),
        'sphere_radius': np.zeros((worlds, SPHERES)),
        **_lights(draws, kind, size),
        'materials': materials,
        'tan_half_fov': np.tan(fov / 2),
        'effects': faults if effects else np.zeros_like(faults),
        'solid_centre': solids.centre,
        'solid_half': solids.half,
        'solid_axes': solids.axes,
        'sky': draw_skies(draws, photos),
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)) for name, part in parts.items()}
    scene = Scene(seeds=torch.tensor([int(seed) for seed in seeds], dtype=torch.int64), **tensors)
    return Worlds(scene, motion, tuple(KINDS[number] for number in kind))


def _ground(draws: Draws, kind: np.ndarray, size: np.ndarray) -> Ground:
    table = np.concatenate([draws.log_uniform(0.25, 0.95, 2), draws.uniform(0.01, 0.05)[:, None]], axis=-1)
    has_table = ((kind == TABLE) & draws.chance(0.75)) | ((kind == DEN) & draws.chance(0.4))
    table = np.where(has_table[:, None], table, 0.0)
    span = np.where(kind == OPEN, 8.0, size[:, 0].clip(max=12.0))[:, None]
    place = draws.uniform(-0.22, 0.22, 2) * span
    height = np.where(has_table, draws.uniform(0.35, 1.1), np.where(kind == TABLE, 0.0, draws.uniform(0.0, 1.2)))
    return Ground(kind, size, np.concatenate([place, height[:, None]], axis=-1), table, draws.uniform(0, np.pi))


def _wander(draws: Draws, ground: Ground) -> Wander:
    kind, size = ground.kind, ground.size
    margin = np.where(kind == OPEN, 1.0, 0.25)[:, None]
    low = np.concatenate([-size[:, :2] / 2 + margin, np.full((len(kind), 1), 0.12)], axis=-1)
    high = np.concatenate([size[:, :2] / 2 - margin, size[:, 2:] - 0.2], axis=-1)
    # On wheels, by hand, or in the air.
    how = draws.choose((0.22, 0.5, 0.28))
    top = np.minimum(size[:, 2] - 0.3, 14.0)
    middle_z = np.choose(how, [draws.uniform(0.14, 0.5), draws.uniform(0.8, 1.8), draws.uniform(0.6, 1.0) * top * 0.6])
    reach_z = np.choose(how, [np.full_like(top, 0.01), draws.uniform(0.02, 0.4), draws.uniform(0.1, 0.4) * top])
    reach = draws.log_uniform(0.15, 1.0, 2) * np.minimum(_WANDER[kind][:, None], size[:, :2] * 0.45)
    middle = draws.uniform(-0.3, 0.3, 2) * np.minimum(size[:, :2], 10.0)
    return Wander(
        ground.focus,
        _ORBIT[kind],
        np.concatenate([middle, middle_z[:, None]], axis=-1),
        np.concatenate([reach, reach_z[:, None]], axis=-1),
        low,
        high,
        draws.chance(_ON_ORBIT[kind]),
        _SCALE[kind],
    )


def _boxes(furniture: Things, posters: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Return centres, half edges and yaws of a scene's upright boxes."""
    yaw = np.arctan2(furniture.axes[..., 0, 1], furniture.axes[..., 0, 0])
    parts = zip((furniture.centre, furniture.half, yaw), posters, strict=True)
    return tuple(np.concatenate(pair, axis=1) for pair in parts)


def _materials(draws: Draws, kind: np.ndarray, box_half: np.ndarray, solids: Things, photos: PhotoCounts) -> np.ndarray:
    posters = slice(SIDES + BOXES - POSTERS, SIDES + BOXES)
    materials = draw_materials(draws, SURFACES + SOLIDS, SIDES, INNER_WALLS, posters)
    worlds, n = materials.shape[:2]
    # A thing shows a part of a photograph or a few repetitions, a wall one every metre or so.
    extent = np.ones((worlds, n))
    extent[:, :SIDES] = np.choose(kind, (0.5, 0.5, 1.0, 3.0))[:, None]
    extent[:, SIDES : SIDES + BOXES], extent[:, SURFACES:] = box_half.mean(-1), solids.half.mean(-1)
    tiles = draws.log_uniform(0.3, 2.0, n) / (2 * extent.clip(min=0.02))
    share = np.where(draws.chance(0.85), draws.uniform(0.6, 1.0), 0.0)
    draw_photos(draws, materials, photos, share, tiles)
    window = draws.chance(0.2, POSTERS) & (kind != OPEN)[:, None]
    materials[:, posters, PHOTO] = np.where(window, SKY, materials[:, posters, PHOTO])
    for side in (0, 1, 2, 3, 5):
        materials[:, side, PHOTO] = np.where(kind == OPEN, SKY, materials[:, side, PHOTO])
    return materials


def _lights(draws: Draws, kind: np.ndarray, size: np.ndarray) -> dict[str, np.ndarray]:
    worlds = len(kind)
    place = draws.uniform(-0.4, 0.4, LAMPS, 2) * size[:, None, :2]
    height = size[:, 2:] - draws.uniform(0.05, 0.5, LAMPS)
    lamps = np.concatenate([place, height[..., None]], axis=-1)
    lit = np.arange(LAMPS) < (1 + draws.choose((2, 2, 1, 1)))[:, None]
    power = draws.log_uniform(0.4, 1.8, LAMPS) * lit * np.where(kind == HALL, 3.0, 1.0)[:, None]
    up, around = draws.uniform(0.2, 1.35), draws.uniform(0, 2 * np.pi)
    sun = np.stack([np.cos(around) * np.cos(up), np.sin(around) * np.cos(up), np.sin(up)], axis=-1) * _SUN_AWAY
    outdoors = kind == OPEN
    lamps[:, 0] = np.where(outdoors[:, None], sun, lamps[:, 0])
    # Lamps grow dimmer with the distance as ``render`` has it; the sun does not.
    shine = np.where(draws.chance(0.7), draws.uniform(0.5, 2.0), 0.05) * (1 + 0.12 * _SUN_AWAY**2)
    power = np.where(outdoors[:, None], np.arange(LAMPS) == 0, power)
    power[:, 0] = np.where(outdoors, shine, power[:, 0])
    tint = 1.0 + draws.uniform(-0.15, 0.15, LAMPS, 3)
    ambient = draws.uniform(0.25, 0.8)[:, None] * (1.0 + draws.uniform(-0.08, 0.08, 3))
    return {'lamps': lamps, 'lamp_colour': (tint * power[..., None]).reshape(worlds, LAMPS, 3), 'ambient': ambient}
