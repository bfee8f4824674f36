# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Types of option values for argparse, which refuse values out of range."""

from __future__ import annotations

import argparse
import math


def count(text: str) -> int:
    """Parse an integer of 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'must be 1 or more, not {text}')
    return number


def positive(text: str) -> float:
    """Parse a number over 0."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f'must be a number over 0, not {text}')
    return number


def not_negative(text: str) -> float:
    """Parse a number of 0 or more."""
    number = float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f'must be 0 or more, not {text}')
    return number


def seconds(text: str) -> float:
    """Parse '90', '1:30' or '0:01:30' as seconds."""
    parts = [float(part) for part in text.split(':')]
    if len(parts) > 3 or not all(0.0 <= part < math.inf for part in parts) or any(part >= 60.0 for part in parts[1:]):
        raise argparse.ArgumentTypeError(f'{text!r} is not a time such as 90, 1:30 or 0:01:30')
    return sum(part * 60.0**place for place, part in enumerate(reversed(parts)))
