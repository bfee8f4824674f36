# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Worlds as the ray caster reads them: a handful of tensors of fixed size, so that all kinds render as one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F

from evict3r_ros.synthetic.layout import INNER_WALLS

FURNITURE, POSTERS = 16, 6
BOXES = INNER_WALLS + FURNITURE + POSTERS
CYLINDERS = SPHERES = 4
LAMPS = 4
SIDES = 6
SURFACES = SIDES + BOXES + CYLINDERS + SPHERES
"""Materials of a world without solids: low x, high x, low y, high y, floor, ceiling, then one for each thing."""
SOLID_BOXES, SOLID_ELLIPSOIDS, SOLID_CYLINDERS = 32, 16, 16
SOLIDS = SOLID_BOXES + SOLID_ELLIPSOIDS + SOLID_CYLINDERS
"""Things turned about any axis, in this order; a scene has all of them, with materials after the others', or none."""


@dataclass(frozen=True)
class Scene:
    """W worlds, float32. A thing that is not there has no extent."""

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
    """(W, SURFACES or SURFACES + SOLIDS, texture.COLUMNS)"""
    tan_half_fov: torch.Tensor
    """(W,) of the horizontal field of view."""
    effects: torch.Tensor
    """(W, effects.COLUMNS)"""
    seeds: torch.Tensor
    """(W,) int64"""
    solid_centre: torch.Tensor
    """(W, 0 or SOLIDS, 3)"""
    solid_half: torch.Tensor
    """(W, 0 or SOLIDS, 3) half edges, radii, or radii and half height along the solid's own axes."""
    solid_axes: torch.Tensor
    """(W, 0 or SOLIDS, 3, 3): solid-from-world rotation, a row an axis of the solid."""
    sky: torch.Tensor
    """(W, photos.SKY_COLUMNS): what is seen through surfaces of sky."""

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Scene:
        """Put every tensor through a function."""
        return Scene(*(function(getattr(self, field.name)) for field in fields(self)))

    @property
    def has_solids(self) -> bool:
        """Say whether there are solids, a sky and a camera with a shutter: a question of shape, not of a world."""
        return self.solid_centre.shape[1] > 0

    def with_solids(self) -> Scene:
        """Make room for solids that are not there, so that these worlds render beside worlds that have some."""
        if self.has_solids:
            return self
        worlds, more = len(self.seeds), {}
        for name, shape in (('solid_centre', (3,)), ('solid_half', (3,)), ('solid_axes', (3, 3))):
            more[name] = torch.zeros(worlds, SOLIDS, *shape)
        more['materials'] = F.pad(self.materials, (0, 0, 0, SOLIDS))
        return Scene(**{field.name: more.get(field.name, getattr(self, field.name)) for field in fields(self)})


def concatenated(scenes: Sequence[Scene]) -> Scene:
    """Join the worlds of several scenes, all with solids or all without."""
    return Scene(*(torch.cat([getattr(scene, field.name) for scene in scenes]) for field in fields(Scene)))
