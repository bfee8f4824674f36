# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One vector for what an image shows, and all vectors of a map in memory.

Made of the patch encoder's tokens, before the aggregator: they carry neither a stream nor its gauge, so that images of
different streams can be compared.
"""

from __future__ import annotations

import numpy as np
import torch

from evict3r_ros.network import StreamVGGT
from evict3r_ros.network.presets import PATCH

GEM_POWER = 3.0
"""Generalized mean (Radenovic et al., arXiv 1711.02512): between the mean, 1, and the maximum, infinity."""
FIRST_CAPACITY = 256


class Describer:
    """Makes descriptors with a network's patch encoder."""

    def __init__(self, network: StreamVGGT):
        self._network = network
        self._patches: tuple[int, int] | None = None
        self._positions: torch.Tensor | None = None

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the descriptor (C,) float32, of length 1, of an image (H, W, 3) uint8 RGB of the network's size."""
        encoder = self._network.aggregator.patch_embed
        patches = image.shape[0] // PATCH, image.shape[1] // PATCH
        if patches != self._patches or self._positions is None:
            self._patches, self._positions = patches, encoder.positions(patches)
        pixels = torch.as_tensor(np.ascontiguousarray(image)).to(self._network.device).permute(2, 0, 1) / 255.0
        tokens = encoder(self._network.normalise(pixels)[None], self._positions)[0].float()
        pooled = tokens.abs().pow(GEM_POWER).mean(0).pow(1.0 / GEM_POWER)
        descriptor: np.ndarray = (pooled / pooled.norm().clamp(min=1e-9)).cpu().numpy()
        return descriptor


class DescriptorIndex:
    """The descriptors of keyframes in one matrix; a query is one product with it. Numbers of keyframes ascend."""

    def __init__(self) -> None:
        self._matrix = np.empty((0, 0), np.float32)
        self._numbers = np.empty(0, np.int64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def bytes(self) -> int:
        """Bytes of the matrix and its numbers."""
        return self._matrix.nbytes + self._numbers.nbytes

    @property
    def numbers(self) -> np.ndarray:
        """(n,) int64: the keyframes' numbers, ascending."""
        return self._numbers[: self._count]

    def add(self, number: int, descriptor: np.ndarray) -> None:
        """Add a keyframe's descriptor (C,). Raises ValueError for a number that does not follow the last one."""
        if self._count and number <= self._numbers[self._count - 1]:
            raise ValueError(f'keyframe {number} does not follow {self._numbers[self._count - 1]}')
        if self._count == len(self._matrix):
            capacity = max(FIRST_CAPACITY, 2 * self._count)
            matrix = np.zeros((capacity, len(descriptor)), np.float32)
            numbers = np.zeros(capacity, np.int64)
            if self._count:
                matrix[: self._count], numbers[: self._count] = self._matrix, self._numbers
            self._matrix, self._numbers = matrix, numbers
        self._matrix[self._count], self._numbers[self._count] = descriptor, number
        self._count += 1

    def row(self, number: int) -> int:
        """Return the row of a keyframe. Raises KeyError for one that is not there."""
        row = int(np.searchsorted(self.numbers, number))
        if row == self._count or self._numbers[row] != number:
            raise KeyError(number)
        return row

    def similarities(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return the cosines (n, k) of all keyframes with those of k rows."""
        there = self._matrix[: self._count]
        found: np.ndarray = there @ there[rows].T
        return found

    def keep(self, numbers: np.ndarray) -> None:
        """Forget all keyframes but those of ``numbers``."""
        rows = np.flatnonzero(np.isin(self.numbers, numbers))
        self._matrix[: len(rows)], self._numbers[: len(rows)] = self._matrix[rows], self._numbers[rows]
        self._count = len(rows)
