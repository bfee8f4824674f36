# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers on a command line, refused where they cannot be."""

from __future__ import annotations

import argparse


def count(text: str) -> int:
    """A number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'must be 1 or more, not {text}')
    return number


def positive(text: str) -> float:
    """A number over 0."""
    number = float(text)
    if not 0 < number < float('inf'):
        raise argparse.ArgumentTypeError(f'must be a number over 0, not {text}')
    return number
