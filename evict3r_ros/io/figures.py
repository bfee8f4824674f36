# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Matplotlib figures, written to files without a display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evict3r_ros.errors import UserError


def new_figure(width: float, height: float) -> Any:
    """Return an empty matplotlib Figure, sizes in inches. Raises UserError if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UserError('plots need matplotlib: pip install matplotlib') from error
    return Figure(figsize=(width, height), layout='constrained')


def save(figure: Any, path: Path) -> None:
    """Write a figure. Raises UserError if that fails."""
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: the plot could not be written: {error}') from error
