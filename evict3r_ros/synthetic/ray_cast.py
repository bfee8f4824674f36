# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Analytic ray casting: where rays meet boxes, upright cylinders, spheres and the outer walls.

Rays come in N groups (frames) of R with one origin a group. A ray is origin + distance * direction; with directions
whose camera z is 1, the distance is the depth. Components are separate tensors, so that a compiler can keep them in
registers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from evict3r_ros.synthetic.ray_vectors import FAR, NEAR, Vector, dot, nearest, vector, without_zero
from evict3r_ros.synthetic.scene import BOXES, CYLINDERS, SIDES, SURFACES, Scene
from evict3r_ros.synthetic.solids import solid_hits, solid_surface


@dataclass(frozen=True)
class Hits:
    """What rays (N, R) hit."""

    distance: torch.Tensor
    """(N, R)"""
    surface: torch.Tensor
    """(N, R) int64: a row of the scene's materials."""
    normal: Vector
    """Three of (N, R), of unit length, towards the ray's origin."""
    u: torch.Tensor
    v: torch.Tensor
    """(N, R): place on the surface, metres."""


def box_distances(scene: Scene, origin: Vector, direction: Vector) -> torch.Tensor:
    """Return where rays from outside enter each box (N, R, BOXES); origin (N, R or 1), direction (N, R)."""
    cos, sin = scene.box_yaw.cos()[:, None], scene.box_yaw.sin()[:, None]
    x, y, z = (component[..., None] - scene.box_centre[:, None, :, axis] for axis, component in enumerate(origin))
    dx, dy, dz = (component[..., None] for component in direction)
    starts = (cos * x + sin * y, cos * y - sin * x, z)
    runs = (cos * dx + sin * dy, cos * dy - sin * dx, dz)

    def between_faces(axis: int) -> tuple[torch.Tensor, torch.Tensor]:
        inverse = 1.0 / without_zero(runs[axis])
        middle = -starts[axis] * inverse
        reach = scene.box_half[:, None, :, axis] * inverse.abs()
        return middle - reach, middle + reach

    enter, leave = between_faces(0)
    for axis in (1, 2):
        first, last = between_faces(axis)
        enter, leave = torch.maximum(enter, first), torch.minimum(leave, last)
    return torch.where((enter < leave) & (enter > NEAR), enter, FAR)


def cylinder_distances(scene: Scene, origin: Vector, direction: Vector) -> torch.Tensor:
    """Return, as ``box_distances``, (N, R, CYLINDERS)."""
    x, y, z = (component[..., None] - scene.cylinder_centre[:, None, :, axis] for axis, component in enumerate(origin))
    dx, dy, dz = (component[..., None] for component in direction)
    radius, half = scene.cylinder_extent[:, None, :, 0], scene.cylinder_extent[:, None, :, 1]
    a = (dx * dx + dy * dy).clamp(min=1e-12)
    b = (x * dx + y * dy) / a
    # The distance from the axis at the closest point; this form does not lose digits far away.
    square = (x - b * dx).square() + (y - b * dy).square()
    root = ((radius * radius - square).clamp(min=0) / a).sqrt()
    inverse = 1.0 / without_zero(dz)
    middle, reach = -z * inverse, half * inverse.abs()
    enter, leave = torch.maximum(-b - root, middle - reach), torch.minimum(-b + root, middle + reach)
    return torch.where((square < radius * radius) & (enter < leave) & (enter > NEAR), enter, FAR)


def sphere_distances(scene: Scene, origin: Vector, direction: Vector) -> torch.Tensor:
    """Return, as ``box_distances``, (N, R, SPHERES)."""
    x, y, z = (component[..., None] - scene.sphere_centre[:, None, :, axis] for axis, component in enumerate(origin))
    dx, dy, dz = (component[..., None] for component in direction)
    radius = scene.sphere_radius[:, None]
    a = dx * dx + dy * dy + dz * dz
    b = (x * dx + y * dy + z * dz) / a
    square = (x - b * dx).square() + (y - b * dy).square() + (z - b * dz).square()
    enter = -b - ((radius * radius - square).clamp(min=0) / a).sqrt()
    return torch.where((square < radius * radius) & (enter > NEAR), enter, FAR)


def is_shadowed(scene: Scene, origin: Vector, direction: Vector) -> torch.Tensor:
    """Say (N, R) whether a thing stands between origins (N, R) and origin + direction."""
    least = torch.minimum(
        nearest(box_distances, scene, origin, direction)[0],
        torch.minimum(
            nearest(cylinder_distances, scene, origin, direction)[0],
            nearest(sphere_distances, scene, origin, direction)[0],
        ),
    )
    if scene.has_solids:
        least = torch.minimum(least, solid_hits(scene, origin, direction).distance)
    # Short of the end, or a surface would shade itself.
    return least < 0.996


