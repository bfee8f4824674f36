# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A map that is made beside an evaluation, and which of its loops are true."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from evict3r_ros import geometry
from evict3r_ros.cache import CacheConfig
from evict3r_ros.mapping import MappingSettings
from evict3r_ros.mapping.map_file import MapFile
from evict3r_ros.mapping.opening import open_mapper
from evict3r_ros.network import StreamVGGT
from evict3r_ros.network.fingerprint import fingerprint

if TYPE_CHECKING:
    from evict3r_ros.mapping.mapper import Mapper

SAME_PLACE = 0.2
"""Share of a view's pixels that show, by true depth and pose, what the other view shows: less is a false loop."""
SAME_SURFACE = 0.1
"""Relative difference of two true depths under which they are of the same surface."""


@contextmanager
def passing_map(
    network: StreamVGGT, config: CacheConfig, size: tuple[int, int], image_width: int | None, settings: MappingSettings
) -> Iterator[Mapper]:
    """Make a mapper that works in between frames, so that runs can be repeated, with a map file that goes at the end.

    Raises UserError where gtsam is missing.
    """
    with (
        tempfile.TemporaryDirectory(prefix='evict3r_map_') as folder,
        MapFile(Path(folder) / 'map.db', fingerprint(network), write=True) as target,
        open_mapper(target, network, config, settings, size, image_width, background=False) as mapper,
    ):
        yield mapper


def loop_counts(
    mapper: Mapper, depth: torch.Tensor, world_from_camera: np.ndarray, camera_matrix: np.ndarray
) -> dict[str, Any]:
    """Return how many loops were accepted, how many of them are false, and why others were not.

    depth: (frames, H, W), true, of the frames that the mapper observed with their numbers as stamps.
    """
    stats = mapper.stats()
    false = sum(
        not is_same_place(depth[[old, new]].double().cpu().numpy(), world_from_camera[[old, new]], camera_matrix)
        for old, new in mapper.accepted
    )
    return {
        'map_keyframes': stats.keyframes,
        'loop_candidates': stats.candidates,
        'loops_accepted': len(mapper.accepted),
        'loops_false': int(false),
        'loops_rejected': stats.rejected,
    }


def is_same_place(depth: np.ndarray, world_from_camera: np.ndarray, camera_matrix: np.ndarray) -> bool:
    """Return whether two views show the same: a share of each one's surface is seen by the other.

    depth: (2, H, W); world_from_camera: (2, 4, 4); camera_matrix: K (3, 3) of both.
    """
    shares = [
        _share(
            depth[first],
            depth[second],
            geometry.invert(world_from_camera[second]) @ world_from_camera[first],
            camera_matrix,
        )
        for first, second in ((0, 1), (1, 0))
    ]
    return min(shares) >= SAME_PLACE


def _share(first: np.ndarray, second: np.ndarray, second_from_first: np.ndarray, camera_matrix: np.ndarray) -> float:
    points = geometry.transform_points(second_from_first, geometry.unproject(first, camera_matrix)).reshape(-1, 3)
    points = points[np.isfinite(points).all(axis=1) & (points[:, 2] > 1e-6)]
    pixels = points @ camera_matrix.T
    columns, rows = np.round(pixels[:, :2] / pixels[:, 2:]).T
    inside = (columns >= 0) & (columns < second.shape[1]) & (rows >= 0) & (rows < second.shape[0])
    there = second[rows[inside].astype(int), columns[inside].astype(int)]
    return float((np.abs(points[inside, 2] / there - 1.0) < SAME_SURFACE).sum()) / first.size
