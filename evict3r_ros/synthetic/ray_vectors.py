# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What all ray casting shares: rays as separate components, distances, and the nearest of many things."""

from __future__ import annotations

from collections.abc import Callable

import torch

from evict3r_ros.synthetic.scene import Scene

FAR = 1e9
"""The distance to what is not hit."""
NEAR = 1e-4
"""Nearer than this nothing is hit."""
_TILE = 2048

Vector = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def without_zero(direction: torch.Tensor) -> torch.Tensor:
    """Replace what is too small to divide by."""
    return torch.where(direction.abs() < 1e-8, 1e-8, direction)


def nearest(
    distances: Callable[[Scene, Vector, Vector], torch.Tensor], scene: Scene, origin: Vector, direction: Vector
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the least of ``distances`` over things, and whose it is: (N, R) each."""
    rays = direction[0].shape[1]
    if direction[0].is_cuda or rays <= _TILE:
        return distances(scene, origin, direction).min(-1)
    # On a CPU all that concerns a few rays stays in its cache; a GPU's compiler fuses the minimum with the rest.
    tiles = []
    for first in range(0, rays, _TILE):
        part = slice(first, first + _TILE)
        start = tuple(o if o.shape[1] == 1 else o[:, part] for o in origin)
        tiles.append(distances(scene, start, tuple(d[:, part] for d in direction)).min(-1))
    return torch.cat([tile[0] for tile in tiles], 1), torch.cat([tile[1] for tile in tiles], 1)
