# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Furnished rooms of a seed: their geometry, the analytic ray caster, and a smooth path through them.

Every tensor has the batch of rooms (B) as its first dimension. World frame: z up, origin on the floor in the middle of
the room, metres. Camera frames are OpenCV's: x right, y down, z forward.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

CABINETS = 6
POSTERS = 4
SPHERES = 3
BOXES = CABINETS + POSTERS
PATTERNS = 4
"""Patterns of a surface: 0 plain, 1 chequered, 2 planks, 3 bricks."""
_SIDES = 6
_FLOOR = 4
SURFACES = _SIDES + BOXES * _SIDES + SPHERES
"""Surfaces of a room: its 6 sides, 6 of each box, one of each sphere; in that order."""


@dataclass(frozen=True)
class Rooms:
    """B rooms. size (B, 3): length, width, height. Boxes turn about z by box_yaw; spheres don't need to."""

    seeds: tuple[int, ...]
    size: torch.Tensor
    box_centre: torch.Tensor     # (B, BOXES, 3)
    box_half: torch.Tensor       # (B, BOXES, 3) half edges
    box_yaw: torch.Tensor        # (B, BOXES) radians
    sphere_centre: torch.Tensor  # (B, SPHERES, 3)
    sphere_radius: torch.Tensor  # (B, SPHERES)
    light: torch.Tensor          # (B, 3)
    colours: torch.Tensor        # (B, SURFACES, 2, 3) in 0 … 1, the two colours of a surface's pattern
    pattern: torch.Tensor        # (B, SURFACES) int64: 0 … PATTERNS - 1
    noise: torch.Tensor          # (B, N, N) in -1 … 1, periodic

    def __len__(self) -> int:
        return len(self.seeds)


@dataclass(frozen=True)
class Hits:
    """What rays (B, G, R) hit. A hit lies at origin + distance * direction."""

    distance: torch.Tensor  # (B, G, R) float32
    normal: torch.Tensor    # (B, G, R, 3) of unit length, towards the ray's origin
    surface: torch.Tensor   # (B, G, R) int64 in 0 … SURFACES - 1
    uv: torch.Tensor        # (B, G, R, 2) place on the surface, metres


def make_rooms(seeds: Sequence[int]) -> Rooms:
    """One room a seed: cabinets along the walls, posters on them, balls on the floor. Raises ValueError without any."""
    if not seeds:
        raise ValueError('no seeds, no rooms')
    rooms = [_make_room(int(seed)) for seed in seeds]
    return Rooms(tuple(int(seed) for seed in seeds), *(torch.stack(parts) for parts in zip(*rooms)))


