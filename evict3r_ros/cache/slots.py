# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Free slots, as a stack on the device."""

from __future__ import annotations

import torch


class SlotStack:
    """The free ones among slots ``first`` to ``first + count - 1``.

    Taking and giving have fixed shapes and are never read back. The caller sees to it that no more are taken than there
    are; ``null_slot`` is the number that stands for no slot.
    """

    def __init__(self, first: int, count: int, null_slot: int, device: torch.device):
        self.first, self.count, self.null_slot = first, count, null_slot
        self._slots = torch.empty(count + 1, dtype=torch.int64, device=device)
        self._free = torch.empty((), dtype=torch.int64, device=device)
        self.reset()

    def reset(self) -> None:
        """Free all slots."""
        torch.arange(self.first, self.first + self.count + 1, out=self._slots)
        self._free.fill_(self.count)

    def take(self, wanted: torch.Tensor) -> torch.Tensor:
        """Take a free slot for each True of wanted, in its shape; ``null_slot`` for each False."""
        flat = wanted.flatten()
        place = self._free - flat.cumsum(0)
        self._free -= flat.sum()
        return torch.where(flat, self._slots[place.clamp(min=0)], self.null_slot).view_as(wanted)

    def give(self, slots: torch.Tensor, given: torch.Tensor) -> None:
        """Free the slots, of any shape, where ``given``, of that shape, is True."""
        given = given.flatten()
        place = torch.where(given, self._free + given.cumsum(0) - 1, self.count)
        self._slots.scatter_(0, place, slots.flatten())
        self._free += given.sum()

    def free(self) -> torch.Tensor:
        """Return the free slots, (n,); for tests."""
        return self._slots[: int(self._free)]

    def grow(self, count: int, null_slot: int) -> None:
        """Add slots behind the last. Only for caches without a bound."""
        added = torch.arange(self.first + self.count, self.first + count, device=self._slots.device)
        self._slots = torch.cat((added, self._slots[: self.count], added[-1:] + 1))
        self._free += count - self.count
        self.count, self.null_slot = count, null_slot
