# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The poses that a network finds in streams, beside the true ones, and kept as lines so that a run can go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evict3r_ros.camera.view import ImageView
from evict3r_ros.errors import UserError
from evict3r_ros.evaluation.comparison import render
from evict3r_ros.evaluation.configurations import Configuration, parse_segments
from evict3r_ros.evaluation.datasets.sequence import TrueSequence
from evict3r_ros.evaluation.held_out import HeldOut, StreamSpec
from evict3r_ros.evaluation.streaming import stream_clip
from evict3r_ros.evaluation.tasks import Runner
from evict3r_ros.network import StreamVGGT
from evict3r_ros.stream.stream import cache_shape


@dataclass(frozen=True)
class Track:
    """A stream's poses beside the true ones."""

    name: str
    poses: np.ndarray
    """(n, 4, 4) world_from_camera, in the network's unit."""
    truth: np.ndarray
    """(n, 4, 4) world_from_camera, metres."""

    def __len__(self) -> int:
        return len(self.poses)

    def as_dict(self) -> dict[str, Any]:
        """Return it as numbers that a line can hold."""
        return {'name': self.name, 'poses': self.poses.tolist(), 'truth': self.truth.tolist()}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Track:
        """Return what ``as_dict`` gave. Raises UserError for anything else."""
        try:
            track = cls(record['name'], np.array(record['poses'], float), np.array(record['truth'], float))
        except (KeyError, ValueError) as error:
            raise UserError(f'not a line of poses ({error})') from error
        if track.poses.shape != track.truth.shape or track.poses.shape[1:] != (4, 4):
            raise UserError(f'not a line of poses: {track.poses.shape} beside {track.truth.shape}')
        return track


def with_strides(worlds: HeldOut, strides: Sequence[int]) -> Iterator[StreamSpec]:
    """Yield the streams of held-out worlds, with strides in turn."""
    for index, stream in enumerate(worlds.streams()):
        yield replace(stream, stride=strides[index % len(strides)])


def follow_world(
    network: StreamVGGT,
    configuration: Configuration,
    stream: StreamSpec,
    image_width: int,
    progress: Callable[[], object] = lambda: None,
) -> Track:
    """Run the stream of a world."""
    clip = render(stream, network.device)
    view = ImageView.of((stream.height, stream.width), image_width)
    config = configuration.cache_config(stream.all_frames, cache_shape(network, view, network.device).frame_tokens)
    segments = parse_segments(configuration.mapping)
    found = stream_clip(network, config, clip, image_width, progress, segments).world_from_camera
    return Track(f'world {stream.seed}', found, clip.world_from_camera)


def follow_sequence(
    network: StreamVGGT,
    configuration: Configuration,
    sequence: TrueSequence,
    image_width: int,
    progress: Callable[[], object] = lambda: None,
) -> Track:
    """Run a sequence of a data set. Raises UserError if it has no true poses."""
    if sequence.world_from_camera is None:
        raise UserError(f'{sequence.name}: no true poses')
    runner = Runner(network, configuration, image_width, progress)
    found = np.stack([prediction.world_from_camera for _, prediction in runner.stream(sequence)])
    return Track(sequence.name, found, sequence.world_from_camera)