def ray_cast(scene: Scene, origin: Vector, direction: Vector) -> Hits:
    """Find the nearest hit of rays from inside the outer walls; origin (N, 1) each, direction (N, R) each."""
    box, box_index = nearest(box_distances, scene, origin, direction)
    cylinder, cylinder_index = nearest(cylinder_distances, scene, origin, direction)
    sphere, sphere_index = nearest(sphere_distances, scene, origin, direction)
    half = scene.size * 0.5
    exits = []
    for axis in range(3):
        low = -half[:, None, axis] if axis < 2 else torch.zeros_like(half[:, None, 0])
        high = half[:, None, axis] if axis < 2 else scene.size[:, None, 2]
        run = without_zero(direction[axis])
        exits.append((torch.where(run > 0, high, low) - origin[axis]) / run)
    side = torch.minimum(torch.minimum(exits[0], exits[1]), exits[2])
    side_axis = torch.where(exits[0] <= side, 0, torch.where(exits[1] <= side, 1, 2))
    distance = torch.minimum(torch.minimum(box, side), torch.minimum(cylinder, sphere))
    is_sphere = sphere <= distance
    is_cylinder = (cylinder <= distance) & ~is_sphere
    is_box = (box <= distance) & ~is_sphere & ~is_cylinder

    def of(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Take rows (N, R) of a column (N, items)."""
        return table.gather(1, index)

    px, py, pz = (o + distance * d for o, d in zip(origin, direction, strict=True))
    yaw = torch.where(is_box, of(scene.box_yaw, box_index), 0.0)
    cos, sin = yaw.cos(), yaw.sin()
    centres = []
    for axis in range(3):
        centre = torch.where(is_box, of(scene.box_centre[..., axis], box_index), 0.0)
        centre = torch.where(is_cylinder, of(scene.cylinder_centre[..., axis], cylinder_index), centre)
        centres.append(torch.where(is_sphere, of(scene.sphere_centre[..., axis], sphere_index), centre))
    mx, my, mz = px - centres[0], py - centres[1], pz - centres[2]
    lx, ly = cos * mx + sin * my, cos * my - sin * mx
    halves = [of(scene.box_half[..., axis], box_index).clamp(min=1e-6) for axis in range(3)]
    share = [lx.abs() / halves[0], ly.abs() / halves[1], mz.abs() / halves[2]]
    most = torch.maximum(torch.maximum(share[0], share[1]), share[2])
    box_axis = torch.where(share[0] >= most, 0, torch.where(share[1] >= most, 1, 2))
    face_axis = torch.where(is_box, box_axis, side_axis)
    # Normals of flat faces, in their own frame and turned back; then of round ones.
    tx, ty = cos * direction[0] + sin * direction[1], cos * direction[1] - sin * direction[0]
    nx = torch.where(face_axis == 0, -torch.sign(tx), 0.0)
    ny = torch.where(face_axis == 1, -torch.sign(ty), 0.0)
    nz = torch.where(face_axis == 2, -torch.sign(direction[2]), 0.0)
    nx, ny = cos * nx - sin * ny, sin * nx + cos * ny
    radius = torch.where(
        is_sphere, of(scene.sphere_radius, sphere_index), of(scene.cylinder_extent[..., 0], cylinder_index)
    ).clamp(min=1e-6)
    top = of(scene.cylinder_extent[..., 1], cylinder_index)
    is_lid = is_cylinder & (mz.abs() >= top - 1e-4) & (mx * mx + my * my < radius * radius * 0.9999)
    is_round = is_sphere | (is_cylinder & ~is_lid)
    nx = torch.where(is_round, mx / radius, torch.where(is_lid, 0.0, nx))
    ny = torch.where(is_round, my / radius, torch.where(is_lid, 0.0, ny))
    nz = torch.where(
        is_sphere, mz / radius, torch.where(is_lid, -torch.sign(direction[2]), torch.where(is_cylinder, 0.0, nz))
    )
    longitude = torch.atan2(my, mx) * radius
    latitude = torch.asin((mz / radius).clamp(-1, 1)) * radius
    u = torch.where(is_round, longitude, torch.where((face_axis == 0) & ~is_lid, ly, lx))
    v = torch.where(
        is_sphere, latitude, torch.where(is_cylinder & ~is_lid, mz, torch.where((face_axis == 2) | is_lid, ly, mz))
    )
    upper = torch.where(
        side_axis == 0, direction[0] > 0, torch.where(side_axis == 1, direction[1] > 0, direction[2] > 0)
    )
    surface = side_axis * 2 + upper
    surface = torch.where(is_box, SIDES + box_index, surface)
    surface = torch.where(is_cylinder, SIDES + BOXES + cylinder_index, surface)
    surface = torch.where(is_sphere, SIDES + BOXES + CYLINDERS + sphere_index, surface)
    hits = Hits(distance, surface, (nx, ny, nz), u, v)
    return _nearer_solids(scene, origin, direction, hits) if scene.has_solids else hits


def _nearer_solids(scene: Scene, origin: Vector, direction: Vector, hits: Hits) -> Hits:
    """Put solids where they stand before what else was hit."""
    solid = solid_hits(scene, origin, direction)
    before = solid.distance < hits.distance
    distance = torch.minimum(solid.distance, hits.distance)
    point = vector([o + distance * d for o, d in zip(origin, direction, strict=True)])
    normal, u, v = solid_surface(scene, solid.index, point)
    away = dot(normal, direction) > 0
    facing = [torch.where(away, -component, component) for component in normal]
    return Hits(
        distance,
        torch.where(before, SURFACES + solid.index, hits.surface),
        vector([torch.where(before, new, old) for new, old in zip(facing, hits.normal, strict=True)]),
        torch.where(before, u, hits.u),
        torch.where(before, v, hits.v),
    )
