# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What each training step looks at: worlds never rendered before, drawn by worker processes, rendered on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from evict3r_ros import geometry
from evict3r_ros.synthetic.world import Scene, Worlds, make_worlds

FIRST_TRAINING_SEED = 2**32
"""Seeds below this are never trained on: whoever evaluates may take any of them."""
_VALIDATION_SEED = 3_000_000_000
LOOPS = 4
"""One batch in so many is of loops."""
_LONG_ENOUGH_FOR_A_LOOP = 32


@dataclass(frozen=True)
class BatchSpec:
    """What a batch is to be made of."""

    number: int
    """Of all the batches of a training: says which worlds, and no two have the same."""
    clips: int
    frames: int
    strides: tuple[int, int]
    """Lowest and highest number of frames of the world's time between two frames of a clip."""


@dataclass(frozen=True)
class Batch:
    """Worlds and cameras of a spec, on the CPU, before rendering."""

    frames: int
    scene: Scene
    """Of (clips,) worlds."""
    world_from_camera: torch.Tensor
    """(clips, frames, 4, 4) float32"""
    times: torch.Tensor
    """(clips, frames) float32, in frames of the world's time."""
    camera_from_first: torch.Tensor
    """(clips, frames, 7) float32: translation in metres and quaternion xyzw of the transform from the first camera."""
    field_of_view: torch.Tensor
    """(clips, 2) float32: vertical, horizontal, radians."""

    def pin_memory(self) -> Batch:
        """The same in memory from which a device copies without waiting; what a DataLoader calls."""
        return Batch(
            self.frames,
            self.scene.map(torch.Tensor.pin_memory),
            self.world_from_camera.pin_memory(),
            self.times.pin_memory(),
            self.camera_from_first.pin_memory(),
            self.field_of_view.pin_memory(),
        )


def draw_times(generator: np.random.Generator, spec: BatchSpec, loop: float | None = None) -> np.ndarray:
    """(clips, frames): when each frame was taken; loop: the length of the loop that they are on, if any.

    Half of the clips begin with the world's time, at rest, as a stream does; a third have gaps of changing length, as a
    cache that keeps some frames only has. Long clips on a loop may go all round it: a network that has never rendered a
    camera turn its back on the first frame has no idea where it is then.
    """
    low, high = spec.strides
    if loop is not None and spec.frames >= _LONG_ENOUGH_FOR_A_LOOP:
        high = max(high, round(loop / spec.frames))
    stride = generator.integers(low, high + 1, (spec.clips, 1))
    uneven = generator.random((spec.clips, 1)) < 1 / 3
    gaps = np.where(uneven, generator.integers(1, 2 * stride + 1, (spec.clips, spec.frames)), stride)
    gaps[:, 0] = np.where(generator.random(spec.clips) < 0.5, 0, generator.integers(0, 600, spec.clips))
    return np.cumsum(gaps, axis=1).astype(np.float64)


def make_batch(spec: BatchSpec, size: tuple[int, int]) -> Batch:
    """The batch of a spec; the same spec gives the same batch. size: (height, width) of its images."""
    generator = np.random.Generator(np.random.Philox(FIRST_TRAINING_SEED + spec.number))
    first_seed = FIRST_TRAINING_SEED + spec.number * 1024
    loop = spec.number % LOOPS == 0
    worlds = make_worlds(range(first_seed, first_seed + spec.clips), loop=loop)
    # On a loop the time says how far round one is; its length is that of loops that are evaluated.
    length = float(generator.integers(500, 1200)) if loop else None
    return _batch(worlds, draw_times(generator, spec, length), length, size)


def held_out_batch(clips: int, frames: int, stride: int, size: tuple[int, int]) -> Batch:
    """Worlds to watch progress on, never trained on; evaluations of a finished model take others."""
    worlds = make_worlds(range(_VALIDATION_SEED, _VALIDATION_SEED + clips))
    return _batch(worlds, np.tile(np.arange(frames) * float(stride), (clips, 1)), None, size)


def _batch(worlds: Worlds, times: np.ndarray, loop: float | None, size: tuple[int, int]) -> Batch:
    poses = worlds.poses(times, loop)
    first_from_world = torch.linalg.inv(poses[:, :1])
    camera_from_first = torch.linalg.inv(first_from_world @ poses).numpy()
    quaternions = [[geometry.quaternion_from_matrix(pose[:3, :3]) for pose in clip] for clip in camera_from_first]
    targets = np.concatenate([camera_from_first[..., :3, 3], np.asarray(quaternions)], axis=-1)
    half = worlds.scene.tan_half_fov
    field_of_view = 2 * torch.stack((half * size[0] / size[1], half), dim=-1).atan()
    return Batch(
        times.shape[1],
        worlds.scene,
        poses.float(),
        torch.from_numpy(times).float(),
        torch.from_numpy(targets).float(),
        field_of_view,
    )


class _SpecDataset(Dataset):
    def __init__(self, size: tuple[int, int]):
        self.size = size

    def __getitem__(self, spec: BatchSpec) -> Batch:
        return make_batch(spec, self.size)


class _SpecSampler:
    """A sampler: asks for the next spec when a worker is free for it."""

    def __init__(self, next_spec: Callable[[], BatchSpec | None]):
        self.next_spec = next_spec

    def __iter__(self) -> Iterator[BatchSpec]:
        while (spec := self.next_spec()) is not None:
            yield spec


def batches(next_spec: Callable[[], BatchSpec | None], size: tuple[int, int], workers: int) -> Iterator[Batch]:
    """Batches of the specs, in order, drawn ahead by so many processes (0: by this one)."""
    ahead = {'prefetch_factor': 2, 'multiprocessing_context': 'spawn'} if workers else {}
    return iter(
        DataLoader(
            _SpecDataset(size),
            batch_size=None,
            sampler=_SpecSampler(next_spec),
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_one_thread,
            collate_fn=_as_it_is,
            **ahead,
        )
    )


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def _as_it_is(batch: Batch) -> Batch:
    return batch


def per_frame(scene: Scene, frames: int, device: torch.device | str) -> Scene:
    """A scene of worlds as one of frames, each world's so many times in a row, on a device."""
    return scene.map(lambda part: part.to(device, non_blocking=True).repeat_interleave(frames, dim=0))