def _make_room(seed: int) -> tuple[torch.Tensor, ...]:
    """Tensors of one room, without the batch dimension, in the order of Rooms' fields."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    size = torch.stack([uniform(5.5, 7.5, ()), uniform(4.8, 6.0, ()), uniform(2.5, 3.2, ())])
    centres, halves, yaws = [], [], []
    for index in range(BOXES):
        is_poster = index >= CABINETS
        if is_poster:
            half = torch.stack([uniform(0.35, 0.7, ()), torch.tensor(0.01), uniform(0.25, 0.45, ())])
            height = uniform(1.5, 1.8, ())
        else:
            half = torch.stack([uniform(0.25, 0.6, ()), uniform(0.2, 0.35, ()), uniform(0.25, 0.9, ())])
            height = half[2]
        # Walls in turn, so that no side of the room is bare; the box's y axis points away from its wall.
        wall = index % 4
        across = int(wall % 2 == 0)
        along = uniform(-0.7, 0.7, ()) * (size[1 - across] / 2 - half[0])
        off = size[across] / 2 - half[1] * 1.001
        sign = 1.0 if wall < 2 else -1.0
        place = torch.zeros(3)
        place[across], place[1 - across], place[2] = sign * off, along, height
        centres.append(place)
        halves.append(half)
        # Cabinets stand a little askew (and a little into the wall); posters hang flat.
        askew = 0.0 if is_poster else float(uniform(-0.25, 0.25, ()))
        yaws.append(torch.tensor((0.0 if across else math.pi / 2) + askew))
    radius = uniform(0.18, 0.4, SPHERES)
    angle = uniform(0.0, 2 * math.pi / SPHERES, SPHERES) + torch.arange(SPHERES) * (2 * math.pi / SPHERES)
    sphere = torch.stack([torch.cos(angle) * size[0] * 0.36, torch.sin(angle) * size[1] * 0.36, radius], dim=1)
    light = torch.stack([*uniform(-0.6, 0.6, 2), size[2] - 0.25])
    colours = uniform(0.25, 0.95, SURFACES, 2, 3)
    # Room sides are paler than furniture, their two colours closer: as rooms are.
    colours[:_SIDES] = 0.45 + 0.5 * colours[:_SIDES]
    colours[:_SIDES, 1] = 0.5 * colours[:_SIDES, 0] + 0.25 * colours[:_SIDES, 1]
    pattern = torch.randint(0, PATTERNS, (SURFACES,), generator=generator)
    pattern[_FLOOR] = 1 + pattern[_FLOOR] % 2  # a floor is tiles or planks
    noise = uniform(-1.0, 1.0, 64, 64)
    return (size, torch.stack(centres), torch.stack(halves), torch.stack(yaws), sphere, radius, light, colours,
            pattern, noise)


def walk(rooms: Rooms, frames: int, frames_a_loop: int = 240) -> torch.Tensor:
    """A smooth path: world_from_camera (B, frames, 4, 4) float64.

    An ellipse around the middle of the room, looking across it; after frames_a_loop frames it is back where it began.
    """
    size = rooms.size.to(torch.float64)
    start = torch.tensor([(seed * 0.618034) % 1.0 for seed in rooms.seeds], dtype=torch.float64) * 2 * math.pi
    turn = torch.arange(frames, dtype=torch.float64) * (2 * math.pi / frames_a_loop)
    theta = start[:, None] + turn  # (B, F)
    position = torch.stack([torch.cos(theta) * size[:, None, 0] * 0.2, torch.sin(theta) * size[:, None, 1] * 0.2,
                            1.35 + 0.12 * torch.sin(2 * theta)], dim=-1)
    yaw = theta + math.pi + 0.45 * torch.sin(2 * theta + 1.0)
    pitch = -0.12 + 0.08 * torch.sin(3 * theta)
    level = torch.cos(pitch)
    forward = torch.stack([torch.cos(yaw) * level, torch.sin(yaw) * level, torch.sin(pitch)], dim=-1)
    right = torch.stack([torch.sin(yaw), -torch.cos(yaw), torch.zeros_like(yaw)], dim=-1)
    down = torch.linalg.cross(forward, right)
    poses = torch.eye(4, dtype=torch.float64).repeat(len(rooms), frames, 1, 1)
    poses[..., :3, :] = torch.stack([right, down, forward, position], dim=-1)
    return poses


def cast(rooms: Rooms, origins: torch.Tensor, directions: torch.Tensor) -> Hits:
    """Cast rays from inside the rooms. origins (B, G, 3), one for each group; directions (B, G, R, 3), any length.

    Distances count in lengths of the direction: with directions whose camera z is 1, the distance is the depth.
    """
    directions = torch.where(directions.abs() < 1e-9, torch.full_like(directions, 1e-9), directions)
    side, side_distance = _room_exit(rooms, origins, directions)
    box, box_distance = _nearest(_box_distance(rooms, index, origins, directions) for index in range(BOXES))
    sphere, sphere_distance = _nearest(_sphere_distance(rooms, index, origins, directions) for index in range(SPHERES))
    distance = torch.minimum(torch.minimum(side_distance, box_distance), sphere_distance)
    point = origins[:, :, None, :] + distance[..., None] * directions
    is_sphere = sphere_distance <= distance
    is_box = ~is_sphere & (box_distance <= distance)
    return _describe(rooms, point, directions, distance, torch.where(is_box, box, -1),
                     torch.where(is_sphere, sphere, -1), side)


def occluded(rooms: Rooms, origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Whether furniture stands between each origin (B, G, 3) and the end of its directions: (B, G, R) bool."""
    directions = torch.where(directions.abs() < 1e-9, torch.full_like(directions, 1e-9), directions)
    _, box_distance = _nearest(_box_distance(rooms, index, origins, directions) for index in range(CABINETS))
    _, sphere_distance = _nearest(_sphere_distance(rooms, index, origins, directions) for index in range(SPHERES))
    # Short of the end, or a surface would shade itself.
    return torch.minimum(box_distance, sphere_distance) < 0.998


def _nearest(candidates) -> tuple[torch.Tensor, torch.Tensor]:
    """Index of the nearest of the candidates' distances (B, G, R), and that distance."""
    best: torch.Tensor | None = None
    for number, distance in enumerate(candidates):
        if best is None:
            best, index = distance, torch.zeros_like(distance, dtype=torch.int64)
        else:
            index = torch.where(distance < best, number, index)
            best = torch.minimum(distance, best)
    return index, best


