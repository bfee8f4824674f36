# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The bytes: keys and values of all layers in one allocation, by slot."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from evict3r_ros.cache.codec import FloatCodec, PackedCodec, make_codec
from evict3r_ros.cache.config import CacheShape
from evict3r_ros.stages import stage

ALIGNMENT = 256
"""Bytes: where a tier of rows begins."""


@dataclass(frozen=True)
class Tier:
    """Slots of one precision: numbers ``first`` to ``first + slots - 1``."""

    first: int
    slots: int
    codec: FloatCodec | PackedCodec
    rows: torch.Tensor
    """(slots + 1, row_bytes) uint8; the last row stands for tokens that are not there, and is zero."""


class Pool:
    """Room for tokens of any layer; a token's bytes stay in their slot until the slot is used again.

    ``tiers``: (slots, bits) for each precision. Slot number ``null_slot`` stands for tokens that are not there: it may
    be read, giving something finite, but not written.
    """

    def __init__(self, shape: CacheShape, tiers: list[tuple[int, int]]):
        self._shape = shape
        firsts = [sum(count for count, _ in tiers[:number]) for number in range(len(tiers))]
        codecs = [
            make_codec(shape, bits, first, len(tiers) == 1) for first, (_, bits) in zip(firsts, tiers, strict=True)
        ]
        self._lay_out([slots for slots, _ in tiers], codecs)

    def _lay_out(self, counts: list[int], codecs: list[FloatCodec | PackedCodec]) -> None:
        sizes = [(count + 1) * codec.row_bytes for count, codec in zip(counts, codecs, strict=True)]
        # Rows of floating point need an aligned beginning.
        starts = [sum(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes[:number]) for number in range(len(sizes))]
        self._storage = torch.zeros(starts[-1] + sizes[-1], dtype=torch.uint8, device=self._shape.device)
        self.tiers, first = [], 0
        for count, codec, start, size in zip(counts, codecs, starts, sizes, strict=True):
            rows = self._storage[start : start + size].view(count + 1, codec.row_bytes)
            self.tiers.append(Tier(first, count, codec, rows))
            first += count
        self.null_slot = first

    @property
    def bytes(self) -> int:
        """Bytes of the allocation."""
        return self._storage.numel()

    def calibrate(self, layer: int, frame: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Learn from a frame before it is written: see PackedCodec.calibrate."""
        for tier in self.tiers:
            tier.codec.calibrate(layer, frame, key, value)

    def write(
        self, layer: int, tier: int, slots: torch.Tensor, centres: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> None:
        """Write key and value (n, heads, head_dim) into slots (n,) of a tier; a row for ``null_slot`` is skipped.

        centres: (n,) of ``codec.centre_of``, here and in ``read``.
        """
        place = self.tiers[tier]
        with stage('quantization, in attention'):
            place.codec.write(layer, place.rows, slots, centres, key, value)

    def read(
        self,
        layer: int,
        slots: torch.Tensor,
        centres: torch.Tensor,
        count: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
    ) -> None:
        """Read slots (n,) of a layer into key and value, (n, heads, head_dim) each.

        The first ``count`` (,) int64 hold tokens; what comes of the others is finite if key and value were.
        """
        with stage('unpacking, in attention'):
            for tier in self.tiers:
                tier.codec.read(layer, tier.rows, slots, centres, count, key, value)

    def grow(self, slots: int) -> None:
        """Make room for more in a pool of one tier; what is there stays in its slots.

        Only for caches without a bound.
        """
        old = self.tiers[0]
        self._lay_out([slots], [old.codec])
        self.tiers[0].rows[: old.slots] = old.rows[:-1]
