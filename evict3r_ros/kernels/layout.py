# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the parts of a packed row lie."""

from __future__ import annotations

from dataclasses import dataclass

import torch

RANGE_DTYPE = torch.float16
"""Of minimum and step of packed numbers: ten bits of mantissa for ranges of at most a few hundred."""


@dataclass(frozen=True)
class PackedLayout:
    """How a tier's rows of bytes are laid out.

    Key codes, value codes, then minimum and step of each head's keys, and of its values, in RANGE_DTYPE.
    """

    bits: int
    code_bytes: int
    """Of a token's key, or value: heads * head_dim * bits / 8."""
    first_slot: int = 0
    """The tier's first slot."""
    alone: bool = True
    """Whether there is no other tier, so that every slot asked for is of this one, or of no token."""
