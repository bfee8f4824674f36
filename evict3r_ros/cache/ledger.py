# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The bookkeeping: which slot holds which token of which layer, and which slots are free.

All of it lives in tensors of fixed size on the cache's device, and every operation has a fixed shape, so that no
decision is ever read back to the host. In what follows L is layers, C the most tokens a layer may keep, N a frame's
tokens, S slots in all. Slots are lent one by one: attention does not care where a key lies, so a layer may own any set
of slots, and layer budgets move without moving a single token. The one thing that moves is a token whose precision
falls (``demote``), at most N a layer and frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from evict3r_ros.cache.config import CacheShape
from evict3r_ros.cache.slots import SlotStack


class Ledger:
    """Owners of slots. Between ``begin_frame`` and ``retain`` a frame's tokens are candidates beside the kept ones.

    Candidate order, everywhere: a layer's kept tokens from old to new (``width`` columns of them, some empty), then the
    current frame's N tokens in their own order. ``tiers``: how many slots each precision has.
    """

    def __init__(self, shape: CacheShape, capacity: int, tiers: list[int], anchors: int = 0):
        device = shape.device
        self.layers, self.capacity, self.special_tokens = shape.layers, capacity, shape.special_tokens
        self.null_slot = slots = sum(tiers)
        self.stacks = [SlotStack(sum(tiers[:number]), count, slots, device) for number, count in enumerate(tiers)]
        self._table = torch.empty(self.layers, capacity + 1, dtype=torch.int64, device=device)
        self._focus = torch.empty(self.layers, capacity + 1, dtype=torch.int64, device=device)
        self.lengths = torch.empty(self.layers, dtype=torch.int64, device=device)
        """(L,): tokens that each layer keeps."""
        self.focus_lengths = torch.empty(self.layers, dtype=torch.int64, device=device)
        """(L,): tokens of these that the coming frame attends to; all, but for adaptive budgets."""
        self.frame_of = torch.empty(slots + 1, dtype=torch.int32, device=device)
        """(S + 1,): the frame that a slot's token came with, counted from the stream's first."""
        self.token_of = torch.empty(slots + 1, dtype=torch.int32, device=device)
        """(S + 1,): the token's number in its frame."""
        self.protected = torch.empty(slots + 1, dtype=torch.bool, device=device)
        """(S + 1,): whether the token is among those that its frame's pin would keep."""
        self.anchors = torch.empty(anchors, dtype=torch.int32, device=device)
        """(anchors,): frames pinned besides the first, oldest first; -1 where there is none."""
        self.frame = torch.empty((), dtype=torch.int32, device=device)
        """(,): the current frame's number, counted from the stream's first; ``frames`` is the same on the host."""
        self._columns = torch.arange(capacity, device=device)
        self._full = False
        self.reset(shape.patches)

    def reset(self, patches: tuple[int, int]) -> None:
        """Forget everything; frames will have that many rows and columns of patches."""
        self.patches = patches
        self.frame_tokens = self.special_tokens + patches[0] * patches[1]
        self.frames = 0
        self._longest = self._longest_focus = self.capacity if self._full else 0
        self._attends_to_all = True
        self.frame.zero_()
        for stack in self.stacks:
            stack.reset()
        for tensor, value in (
            (self._table, self.null_slot),
            (self._focus, self.null_slot),
            (self.lengths, 0),
            (self.focus_lengths, 0),
            (self.frame_of, -1),
            (self.token_of, -1),
            (self.protected, False),
            (self.anchors, -1),
        ):
            tensor.fill_(value)
        self.slots = self.attended = self._table[:, :0]
        self.valid = self.attended_valid = self.slots.bool()

    @property
    def width(self) -> int:
        """Columns of the candidates that kept tokens take."""
        return self.slots.shape[1] - self.frame_tokens

    @property
    def attended_lengths(self) -> torch.Tensor:
        """(L,): how many kept tokens, the first ones of ``attended``, the current frame attends to."""
        return self.lengths if self._attends_to_all else self.focus_lengths

    @property
    def fresh(self) -> torch.Tensor:
        """(L, N): slots of the current frame's tokens."""
        return self.slots[:, self.width :]

    def begin_frame(self, tier: int = 0) -> None:
        """Take N free slots of a tier a layer for the coming frame."""
        device = self._table.device
        fresh = self.stacks[tier].take(torch.ones(self.layers, self.frame_tokens, dtype=torch.bool, device=device))
        self.frame_of[fresh] = self.frame
        self.token_of[fresh] = torch.arange(self.frame_tokens, dtype=torch.int32, device=device).expand_as(fresh)
        self.protected.index_fill_(0, fresh.flatten(), True)
        self.slots, self.valid = self._with_fresh(self._table, self.lengths, self._longest, fresh)
        if self._attends_to_all:
            self.attended, self.attended_valid = self.slots, self.valid
        else:
            self.attended, self.attended_valid = self._with_fresh(
                self._focus, self.focus_lengths, self._longest_focus, fresh
            )

    def look(self) -> None:
        """Make the kept tokens the candidates of a frame that takes no slots: it attends, and nothing else."""
        none = torch.full(
            (self.layers, self.frame_tokens), self.null_slot, dtype=torch.int64, device=self._table.device
        )
        table, longest = (self._table, self._longest) if self._attends_to_all else (self._focus, self._longest_focus)
        self.attended, self.attended_valid = self._with_fresh(table, self.attended_lengths, longest, none)

    def _with_fresh(
        self, table: torch.Tensor, lengths: torch.Tensor, longest: int, fresh: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a table's slots and the fresh ones, (L, longest + N), and a mask of those that hold a token."""
        there = self._columns[:longest] < lengths[:, None]
        slots = torch.cat((torch.where(there, table[:, :longest], self.null_slot), fresh), dim=1)
        return slots, torch.cat((there, torch.ones_like(fresh, dtype=torch.bool)), dim=1)

    def retain(self, keep: torch.Tensor, attend: torch.Tensor | None = None) -> None:
        """End the frame: keep the candidates in ``keep`` (L, width + N), at most C a layer, and free the other slots.

        attend: those that the next frame attends to, all that stay by default.
        """
        keep = keep & self.valid
        self._compact(keep, self._table, self.lengths)
        self._attends_to_all = attend is None
        if attend is not None:
            self._compact(keep & attend, self._focus, self.focus_lengths)
        for stack in self.stacks:
            mine = (self.slots >= stack.first) & (self.slots < stack.first + stack.count)
            stack.give(self.slots, self.valid & ~keep & mine)
        self.frames += 1
        self.frame += 1
        self._longest = self._bound(self.lengths)
        self._longest_focus = self._longest if attend is None else self._bound(self.focus_lengths)

    def _compact(self, keep: torch.Tensor, table: torch.Tensor, lengths: torch.Tensor) -> None:
        table.scatter_(1, torch.where(keep, keep.cumsum(1) - 1, self.capacity), self.slots)
        lengths.copy_(keep.sum(1))

    def _bound(self, lengths: torch.Tensor) -> int:
        if self._full:
            return self.capacity
        # On a GPU the host must not ask; it knows that a layer cannot keep more than it was ever given.
        longest = int(lengths.max()) if lengths.device.type == 'cpu' else self.frames * self.frame_tokens
        return min(self.capacity, longest)

    def assume_full(self) -> None:
        """Give every frame from now on the shapes of the widest, for planning and for CUDA graphs."""
        self._full = True
        self._longest = self._longest_focus = self.capacity

    def demote(self, frame: torch.Tensor, tier: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the kept tokens of a frame (,) slots of another tier.

        Returns old and new slots, (L, N), ``null_slot`` where none moves.

        For the caller to move the bytes, between frames.
        """
        rows = self._table[:, : self.capacity]
        there = self._columns < self.lengths[:, None]
        start = (there & (self.frame_of[rows] < frame)).sum(1)
        columns = start[:, None] + torch.arange(self.frame_tokens, device=rows.device)
        inside = columns < self.lengths[:, None]
        columns = torch.where(inside, columns, self.capacity)
        old = self._table.gather(1, columns)
        moves = inside & (self.frame_of[old] == frame)
        old = torch.where(moves, old, self.null_slot)
        new = self.stacks[tier].take(moves)
        for number, stack in enumerate(self.stacks):
            if number != tier:
                stack.give(old, moves & (old >= stack.first) & (old < stack.first + stack.count))
        for values in (self.frame_of, self.token_of, self.protected):
            self.move(values, old, new)
        self._table.scatter_(1, torch.where(moves, columns, self.capacity), new)
        if not self._attends_to_all:
            forwarding = torch.arange(self.null_slot + 1, device=old.device)
            forwarding[old] = new
            self._focus.copy_(forwarding[self._focus])
        return old, new

    def move(self, values: torch.Tensor, old: torch.Tensor, new: torch.Tensor) -> None:
        """Carry per-slot values (S + 1,) from old to new slots; what stands for ``null_slot`` stays."""
        last = values[-1].clone()
        values[new] = values[old]
        values[-1] = last

    def pinned(self, slots: torch.Tensor) -> torch.Tensor:
        """Return which slots' tokens no policy may evict: the first frame's, and the protected ones of anchors."""
        frame = self.frame_of[slots]
        anchored = (frame[..., None] == self.anchors).any(-1) & self.protected[slots]
        return (frame == 0) | anchored

    def pin(self, frame: torch.Tensor | int) -> None:
        """Pin a frame; the oldest anchor goes when all places are taken. -1 changes nothing, without a branch."""
        frame = torch.as_tensor(frame, dtype=torch.int32, device=self.anchors.device)
        moved = torch.cat((self.anchors[1:], frame.view(1)))
        known = (self.anchors == frame).any() | (frame < 0)
        self.anchors.copy_(torch.where(known, self.anchors, moved))

    def unpin(self, frame: int) -> None:
        """Let a frame go."""
        self.anchors.masked_fill_(self.anchors == frame, -1)
        # Empty places first: the next pin must not push out a frame that still counts.
        self.anchors.copy_(self.anchors[(self.anchors >= 0).int().argsort(stable=True)])

    def grow(self, capacity: int, slots: int) -> None:
        """Make room for more, between frames, in a ledger of one tier; slots keep their numbers.

        Only for caches without a bound.
        """
        table = self._table.new_full((self.layers, capacity + 1), slots)
        table[:, : self.capacity] = self._table[:, : self.capacity]
        self._focus = torch.full_like(table, slots)
        self.stacks[0].grow(slots, slots)
        more = (0, slots - self.null_slot)
        self.frame_of, self.token_of = F.pad(self.frame_of, more, value=-1), F.pad(self.token_of, more, value=-1)
        self.protected = F.pad(self.protected, more)
        self._table, self.capacity, self.null_slot = table, capacity, slots
        self._columns = torch.arange(capacity, device=table.device)

    def kept(self, layer: int) -> torch.Tensor:
        """Return (tokens, 2) int32 of (frame, token): what a layer keeps, in order; reads from the device."""
        slots = self._table[layer, : int(self.lengths[layer])]
        return torch.stack((self.frame_of[slots], self.token_of[slots]), dim=1)
