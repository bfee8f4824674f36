# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What of training is compiled or recorded, piece by piece, so that one that fails is the only one that is slower."""

from __future__ import annotations

from collections.abc import Callable

import torch

RECORDING = 'recording'
PIECES = (RECORDING, 'attention', 'blocks', 'dense', 'judge', 'render')
"""The likeliest to fail first."""


class PieceFailed(RuntimeError):
    """A piece did not compile, was not recorded or did not run; ``piece`` says which."""

    def __init__(self, piece: str):
        super().__init__(piece)
        self.piece = piece


def compiled(piece: str, function: Callable) -> Callable:
    """The function compiled, telling which piece it is when it fails; out of memory is no piece's fault."""
    fast = torch.compile(function, dynamic=False)

    def call(*args, **keywords):
        try:
            return fast(*args, **keywords)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise PieceFailed(piece) from error

    return call


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had no memory left, also where a compiler tells of it."""
    return isinstance(error, torch.OutOfMemoryError) or 'out of memory' in str(error).lower()
