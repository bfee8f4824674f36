# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What each training step looks at: worlds never rendered before, drawn by worker processes, rendered on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from evict3r_ros import geometry
from evict3r_ros.synthetic.clips import draw_worlds
from evict3r_ros.synthetic.photos import PhotoCounts
from evict3r_ros.synthetic.scene import Scene, concatenated
from evict3r_ros.synthetic.world import Worlds
from evict3r_ros.training.clip_times import disturb, draw_times

FIRST_TRAINING_SEED = 2**32
"""Seeds below this are never trained on: whoever evaluates may take any of them."""
_VALIDATION_SEED = 3_000_000_000
LOOPS = 4
"""One batch in so many is of loops."""


@dataclass(frozen=True)
class BatchSpec:
    """What a batch is to be made of."""

    number: int
    """Of all the batches of a training: says which worlds, and no two have the same."""
    clips: int
    frames: int
    strides: tuple[int, int]
    """Lowest and highest number of frames of the world's time between two frames of a clip."""
    places: float = 0.0
    """Share of the clips that are in places; the others are in rooms."""
    disturbed: bool = False
    """Whether something may befall a clip: see ``clip_times``."""


@dataclass(frozen=True)
class Batch:
    """Worlds and cameras of a spec, on the CPU, before rendering."""

    frames: int
    scene: Scene
    """Of (clips,) worlds."""
    world_from_camera: torch.Tensor
    """(clips, frames, 4, 4) float32"""
    turns: torch.Tensor
    """(clips, frames, 3) float32: radians that the camera turns in one frame of time, about its own axes."""
    times: torch.Tensor
    """(clips, frames) float32, in frames of the world's time."""
    visible: torch.Tensor
    """(clips, frames) float32: 0 where the camera is covered, otherwise 1."""
    camera_from_first: torch.Tensor
    """(clips, frames, 7) float32: translation in metres and quaternion xyzw of the transform from the first camera."""
    field_of_view: torch.Tensor
    """(clips, 2) float32: vertical, horizontal, radians."""

    TENSORS: ClassVar[tuple[str, ...]] = (
        'world_from_camera',
        'turns',
        'times',
        'visible',
        'camera_from_first',
        'field_of_view',
    )

    def pin_memory(self) -> Batch:
        """Copy into memory from which a device copies without waiting; what a DataLoader calls."""
        tensors = (getattr(self, name).pin_memory() for name in self.TENSORS)
        return Batch(self.frames, self.scene.map(torch.Tensor.pin_memory), *tensors)


def make_batch(spec: BatchSpec, size: tuple[int, int], photos: PhotoCounts | None = None) -> Batch:
    """Draw the batch of a spec; the same spec gives the same batch. size: (height, width) of its images."""
    generator = np.random.Generator(np.random.Philox(FIRST_TRAINING_SEED + spec.number))
    first_seed = FIRST_TRAINING_SEED + spec.number * 1024
    loop = spec.number % LOOPS == 0
    # On a loop the time says how far round one is; its length is that of loops that are evaluated.
    length = float(generator.integers(500, 1200)) if loop else None
    times = draw_times(generator, spec.clips, spec.frames, spec.strides, length)
    if spec.disturbed:
        times, visible = disturb(times, generator)
    else:
        visible = np.ones(times.shape, dtype=bool)
    places = round(spec.places * spec.clips)
    seeds = range(first_seed, first_seed + spec.clips)
    parts = []
    for family, which in (('places', slice(0, places)), ('rooms', slice(places, spec.clips))):
        if len(seeds[which]):
            worlds = draw_worlds(family, seeds[which], loop=loop, photos=photos)
            parts.append(_batch(worlds, times[which], visible[which], length, size))
    return _joined(parts)


def held_out_batch(
    clips: int,
    frames: int,
    stride: int,
    size: tuple[int, int],
    family: str = 'rooms',
    photos: PhotoCounts | None = None,
) -> Batch:
    """Worlds to watch progress on, never trained on; evaluations of a finished model take others."""
    seeds = range(_VALIDATION_SEED, _VALIDATION_SEED + clips)
    worlds = draw_worlds(family, seeds, photos=photos if family == 'places' else None)
    times = np.tile(np.arange(frames) * float(stride), (clips, 1))
    return _batch(worlds, times, np.ones(times.shape, dtype=bool), None, size)


def _batch(worlds: Worlds, times: np.ndarray, visible: np.ndarray, loop: float | None, size: tuple[int, int]) -> Batch:
    poses = worlds.poses(times, loop)
    first_from_world = torch.linalg.inv(poses[:, :1])
    camera_from_first = torch.linalg.inv(first_from_world @ poses).numpy()
    quaternions = [[geometry.quaternion_from_matrix(pose[:3, :3]) for pose in clip] for clip in camera_from_first]
    targets = np.concatenate([camera_from_first[..., :3, 3], np.asarray(quaternions)], axis=-1)
    half = worlds.scene.tan_half_fov
    field_of_view = 2 * torch.stack((half * size[0] / size[1], half), dim=-1).atan()
    return Batch(
        times.shape[1],
        worlds.scene.with_solids(),
        poses.float(),
        worlds.turns(times, loop).float(),
        torch.from_numpy(times).float(),
        torch.from_numpy(visible).float(),
        torch.from_numpy(targets).float(),
        field_of_view,
    )


def _joined(batches: Sequence[Batch]) -> Batch:
    tensors = (torch.cat([getattr(batch, name) for batch in batches]) for name in Batch.TENSORS)
    return Batch(batches[0].frames, concatenated([batch.scene for batch in batches]), *tensors)


class _SpecDataset(Dataset[Batch]):
    def __init__(self, size: tuple[int, int], photos: PhotoCounts | None):
        self.size, self.photos = size, photos

    def __getitem__(self, spec: BatchSpec) -> Batch:
        return make_batch(spec, self.size, self.photos)


class _SpecSampler:
    """A sampler: asks for the next spec when a worker is free for it."""

    def __init__(self, next_spec: Callable[[], BatchSpec | None]):
        self.next_spec = next_spec

    def __iter__(self) -> Iterator[BatchSpec]:
        while (spec := self.next_spec()) is not None:
            yield spec


def batches(
    next_spec: Callable[[], BatchSpec | None], size: tuple[int, int], workers: int, photos: PhotoCounts | None = None
) -> Iterator[Batch]:
    """Batches of the specs, in order, drawn ahead by so many processes (0: by this one)."""
    return iter(
        DataLoader(
            _SpecDataset(size, photos),
            batch_size=None,
            sampler=_SpecSampler(next_spec),
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_one_thread,
            collate_fn=_as_it_is,
            prefetch_factor=2 if workers else None,
            multiprocessing_context='spawn' if workers else None,
        )
    )


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def _as_it_is(batch: Any) -> Any:  # torch's stubs know only of lists that are collated
    return batch


def per_frame(scene: Scene, frames: int, device: torch.device | str) -> Scene:
    """Make a scene of worlds one of frames, each world's so many times in a row, on a device."""
    return scene.map(lambda part: part.to(device, non_blocking=True).repeat_interleave(frames, dim=0))
