# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the camera head's trunk remembers: a bounded number of frames, a few tokens each."""

from __future__ import annotations

import torch

from evict3r_ros import kernels
from evict3r_ros.cache.policies.uniform import evenness
from evict3r_ros.errors import UserError

CAMERA_POLICIES = ('uniform', 'recent')


class CameraCache:
    """A ``network.Memory`` for the camera trunk: the first frame, the current one, and those that its policy keeps.

    Each of a frame's refinement rounds leaves one key and value in each trunk block, and a round sees all rounds of
    remembered frames and the earlier rounds of its own, as published. (A preset whose rounds remember apart has a layer
    for each round of each block instead, and one entry a frame in it.) When the memory is full, a frame takes the place
    of one that keeps the rest evenly spaced (``uniform``) or of the oldest (``recent``); never of the first, which
    carries the scale, nor of an anchor.
    """

    def __init__(
        self,
        frames: int,
        policy: str,
        layers: int,
        heads: int,
        rounds: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        if policy not in CAMERA_POLICIES:
            raise UserError(f'camera policy {policy!r} is not one of {", ".join(CAMERA_POLICIES)}')
        self.capacity, self.rounds, self.policy = frames, rounds, policy
        self.wants_residual = False
        self._storage = torch.zeros(2, layers, heads, frames * rounds, head_dim, dtype=dtype, device=device)
        self.frame_of = torch.full((frames,), -1, dtype=torch.int32, device=device)
        """(frames,): which frame each place holds, -1 for none."""
        self._place = torch.zeros((), dtype=torch.int64, device=device)
        numbers = torch.arange(frames * rounds, device=device)
        self._place_of, self._round_of = numbers // rounds, numbers % rounds
        self._rounds = torch.arange(rounds, device=device)
        self._entries = torch.zeros(rounds, dtype=torch.int64, device=device)
        """(rounds,): where the current frame's rounds go."""
        self._valid = torch.zeros(rounds, frames * rounds, dtype=torch.bool, device=device)
        """(rounds, entries): what each of its rounds sees."""
        self._rounds_done = [0] * layers
        self._borrowed: tuple[torch.Tensor, torch.Tensor] | None = None
        """What was in the place that a frame has which is not to be remembered: its frame, its keys and values."""
        self._frame = torch.zeros((), dtype=torch.int32, device=device)

    @property
    def bytes(self) -> int:
        """Bytes of the stored keys and values."""
        return self._storage.numel() * self._storage.element_size()

    def reset(self) -> None:
        """Forget the stream."""
        self._frame.zero_()
        self.frame_of.fill_(-1)

    def begin_frame(self, anchors: torch.Tensor, remember: bool = True) -> None:
        """Find a place for a frame; anchors (k,): frames that must stay, -1 for none.

        A frame that is not to be remembered has its place until ``end_frame``, which puts back what was there.
        """
        place = torch.where(self._frame < self.capacity, self._frame, self._place_to_evict(anchors))
        self._place.copy_(place)
        self._entries.copy_(self._place * self.rounds + self._rounds)
        self._borrowed = None
        if not remember:
            there = self._storage.index_select(3, self._entries)
            self._borrowed = self.frame_of.gather(0, self._place.view(1)), there
        self.frame_of.scatter_(0, self._place.view(1), self._frame.view(1))
        earlier = (self._place_of != self._place) & (self.frame_of[self._place_of] >= 0)
        own = (self._place_of == self._place) & (self._round_of <= self._rounds[:, None])
        self._valid.copy_(earlier | own)
        self._rounds_done = [0] * len(self._rounds_done)

    def _place_to_evict(self, anchors: torch.Tensor) -> torch.Tensor:
        pinned = (self.frame_of == 0) | (self.frame_of[:, None] == anchors).any(1)
        rank = self.frame_of.float() if self.policy == 'recent' else evenness(self.frame_of, self._frame)
        return rank.masked_fill(pinned, torch.inf).argmin()

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See network.Memory.attend: (1, heads, 1, head_dim); called once a round for each trunk block."""
        done = self._rounds_done[layer]
        self._rounds_done[layer] += 1
        keys, values = self._storage[:, layer]
        keys.index_copy_(1, self._entries[done : done + 1], key[0])
        values.index_copy_(1, self._entries[done : done + 1], value[0])
        return kernels.attention(query[0], keys, values, self._valid[done])[None]

    def observe_residual(self, layer: int, residual: torch.Tensor) -> None:
        """See network.Memory.observe_residual: nobody here asks for it."""

    def end_frame(self) -> None:
        """Count the frame, which is complete, or forget it."""
        if self._borrowed is None:
            self._frame += 1
            return
        frame, there = self._borrowed
        self.frame_of.scatter_(0, self._place.view(1), frame)
        self._storage.index_copy_(3, self._entries, there)
        self._borrowed = None
