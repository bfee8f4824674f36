# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Clips of worlds: images with exact depth, poses and intrinsics, all at once or a frame at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from evict3r_ros.synthetic.photos import PhotoCounts, Photos
from evict3r_ros.synthetic.places import make_places
from evict3r_ros.synthetic.render import Frames, Pigments, render_frames
from evict3r_ros.synthetic.scene import Scene
from evict3r_ros.synthetic.world import Worlds, make_worlds

SIZE = (168, 224)
"""Height and width of the images that preset ``tiny`` takes."""
FAMILIES = ('rooms', 'places')
"""What worlds there are: of ``world`` and of ``places``."""
_FRAMES_AT_ONCE = {'cpu': 1, 'cuda': 32}


@dataclass(frozen=True)
class Clips:
    """Clips of several worlds. Axes are OpenCV's; lengths in metres."""

    images: torch.Tensor
    """(clips, frames, H, W, 3) uint8 RGB"""
    depth: torch.Tensor
    """(clips, frames, H, W) float32, along optical z, > 0 everywhere, infinite in the sky"""
    world_from_camera: torch.Tensor
    """(clips, frames, 4, 4) float64"""
    intrinsics: torch.Tensor
    """(clips, 3, 3) float64, the principal point at the image's centre as ``geometry.intrinsics`` has it"""


def intrinsics_of(scene: Scene, size: tuple[int, int]) -> torch.Tensor:
    """Return K (W, 3, 3) float64 for images of size (height, width): square pixels, principal point in the middle."""
    height, width = size
    matrix = torch.zeros(len(scene.seeds), 3, 3, dtype=torch.float64)
    matrix[:, 0, 0] = matrix[:, 1, 1] = width / 2 / scene.tan_half_fov.cpu().double()
    matrix[:, 0, 2], matrix[:, 1, 2], matrix[:, 2, 2] = width / 2, height / 2, 1.0
    return matrix


def draw_worlds(
    family: str, seeds: Sequence[int], effects: bool = True, loop: bool = False, photos: PhotoCounts | None = None
) -> Worlds:
    """Draw worlds of one of FAMILIES; ``loop`` chooses among the plans of rooms, any place's way is closed."""
    if family == 'places':
        return make_places(seeds, photos or PhotoCounts(), effects)
    return make_worlds(seeds, effects, loop, photos)


@dataclass(frozen=True)
class _View:
    """Where and when the cameras of worlds see them."""

    worlds: Worlds
    times: np.ndarray
    """(F,)"""
    loop: float | None

    def poses(self) -> torch.Tensor:
        """Return world_from_camera (W, F, 4, 4) float64."""
        return self.worlds.poses(self.times, self.loop)

    def render(
        self, size: tuple[int, int], device: torch.device, photos: Photos | None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Render images and depths, a few frames at a time, clip by clip."""
        scene = self.worlds.scene.map(lambda part: part.to(device))
        clips, frames = len(scene.seeds), len(self.times)
        world = torch.arange(clips).repeat_interleave(frames).to(device)
        time = torch.as_tensor(self.times, dtype=torch.float32).repeat(clips).to(device)
        poses, turns = (each.flatten(0, 1).float().to(device) for each in (self.poses(), self._turns()))
        pigments = Pigments.on(device, photos)
        with torch.inference_mode():
            for part in torch.arange(clips * frames, device=device).split(_FRAMES_AT_ONCE.get(device.type, 1)):

                def rows(each: torch.Tensor, of: torch.Tensor = world[part]) -> torch.Tensor:
                    return each[of]

                view = Frames(poses[part], time[part], turns[part])
                yield render_frames(scene.map(rows), view, pigments, size)

    def _turns(self) -> torch.Tensor:
        return self.worlds.turns(self.times, self.loop)


def render_clips(
    seeds: Sequence[int],
    frames: int,
    stride: int = 1,
    size: tuple[int, int] = SIZE,
    effects: bool = True,
    loop: bool = False,
    device: torch.device | str = 'cpu',
    family: str = 'rooms',
    photos: Photos | None = None,
    laps: int = 1,
) -> Clips:
    """Render one clip a seed, frames ``stride`` apart; size is (height, width).

    A seed says everything: layout, textures, path, camera, faults (``effects``; without them the camera is perfect).
    ``loop``: several rooms or corridors joined, on a path that is back where it began after ``frames`` frames.
    ``family`` is one of FAMILIES; without ``photos`` all textures are procedural.
    ``laps``: how many times a loop is gone round; a clip then has ``frames * laps`` frames.
    """
    if frames < 1 or stride < 1:
        raise ValueError(f'{frames} frames, {stride} apart: both must be at least 1')
    device = torch.device(device)
    worlds = draw_worlds(family, seeds, effects, loop, None if photos is None else photos.counts)
    view = _View(worlds, np.arange(frames * laps) * float(stride), frames * stride if loop else None)
    frames *= laps
    images = torch.empty(len(seeds) * frames, *size, 3, dtype=torch.uint8, device=device)
    depth = torch.empty(len(seeds) * frames, *size, device=device)
    done = 0
    for image, far in view.render(size, device, photos):
        images[done : done + len(image)], depth[done : done + len(image)] = image, far
        done += len(image)
    return Clips(
        images.unflatten(0, (len(seeds), frames)),
        depth.unflatten(0, (len(seeds), frames)),
        view.poses().to(device),
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
        family: str = 'rooms',
        photos: Photos | None = None,
        laps: int = 1,
    ):
        """See ``render_clips``."""
        worlds = draw_worlds(family, [seed], effects, loop, None if photos is None else photos.counts)
        self._view = _View(worlds, np.arange(frames * laps) * float(stride), frames * stride if loop else None)
        self._size, self._photos = size, photos
        self.intrinsics = intrinsics_of(worlds.scene, size)[0].numpy()
        """K (3, 3) float64."""
        self.kind = worlds.kinds[0]
        """What kind of world it is."""

    def __len__(self) -> int:
        return len(self._view.times)

    def __iter__(self) -> Iterator[StreamFrame]:
        rendered = self._view.render(self._size, torch.device('cpu'), self._photos)
        for pose, (image, depth) in zip(self._view.poses()[0], rendered, strict=True):
            yield StreamFrame(image[0].numpy(), depth[0].numpy(), pose.numpy())