def _room_exit(rooms: Rooms, origins: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Side (axis * 2 + 1 where it is the upper one) through which each ray leaves the room, and how far that is."""
    half = rooms.size / 2
    low = torch.stack([-half[:, 0], -half[:, 1], torch.zeros_like(half[:, 0])], dim=-1)[:, None, None]
    high = torch.stack([half[:, 0], half[:, 1], rooms.size[:, 2]], dim=-1)[:, None, None]
    distance, axis = ((torch.where(directions > 0, high, low) - origins[:, :, None]) / directions).min(dim=-1)
    upper = directions.gather(-1, axis[..., None])[..., 0] > 0
    return axis * 2 + upper, distance


def _box_frame(rooms: Rooms, index: int, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Components of world vectors (B, …, 3) along the axes of a box."""
    shape = (-1,) + (1,) * (vectors.ndim - 2)
    cos, sin = torch.cos(rooms.box_yaw[:, index]).view(shape), torch.sin(rooms.box_yaw[:, index]).view(shape)
    x, y, z = vectors.unbind(-1)
    return cos * x + sin * y, cos * y - sin * x, z


def _box_distance(rooms: Rooms, index: int, origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Distance (B, G, R) at which rays from outside enter a box, infinite where they don't."""
    start = _box_frame(rooms, index, origins - rooms.box_centre[:, None, index])
    enter = leave = None
    for axis, (o, d) in enumerate(zip(start, _box_frame(rooms, index, directions))):
        inverse = d.reciprocal()
        middle = o[..., None] * -inverse
        reach = rooms.box_half[:, index, axis, None, None] * inverse.abs()
        near, far = middle - reach, middle + reach
        enter = near if enter is None else torch.maximum(enter, near)
        leave = far if leave is None else torch.minimum(leave, far)
    return torch.where((enter < leave) & (enter > 1e-4), enter, math.inf)


def _sphere_distance(rooms: Rooms, index: int, origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Distance (B, G, R) at which rays from outside meet a sphere, infinite where they don't."""
    start = origins - rooms.sphere_centre[:, None, index]  # (B, G, 3)
    a = directions.square().sum(dim=-1)
    b = (directions @ start[..., None])[..., 0]
    c = (start.square().sum(dim=-1) - rooms.sphere_radius[:, index, None].square())[..., None]
    discriminant = b.square() - a * c
    distance = (-b - discriminant.clamp(min=0).sqrt()) / a
    return torch.where((discriminant > 0) & (distance > 1e-4), distance, math.inf)


def _describe(rooms: Rooms, point: torch.Tensor, directions: torch.Tensor, distance: torch.Tensor, box: torch.Tensor,
              sphere: torch.Tensor, side: torch.Tensor) -> Hits:
    """Normal, surface and place on the surface of hits at point (B, G, R, 3); box and sphere are -1 where not hit."""
    batch = torch.arange(len(rooms), device=point.device)[:, None, None]
    # Boxes: go to the box's frame, where the side hit is the one the point lies closest to. Where neither box nor
    # sphere was hit it is a side of the room, whose frame is the world's.
    is_box = box >= 0
    index = box.clamp(min=0)
    yaw = torch.where(is_box, rooms.box_yaw[batch, index], 0.0)
    cos, sin = torch.cos(yaw), torch.sin(yaw)
    centre = torch.where(is_box[..., None], rooms.box_centre[batch, index], 0.0)
    moved = point - centre
    local = torch.stack([cos * moved[..., 0] + sin * moved[..., 1], cos * moved[..., 1] - sin * moved[..., 0],
                         moved[..., 2]], dim=-1)
    box_axis = (local.abs() / rooms.box_half[batch, index]).argmax(dim=-1)
    axis = torch.where(is_box, box_axis, side // 2)
    along = local.gather(-1, axis[..., None])[..., 0]
    surface = torch.where(is_box, _SIDES + index * _SIDES + axis * 2 + (along > 0), side)
    turned = torch.stack([cos * directions[..., 0] + sin * directions[..., 1],
                          cos * directions[..., 1] - sin * directions[..., 0], directions[..., 2]], dim=-1)
    sign = -torch.sign(turned.gather(-1, axis[..., None]))
    flat = torch.zeros_like(local).scatter_(-1, axis[..., None], sign)
    normal = torch.stack([cos * flat[..., 0] - sin * flat[..., 1], sin * flat[..., 0] + cos * flat[..., 1],
                          flat[..., 2]], dim=-1)
    u = local.gather(-1, ((axis == 0).to(torch.int64))[..., None])[..., 0]
    v = local.gather(-1, (2 - (axis == 2).to(torch.int64))[..., None])[..., 0]
    # Spheres: longitude and latitude, in metres at the equator.
    is_sphere = sphere >= 0
    ball = sphere.clamp(min=0)
    radius = rooms.sphere_radius[batch, ball]
    outward = (point - rooms.sphere_centre[batch, ball]) / radius[..., None]
    u = torch.where(is_sphere, torch.atan2(outward[..., 1], outward[..., 0]) * radius, u)
    v = torch.where(is_sphere, torch.asin(outward[..., 2].clamp(-1, 1)) * radius, v)
    normal = torch.where(is_sphere[..., None], outward, normal)
    surface = torch.where(is_sphere, _SIDES + BOXES * _SIDES + ball, surface)
    return Hits(distance, normal, surface, torch.stack([u, v], dim=-1))
