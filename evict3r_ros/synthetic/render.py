# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of worlds: camera rays, textures, lamps with shadows, the camera's faults; depth exact by construction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from evict3r_ros.synthetic.compression import compress_blocks
from evict3r_ros.synthetic.effects import BLOCKS, apply_effects, bend, exposure_steps
from evict3r_ros.synthetic.photos import Photos, photo_colour, sky_colour
from evict3r_ros.synthetic.ray_cast import Hits, is_shadowed, ray_cast
from evict3r_ros.synthetic.ray_vectors import Vector, dot, total, vector
from evict3r_ros.synthetic.scene import LAMPS, Scene
from evict3r_ros.synthetic.shutter import motion_blur, roll_shutter
from evict3r_ros.synthetic.texture import BLEND, COSINE, PHOTO, PLACE, SINE, SKY, TILES, albedo, noise_table

SKY_DEPTH = math.inf
"""Depth where the sky is seen."""


@dataclass(frozen=True)
class Frames:
    """When and from where a flat batch of N frames is seen, on one device."""

    world_from_camera: torch.Tensor
    """(N, 4, 4) float32"""
    time: torch.Tensor
    """(N,) float32, in frames of the world's time."""
    turn: torch.Tensor
    """(N, 3) float32: radians that the camera turns in one frame of time, about its own axes."""


@dataclass(frozen=True)
class Pigments:
    """What surfaces are painted with, on one device."""

    noise: torch.Tensor
    """Of ``texture.noise_table``."""
    photos: Photos | None = None

    @classmethod
    def on(cls, device: torch.device | str, photos: Photos | None = None) -> Pigments:
        """Make them ready on a device."""
        return cls(noise_table(device), None if photos is None else photos.to(device))


def render_frames(
    scene: Scene, frames: Frames, pigments: Pigments, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Render a flat batch: image (N, H, W, 3) uint8 RGB, depth (N, H, W) float32 along optical z, infinite in the sky.

    scene: of N worlds, one a frame; size (height, width). One shape whatever the worlds are, so that it compiles once.
    Pixel (u, v) looks along ((u - W / 2) / f, (v - H / 2) / f, 1): the network's camera.
    """
    height, width = size
    device = frames.time.device
    v, u = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float32),
        torch.arange(width, device=device, dtype=torch.float32),
        indexing='ij',
    )
    edge = scene.tan_half_fov[:, None]
    x = (u.reshape(1, -1) - width / 2) / (width / 2) * edge
    y = (v.reshape(1, -1) - height / 2) / (width / 2) * edge
    x, y = bend(scene.effects, x, y, edge)
    if scene.has_solids:
        x, y = roll_shutter(scene.effects, frames.turn, x, y, v.reshape(-1) / height - 0.5)
    rotation, position = frames.world_from_camera[:, :3, :3], frames.world_from_camera[:, :3, 3]
    direction = vector(
        [
            rotation[:, axis, 0, None] * x + rotation[:, axis, 1, None] * y + rotation[:, axis, 2, None]
            for axis in range(3)
        ]
    )
    origin = vector([position[:, axis, None] for axis in range(3)])
    hits = ray_cast(scene, origin, direction)
    length = (x * x + y * y + 1).sqrt()
    material = scene.materials.gather(1, hits.surface[..., None].expand(-1, -1, scene.materials.shape[-1]))
    light = _reflected(scene, pigments, origin, direction, hits, length, material, width)
    depth = hits.distance
    if scene.has_solids:
        is_sky = material[..., PHOTO] == SKY
        seen = sky_colour(pigments.photos, scene.sky, direction)
        light = vector([torch.where(is_sky, one, other) for one, other in zip(seen, light, strict=True)])
        depth = torch.where(is_sky, SKY_DEPTH, depth)
    # Between the light of one room and of a hall lies a factor of ten; a camera exposes for it.
    mean = total(light).mean(dim=1, keepdim=True) / 3
    image = torch.stack([one / (0.35 + 1.9 * mean) for one in light], dim=1)
    image = image.view(-1, 3, height, width)
    if scene.has_solids:
        image = motion_blur(image, scene.effects, frames.turn, x, y, edge)
        image = image * exposure_steps(scene.effects, frames.time)[:, None, None, None]
    image = apply_effects(image, scene.effects, frames.time, scene.seeds * 8191 + frames.time.to(torch.int64))
    if scene.has_solids:
        image = compress_blocks(image, scene.effects[:, BLOCKS])
    image = (image * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return image.contiguous(), depth.view(-1, height, width)


def _reflected(
    scene: Scene,
    pigments: Pigments,
    origin: Vector,
    direction: Vector,
    hits: Hits,
    length: torch.Tensor,
    material: torch.Tensor,
    width: int,
) -> Vector:
    """Return light (N, R) from what was hit; length (N, R) of the directions."""
    point = vector([o + hits.distance * d for o, d in zip(origin, direction, strict=True)])
    cosine = dot(hits.normal, direction).abs() / length
    footprint = hits.distance * scene.tan_half_fov[:, None] * (2 / width) / cosine.clamp(min=0.08)
    colour = albedo(pigments.noise, material, hits.u, hits.v, footprint)
    if pigments.photos is not None:
        cos, sin, tiles = material[..., COSINE], material[..., SINE], material[..., TILES]
        x, y = ((cos * hits.u + sin * hits.v) * tiles, (cos * hits.v - sin * hits.u) * tiles)
        shift = material[..., PLACE]
        photo = photo_colour(pigments.photos, material[..., PHOTO], x + shift, y + 0.37 * shift, footprint * tiles)
        # The material's first colour is the photograph's tint.
        tint = [0.55 + 0.75 * material[..., channel] for channel in range(3)]
        blend = material[..., BLEND]
        colour = vector([torch.lerp(c, p * t, blend) for c, p, t in zip(colour, photo, tint, strict=True)])
    return vector([c * s for c, s in zip(colour, _light(scene, point, hits.normal), strict=True)])


def _light(scene: Scene, point: Vector, normal: Vector) -> Vector:
    """Return red, green and blue light (N, R) on points: from all lamps, the strongest of them with its shadow."""

    def of_lamp(lamp: int) -> tuple[Vector, list[torch.Tensor]]:
        """Return the way to a lamp, and its light."""
        to_lamp = vector([scene.lamps[:, lamp, axis, None] - point[axis] for axis in range(3)])
        square = dot(to_lamp, to_lamp)
        facing = (dot(to_lamp, normal) * square.clamp(min=1e-2).rsqrt()).clamp(min=0)
        strength = facing / (1 + 0.12 * square)
        return to_lamp, [scene.lamp_colour[:, lamp, channel, None] * strength for channel in range(3)]

    chosen, strongest = of_lamp(0)
    lights = [scene.ambient[:, channel, None] + strongest[channel] for channel in range(3)]
    best = strongest[0] + strongest[1] + strongest[2]
    for lamp in range(1, LAMPS):
        to_lamp, parts = of_lamp(lamp)
        lights = [light + part for light, part in zip(lights, parts, strict=True)]
        power = parts[0] + parts[1] + parts[2]
        stronger = power > best
        best = torch.maximum(power, best)
        chosen = vector([torch.where(stronger, new, old) for new, old in zip(to_lamp, chosen, strict=True)])
        strongest = [torch.where(stronger, new, old) for new, old in zip(parts, strongest, strict=True)]
    lamp_at = vector([p + t for p, t in zip(point, chosen, strict=True)])
    shadow = is_shadowed(scene, lamp_at, vector([-t for t in chosen])).to(best.dtype)
    return vector([light - part * shadow for light, part in zip(lights, strongest, strict=True)])
