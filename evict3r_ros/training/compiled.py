# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What of training is compiled or recorded, part by part, so that one that fails is the only one that is slower."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from evict3r_ros.kernels.device_errors import is_out_of_memory

P = ParamSpec('P')
R = TypeVar('R')

RECORDING = 'recording'
PARTS = (RECORDING, 'attention', 'blocks', 'dense', 'loss', 'render')
"""The likeliest to fail first."""


class PartFailed(RuntimeError):
    """A part did not compile, was not recorded or did not run; ``part`` says which."""

    def __init__(self, part: str):
        super().__init__(part)
        self.part = part


def compiled(part: str, function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that tells which part it is when it fails; out of memory is no part's fault."""
    fast = torch.compile(function, dynamic=False)

    def call(*args: P.args, **keywords: P.kwargs) -> R:
        try:
            return fast(*args, **keywords)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise PartFailed(part) from error

    return call
