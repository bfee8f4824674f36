# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of rooms: camera rays, procedural textures, one lamp with shadows; depth exact by construction."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from evict3r_ros.synthetic.room import Hits, Rooms, cast, make_rooms, occluded, walk

AMBIENT = 0.42
_OCTAVES = 4


@dataclass(frozen=True)
class Rendering:
    """image (B, F, H, W, 3) uint8 RGB; depth (B, F, H, W) float32, metres along the optical axis."""

    image: torch.Tensor
    depth: torch.Tensor


@dataclass(frozen=True)
class RenderedFrame:
    """One frame of one room: image (H, W, 3) uint8 RGB, depth (H, W) float32 metres, world_from_camera (4, 4)."""

    image: np.ndarray
    depth: np.ndarray
    world_from_camera: np.ndarray


def pinhole(size: tuple[int, int], fov_x_deg: float = 75.0) -> np.ndarray:
    """K (3, 3) of a camera with square pixels whose centres are at integers; size is (height, width)."""
    height, width = size
    focal = width / 2 / math.tan(math.radians(fov_x_deg) / 2)
    return np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])


def render_walk(seed: int, frames: int, K: np.ndarray, size: tuple[int, int]) -> Iterator[RenderedFrame]:
    """Walk through the room of a seed, a frame at a time, so that memory doesn't grow with the number of frames."""
    rooms = make_rooms([seed])
    poses = walk(rooms, frames)
    for index in range(frames):
        rendering = render(rooms, poses[:, index:index + 1], K, size)
        yield RenderedFrame(rendering.image[0, 0].numpy(), rendering.depth[0, 0].numpy(), poses[0, index].numpy())


@torch.inference_mode()
def render(rooms: Rooms, world_from_camera: torch.Tensor, K: np.ndarray, size: tuple[int, int]) -> Rendering:
    """Render F views of each room. world_from_camera (B, F, 4, 4), K (3, 3), size (height, width)."""
    height, width = size
    batch, frames = world_from_camera.shape[:2]
    pose = world_from_camera.to(rooms.size)
    v, u = torch.meshgrid(torch.arange(height).to(pose), torch.arange(width).to(pose), indexing='ij')
    # Camera z is 1 in each direction, so that the distance along it is the depth.
    rays = torch.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], torch.ones_like(u)], dim=-1).reshape(-1, 3)
    origins = pose[..., :3, 3]
    directions = rays @ pose[..., :3, :3].transpose(-1, -2)  # (B, F, R, 3)
    hits = cast(rooms, origins, directions)
    point = origins[:, :, None] + hits.distance[..., None] * directions
    cosine = (hits.normal * directions).sum(-1).abs() / directions.norm(dim=-1)
    footprint = hits.distance / float(K[0, 0]) / cosine.clamp(min=0.05)
    colour = _albedo(rooms, hits, footprint) * _light(rooms, point, hits.normal)[..., None]
    image = (colour.clamp(0, 1).pow(1 / 1.6) * 255).round().to(torch.uint8)
    return Rendering(image.view(batch, frames, height, width, 3), hits.distance.view(batch, frames, height, width))


def _light(rooms: Rooms, point: torch.Tensor, normal: torch.Tensor) -> torch.Tensor:
    """Brightness (B, F, R) from the lamp and from all around."""
    from_light = point - rooms.light[:, None, None]
    distance = from_light.norm(dim=-1).clamp(min=0.1)
    facing = (-(from_light * normal).sum(-1) / distance).clamp(min=0)
    lamps = rooms.light[:, None].expand(-1, point.shape[1], -1)
    lit = ~occluded(rooms, lamps, from_light)
    return AMBIENT + lit * facing * 1.1 / (1.0 + 0.08 * distance.square())


def _albedo(rooms: Rooms, hits: Hits, footprint: torch.Tensor) -> torch.Tensor:
    """Colour (B, F, R, 3) of the surfaces: a pattern of two colours under grain of several sizes."""
    batch = torch.arange(len(rooms), device=hits.uv.device)[:, None, None]
    share = _pattern(rooms.pattern[batch, hits.surface], hits.uv, footprint)[..., None]
    pair = rooms.colours[batch, hits.surface]
    # Each surface reads the noise elsewhere, so that no two look alike.
    place = hits.uv + hits.surface[..., None] * 3.7
    grain = torch.zeros_like(footprint)
    for octave in range(_OCTAVES):
        frequency = 2.0 * 2.6 ** octave  # cells a metre
        # Detail finer than two pixels is left out, or it would sparkle from frame to frame.
        visible = (1.5 - 2.0 * frequency * footprint).clamp(0, 1)
        grain += visible * 0.7 ** octave * _noise(rooms.noise, batch, place * frequency)
    return (pair[..., 0, :] * (1 - share) + pair[..., 1, :] * share) * (1 + 0.3 * grain)[..., None]


def _noise(table: torch.Tensor, batch: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Smooth noise (B, F, R) in -1 … 1 at place (B, F, R, 2), from the periodic table (B, N, N)."""
    size = table.shape[-1]
    cell = place.floor()
    x, y = (place - cell).unbind(-1)
    x, y = x * x * (3 - 2 * x), y * y * (3 - 2 * y)
    column, row = cell.to(torch.int64).unbind(-1)
    left, top = column % size, row % size
    right, bottom = (left + 1) % size, (top + 1) % size
    upper = table[batch, top, left] * (1 - x) + table[batch, top, right] * x
    lower = table[batch, bottom, left] * (1 - x) + table[batch, bottom, right] * x
    return upper * (1 - y) + lower * y


def _pattern(kind: torch.Tensor, uv: torch.Tensor, footprint: torch.Tensor) -> torch.Tensor:
    """Share (B, F, R) of the second colour: 0 plain, 1 chequered, 2 planks, 3 bricks."""
    u, v = uv.unbind(-1)

    def edge(x: torch.Tensor, width: float) -> torch.Tensor:
        """1 in a line of the given width around whole numbers of x; blurred to the pixel."""
        away = (x - x.round()).abs()
        return ((width / 2 - away) / footprint.clamp(min=1e-3) + 0.5).clamp(0, 1)

    wave = torch.sin(u * 2 * math.pi) * torch.sin(v * 2 * math.pi)
    chequered = (wave / (6 * footprint).clamp(min=0.05)).clamp(-1, 1) / 2 + 0.5
    planks = edge(v / 0.22, 0.06) + 0.35 * ((v / 0.22).round() % 2)
    row = (v / 0.3).floor()
    bricks = torch.maximum(edge(v / 0.3, 0.08), edge(u / 0.6 + 0.5 * (row % 2), 0.05))
    return torch.where(kind == 1, chequered, torch.where(kind == 2, planks, torch.where(kind == 3, bricks, 0.0)))
