# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Figures by matplotlib, written to files, without a window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evict3r_ros.errors import UserError


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib Figure, sizes in inches, without a window. Raises UserError where there is no matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UserError('plots need matplotlib: pip install matplotlib') from error
    return Figure(figsize=(width, height), layout='constrained')


def save(figure: Any, path: Path) -> None:
    """Write a figure. Raises UserError."""
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: the plot could not be written: {error}') from error
