# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What all ray casting shares: rays as separate components, distances, and the nearest of many things."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from evict3r_ros.synthetic.scene import Scene

FAR = 1e9
"""The distance to what is not hit."""
NEAR = 1e-4
"""Nearer than this nothing is hit."""
_TILE = 2048

Vector = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def vector(components: Sequence[torch.Tensor]) -> Vector:
    """Make a vector of its three components."""
    x, y, z = components
    return x, y, z


def total(components: Vector) -> torch.Tensor:
    """Return the sum of a vector's components."""
    x, y, z = components
    # From 0 on, as ``sum`` adds, so that a zero has no sign.
    return 0 + x + y + z


def dot(a: Vector, b: Vector) -> torch.Tensor:
    """Return the inner product of two vectors."""
    return total((a[0] * b[0], a[1] * b[1], a[2] * b[2]))


def without_zero(direction: torch.Tensor) -> torch.Tensor:
    """Replace what is too small to divide by."""
    return torch.where(direction.abs() < 1e-8, 1e-8, direction)


def nearest(
    distances: Callable[[Scene, Vector, Vector], torch.Tensor], scene: Scene, origin: Vector, direction: Vector
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the least of ``distances`` over things, and whose it is: (N, R) each."""
    rays = direction[0].shape[1]
    if direction[0].is_cuda or rays <= _TILE:
        least, index = distances(scene, origin, direction).min(-1)
        return least, index
    # On a CPU all that concerns a few rays stays in its cache; a GPU's compiler fuses the minimum with the rest.
    tiles = []
    for first in range(0, rays, _TILE):
        part = slice(first, first + _TILE)
        start = vector([o if o.shape[1] == 1 else o[:, part] for o in origin])
        tiles.append(distances(scene, start, vector([d[:, part] for d in direction])).min(-1))
    return torch.cat([tile[0] for tile in tiles], 1), torch.cat([tile[1] for tile in tiles], 1)
