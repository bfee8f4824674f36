# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Clips of worlds: images with exact depth, poses and intrinsics, all at once or a frame at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from evict3r_ros.synthetic.layout import KINDS
from evict3r_ros.synthetic.render import render_frames
from evict3r_ros.synthetic.texture import noise_table
from evict3r_ros.synthetic.world import Scene, Worlds, make_worlds

SIZE = (168, 224)
"""Height and width of the images that preset ``tiny`` takes."""
_FRAMES_AT_ONCE = {'cpu': 1, 'cuda': 32}


@dataclass(frozen=True)
class Clips:
    """Clips of several worlds. Axes are OpenCV's; lengths in metres."""

    images: torch.Tensor
    """(clips, frames, H, W, 3) uint8 RGB"""
    depth: torch.Tensor
    """(clips, frames, H, W) float32, along optical z, > 0 everywhere"""
    world_from_camera: torch.Tensor
    """(clips, frames, 4, 4) float64"""
    intrinsics: torch.Tensor
    """(clips, 3, 3) float64, the principal point at the image's centre as ``geometry.intrinsics`` has it"""


def intrinsics_of(scene: Scene, size: tuple[int, int]) -> torch.Tensor:
    """K (W, 3, 3) float64 for images of size (height, width): square pixels, the principal point in the middle."""
    height, width = size
    matrix = torch.zeros(len(scene.seeds), 3, 3, dtype=torch.float64)
    matrix[:, 0, 0] = matrix[:, 1, 1] = width / 2 / scene.tan_half_fov.cpu().double()
    matrix[:, 0, 2], matrix[:, 1, 2], matrix[:, 2, 2] = width / 2, height / 2, 1.0
    return matrix


def _render(
    worlds: Worlds, poses: torch.Tensor, times: np.ndarray, size: tuple[int, int], device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Images and depths, a few frames at a time, clip by clip; poses (W, F, 4, 4)."""
    scene = worlds.scene.map(lambda part: part.to(device))
    noise = noise_table(device)
    frames = poses.shape[1]
    world = torch.arange(len(poses)).repeat_interleave(frames).to(device)
    time = torch.as_tensor(times, dtype=torch.float32).repeat(len(poses)).to(device)
    flat = poses.flatten(0, 1).float().to(device)
    at_once = _FRAMES_AT_ONCE.get(device.type, 1)
    with torch.inference_mode():
        for part in torch.arange(len(flat), device=device).split(at_once):
            frames_of = world[part]
            yield render_frames(scene.map(lambda each, of=frames_of: each[of]), flat[part], time[part], noise, size)


def render_clips(
    seeds: Sequence[int],
    frames: int,
    stride: int = 1,
    size: tuple[int, int] = SIZE,
    effects: bool = True,
    loop: bool = False,
    device: torch.device | str = 'cpu',
    laps: int = 1,
) -> Clips:
    """One clip a seed, frames ``stride`` apart; size is (height, width).

    A seed says everything: layout, textures, path, camera, faults (``effects``; without them the camera is perfect).
    ``loop``: several rooms or corridors joined, on a path that is back where it began after ``frames`` frames.
    ``laps``: how many times it is gone round; a clip has ``frames * laps`` frames.
    """
    if frames < 1 or stride < 1:
        raise ValueError(f'{frames} frames, {stride} apart: both must be at least 1')
    device = torch.device(device)
    worlds = make_worlds(seeds, effects, loop)
    times = np.arange(frames * laps) * float(stride)
    poses = worlds.poses(times, frames * stride if loop else None)
    frames *= laps
    images = torch.empty(len(seeds) * frames, *size, 3, dtype=torch.uint8, device=device)
    depth = torch.empty(len(seeds) * frames, *size, device=device)
    done = 0
    for image, far in _render(worlds, poses, times, size, device):
        images[done : done + len(image)], depth[done : done + len(image)] = image, far
        done += len(image)
    return Clips(
        images.unflatten(0, (len(seeds), frames)),
        depth.unflatten(0, (len(seeds), frames)),
        poses.to(device),
        intrinsics_of(worlds.scene, size).to(device),
    )


@dataclass(frozen=True)
class StreamFrame:
    """One frame of one world: image (H, W, 3) uint8 RGB, depth (H, W) float32 metres, world_from_camera (4, 4)."""

    image: np.ndarray
    depth: np.ndarray
    world_from_camera: np.ndarray


class WorldStream:
    """A clip of one world a frame at a time, so that memory doesn't grow with the number of frames; on the CPU."""

    def __init__(
        self,
        seed: int,
        frames: int,
        stride: int = 1,
        size: tuple[int, int] = SIZE,
        effects: bool = True,
        loop: bool = False,
    ):
        self._worlds = make_worlds([seed], effects, loop)
        self._times, self._size = np.arange(frames) * float(stride), size
        self._poses = self._worlds.poses(self._times, frames * stride if loop else None)
        self.intrinsics = intrinsics_of(self._worlds.scene, size)[0].numpy()
        """K (3, 3) float64."""
        self.kind = KINDS[int(self._worlds.layout.kind[0])]
        """One of ``layout.KINDS``."""

    def __len__(self) -> int:
        return len(self._times)

    def __iter__(self) -> Iterator[StreamFrame]:
        rendered = _render(self._worlds, self._poses, self._times, self._size, torch.device('cpu'))
        for pose, (image, depth) in zip(self._poses[0], rendered, strict=True):
            yield StreamFrame(image[0].numpy(), depth[0].numpy(), pose.numpy())
