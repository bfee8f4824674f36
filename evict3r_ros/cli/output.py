# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Text that several commands print."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from typing import Any

from evict3r_ros.io.run_folder import RunFolder

UNTRAINED = 'UNTRAINED: random weights. Depth, points and poses mean nothing.\n'


def format_bytes(count: int) -> str:
    """Return '1.5 kB', '12.0 MB' or '3.25 GB': decimal units."""
    if count >= 10**9:
        return f'{count / 1e9:.2f} GB'
    return f'{count / 1e6:.1f} MB' if count >= 10**5 else f'{count / 1e3:.1f} kB'


def print_notes(notes: list[str], told: Collection[str] = ()) -> list[str]:
    """Print what a user should know of an input that is read all the same, but for what was told; return all."""
    for note in notes:
        if note not in told:
            print(f'evict3r: note: {note}', file=sys.stderr)
    return notes


def print_files(folder: RunFolder, descriptions: Mapping[str, str]) -> None:
    """Print size and description of each file of a run that has a description."""
    for name, size in folder.sizes().items():
        if name in descriptions:
            print(f'  {name:18}{format_bytes(size):>10}  {descriptions[name]}')


def print_summary(summary: Mapping[str, Any], as_json: bool) -> None:
    """Print a summary as JSON, or as a line per entry."""
    print(json.dumps(summary) if as_json else '\n'.join(f'{key:<34}{value}' for key, value in summary.items()))
