# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where rays meet boxes, ellipsoids and cylinders that are turned about any axis.

In its own frame, each length measured in its own half extents, a solid is the cube, the ball or the cylinder of radius
and half height 1. Shapes and conventions are those of ``ray_cast``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from evict3r_ros.synthetic.ray_vectors import FAR, NEAR, Vector, nearest, total, vector, without_zero
from evict3r_ros.synthetic.scene import SOLID_BOXES, SOLID_ELLIPSOIDS, Scene

_BOXES = slice(0, SOLID_BOXES)
_ELLIPSOIDS = slice(SOLID_BOXES, SOLID_BOXES + SOLID_ELLIPSOIDS)
_CYLINDERS = slice(SOLID_BOXES + SOLID_ELLIPSOIDS, None)


@dataclass(frozen=True)
class SolidHits:
    """What rays (N, R) hit of the solids."""

    distance: torch.Tensor
    """(N, R), FAR where nothing is hit."""
    index: torch.Tensor
    """(N, R) int64: which solid."""


def _unit_frame(scene: Scene, which: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Return centres (N, S, 3) and matrices (N, S, 3, 3) from the world to unit frames; 0 without extent."""
    half = scene.solid_half[:, which]
    inverse = torch.where(half > 0, 1 / half.clamp(min=1e-6), 0.0)
    return scene.solid_centre[:, which], scene.solid_axes[:, which] * inverse[..., None]


def _local(scene: Scene, which: slice, origin: Vector, direction: Vector) -> tuple[Vector, Vector]:
    """Return origins and directions (N, R, S) in the unit frames."""
    centre, matrix = _unit_frame(scene, which)
    offset = vector([component[..., None] - centre[:, None, :, axis] for axis, component in enumerate(origin)])
    run = vector([component[..., None] for component in direction])
    rows = [[matrix[:, None, :, row, axis] for axis in range(3)] for row in range(3)]

    def in_frame(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> Vector:
        return vector([row[0] * x + row[1] * y + row[2] * z for row in rows])

    return in_frame(*offset), in_frame(*run)


def _box_distances(scene: Scene, origin: Vector, direction: Vector) -> torch.Tensor:
    starts, runs = _local(scene, _BOXES, origin, direction)

    def between_faces(axis: int) -> tuple[torch.Tensor, torch.Tensor]:
        inverse = 1.0 / without_zero(runs[axis])
        middle, reach = -starts[axis] * inverse, inverse.abs()
        return middle - reach, middle + reach

    enter, leave = between_faces(0)
    for axis in (1, 2):
        first, last = between_faces(axis)
        enter, leave = torch.maximum(enter, first), torch.minimum(leave, last)
    return torch.where((enter < leave) & (enter > NEAR), enter, FAR)


def _ellipsoid_distances(scene: Scene, origin: Vector, direction: Vector) -> torch.Tensor:
    (x, y, z), (dx, dy, dz) = _local(scene, _ELLIPSOIDS, origin, direction)
    a = (dx * dx + dy * dy + dz * dz).clamp(min=1e-12)
    b = (x * dx + y * dy + z * dz) / a
    square = (x - b * dx).square() + (y - b * dy).square() + (z - b * dz).square()
    enter = -b - ((1 - square).clamp(min=0) / a).sqrt()
    return torch.where((square < 1) & (enter > NEAR), enter, FAR)


def _cylinder_distances(scene: Scene, origin: Vector, direction: Vector) -> torch.Tensor:
    (x, y, z), (dx, dy, dz) = _local(scene, _CYLINDERS, origin, direction)
    a = (dx * dx + dy * dy).clamp(min=1e-12)
    b = (x * dx + y * dy) / a
    square = (x - b * dx).square() + (y - b * dy).square()
    root = ((1 - square).clamp(min=0) / a).sqrt()
    inverse = 1.0 / without_zero(dz)
    middle, reach = -z * inverse, inverse.abs()
    enter, leave = torch.maximum(-b - root, middle - reach), torch.minimum(-b + root, middle + reach)
    return torch.where((square < 1) & (enter < leave) & (enter > NEAR), enter, FAR)


def solid_hits(scene: Scene, origin: Vector, direction: Vector) -> SolidHits:
    """Find the nearest solid; origin (N, R or 1) each, direction (N, R) each."""
    best, index = nearest(_box_distances, scene, origin, direction)
    for which, distances in ((_ELLIPSOIDS, _ellipsoid_distances), (_CYLINDERS, _cylinder_distances)):
        distance, own = nearest(distances, scene, origin, direction)
        index = torch.where(distance < best, own + which.start, index)
        best = torch.minimum(distance, best)
    return SolidHits(best, index)


def solid_surface(scene: Scene, index: torch.Tensor, point: Vector) -> tuple[Vector, torch.Tensor, torch.Tensor]:
    """Return unit normal, outward, and place u, v in metres (N, R each) at points on the solids of an index (N, R)."""
    centre, matrix = _unit_frame(scene, slice(None))

    def of(table: torch.Tensor) -> torch.Tensor:
        return table.gather(1, index)

    offset = [p - of(centre[..., axis]) for axis, p in enumerate(point)]
    rows = [[of(matrix[..., row, axis]) for axis in range(3)] for row in range(3)]
    x, y, z = (row[0] * offset[0] + row[1] * offset[1] + row[2] * offset[2] for row in rows)
    half = [of(scene.solid_half[..., axis]) for axis in range(3)]
    is_box = index < _BOXES.stop
    is_ellipsoid = (index >= _ELLIPSOIDS.start) & (index < _ELLIPSOIDS.stop)
    most = torch.maximum(torch.maximum(x.abs(), y.abs()), z.abs())
    on_x, on_y = x.abs() >= most, y.abs() >= most
    on_y = on_y & ~on_x
    is_lid = ~is_box & ~is_ellipsoid & (z.abs() >= 1 - 1e-4) & (x * x + y * y < 0.9999)
    round_z = torch.where(is_ellipsoid, z, 0.0)
    local = (
        torch.where(is_box, torch.where(on_x, x.sign(), 0.0), torch.where(is_lid, 0.0, x)),
        torch.where(is_box, torch.where(on_y, y.sign(), 0.0), torch.where(is_lid, 0.0, y)),
        torch.where(is_box, torch.where(on_x | on_y, 0.0, z.sign()), torch.where(is_lid, z.sign(), round_z)),
    )
    # A normal turns with the inverse transpose, which for a matrix from the world is the transpose.
    normal = [total(vector([rows[row][axis] * local[row] for row in range(3)])) for axis in range(3)]
    length = (normal[0].square() + normal[1].square() + normal[2].square()).clamp(min=1e-20).rsqrt()
    around = torch.atan2(y, x) * 0.5 * (half[0] + half[1])
    up = torch.where(is_ellipsoid, torch.asin(z.clamp(-1, 1)), z) * half[2]
    flat_u = torch.where(on_x & is_box, y * half[1], x * half[0])
    flat_v = torch.where((on_x | on_y) & is_box, z * half[2], y * half[1])
    is_flat = is_box | is_lid
    return (
        vector([component * length for component in normal]),
        torch.where(is_flat, flat_u, around),
        torch.where(is_flat, flat_v, up),
    )
