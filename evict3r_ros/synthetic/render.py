# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of worlds: camera rays, textures, lamps with shadows, the camera's faults; depth exact by construction."""

from __future__ import annotations

import torch

from evict3r_ros.synthetic.ray_cast import is_shadowed, ray_cast
from evict3r_ros.synthetic.effects import apply_effects, bend
from evict3r_ros.synthetic.texture import albedo
from evict3r_ros.synthetic.world import LAMPS, Scene


def render_frames(
    scene: Scene, world_from_camera: torch.Tensor, time: torch.Tensor, noise: torch.Tensor, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A flat batch of N frames of any worlds: image (N, H, W, 3) uint8 RGB, depth (N, H, W) float32 along optical z.

    scene: of N worlds, one a frame; world_from_camera (N, 4, 4) float32; time (N,) float32 in frames; noise: of
    ``texture.noise_table``; size (height, width). One shape whatever the worlds are, so that it compiles once. Pixel (u,
    v) looks along ((u - W / 2) / f, (v - H / 2) / f, 1): the network's camera.
    """
    height, width = size
    v, u = torch.meshgrid(
        torch.arange(height, device=time.device, dtype=torch.float32),
        torch.arange(width, device=time.device, dtype=torch.float32),
        indexing='ij',
    )
    edge = scene.tan_half_fov[:, None]
    x = (u.reshape(1, -1) - width / 2) / (width / 2) * edge
    y = (v.reshape(1, -1) - height / 2) / (width / 2) * edge
    x, y = bend(scene.effects, x, y, edge)
    rotation, position = world_from_camera[:, :3, :3], world_from_camera[:, :3, 3]
    direction = tuple(
        rotation[:, axis, 0, None] * x + rotation[:, axis, 1, None] * y + rotation[:, axis, 2, None]
        for axis in range(3)
    )
    origin = tuple(position[:, axis, None] for axis in range(3))
    hits = ray_cast(scene, origin, direction)
    point = tuple(o + hits.distance * d for o, d in zip(origin, direction, strict=True))
    length = (x * x + y * y + 1).sqrt()
    cosine = sum(n * d for n, d in zip(hits.normal, direction, strict=True)).abs() / length
    footprint = hits.distance * edge * (2 / width) / cosine.clamp(min=0.08)
    material = scene.materials.gather(1, hits.surface[..., None].expand(-1, -1, scene.materials.shape[-1]))
    colour = albedo(noise, material, hits.u, hits.v, footprint)
    light = _light(scene, point, hits.normal)
    # Between the light of one room and of a hall lies a factor of ten; a camera exposes for it.
    mean = sum(c * s for c, s in zip(colour, light, strict=True)).mean(dim=1, keepdim=True) / 3
    image = torch.stack([c * s / (0.35 + 1.9 * mean) for c, s in zip(colour, light, strict=True)], dim=1)
    image = image.view(-1, 3, height, width)
    image = apply_effects(image, scene.effects, time, scene.seeds * 8191 + time.to(torch.int64))
    image = (image * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return image.contiguous(), hits.distance.view(-1, height, width)


def _light(scene: Scene, point, normal) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Red, green and blue light (N, R) on points: from all lamps, the strongest of them with its shadow."""
    best = chosen = None
    lights = [scene.ambient[:, channel, None].expand_as(point[0]) for channel in range(3)]
    strongest = [torch.zeros_like(point[0]) for _ in range(3)]
    for lamp in range(LAMPS):
        to_lamp = tuple(scene.lamps[:, lamp, axis, None] - point[axis] for axis in range(3))
        square = sum(t * t for t in to_lamp)
        facing = (sum(t * n for t, n in zip(to_lamp, normal, strict=True)) * square.clamp(min=1e-2).rsqrt()).clamp(
            min=0
        )
        strength = facing / (1 + 0.12 * square)
        parts = [scene.lamp_colour[:, lamp, channel, None] * strength for channel in range(3)]
        lights = [light + part for light, part in zip(lights, parts, strict=True)]
        power = parts[0] + parts[1] + parts[2]
        if best is None:
            best, chosen, strongest = power, to_lamp, parts
        else:
            stronger = power > best
            best = torch.maximum(power, best)
            chosen = tuple(torch.where(stronger, new, old) for new, old in zip(to_lamp, chosen, strict=True))
            strongest = [torch.where(stronger, new, old) for new, old in zip(parts, strongest, strict=True)]
    lamp_at = tuple(p + t for p, t in zip(point, chosen, strict=True))
    shadow = is_shadowed(scene, lamp_at, tuple(-t for t in chosen)).to(best.dtype)
    return tuple(light - part * shadow for light, part in zip(lights, strongest, strict=True))
