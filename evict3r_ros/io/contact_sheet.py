# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Draw a contact sheet of predictions: a row per frame, with image, depth and, if known, confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from evict3r_ros.errors import UserError

CELL_WIDTH = 320
_GAP = 8
_LINE = 22
_BANNER = 72
# Colours are BGR, as OpenCV writes them.
_PAPER = (250, 250, 250)
_INK = (40, 40, 40)
_INVALID = (90, 90, 90)
_WARNING = (30, 30, 200)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class SheetRow:
    """One frame. Image and maps may differ in size."""

    label: str
    image: np.ndarray
    """(h, w) or (h, w, 3) uint8 RGB."""
    depth: np.ndarray
    """(H, W) float, NaN where invalid."""
    confidence: np.ndarray | None = None
    """(H, W) float, NaN where invalid; None if unknown."""


def colour_map(values: np.ndarray, low: float, high: float, near_is_hot: bool) -> np.ndarray:
    """Return colours (H, W, 3) uint8 BGR of a map (H, W), cold to hot from low to high or reversed; NaN is grey."""
    share = np.clip((np.asarray(values, dtype=np.float64) - low) / max(high - low, 1e-12), 0.0, 1.0)
    valid = np.isfinite(values)
    level = np.where(valid, 1.0 - share if near_is_hot else share, 0.0)
    colours = cv2.applyColorMap(np.round(level * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    colours[~valid] = _INVALID
    return colours


def draw_contact_sheet(rows: Sequence[SheetRow], header: Sequence[str], untrained: bool) -> np.ndarray:
    """Draw the sheet, (h, w, 3) uint8 BGR. All rows share one colour scale, written above the columns.

    The column of confidence is left out if no row has any. header: lines of text above the rows. untrained: draw a red
    banner. Raises ValueError without rows.
    """
    if not rows:
        raise ValueError('a contact sheet needs at least one row')
    confident = any(row.confidence is not None for row in rows)
    width = _column(3 if confident else 2)
    depth_range = _range([row.depth for row in rows])
    confidence_range = _range([row.confidence for row in rows if row.confidence is not None])
    bands = [_banner(width)] if untrained else []
    bands += [_text_band(width, [(text, _GAP)]) for text in header]
    titles = ['image', _title('depth', depth_range, 'red is near')]
    if confident:
        titles.append(_title('confidence', confidence_range, 'red is sure'))
    bands.append(_text_band(width, [(title, _column(index)) for index, title in enumerate(titles)]))
    for row in rows:
        bands.append(_draw_row(row, width, depth_range, confidence_range, confident))
    return np.concatenate(bands, axis=0)


def write_contact_sheet(path: str | Path, rows: Sequence[SheetRow], header: Sequence[str], untrained: bool) -> None:
    """Draw the sheet into a PNG file; see `draw_contact_sheet`. Raises UserError if it cannot be written."""
    if not cv2.imwrite(str(path), draw_contact_sheet(rows, header, untrained)):
        raise UserError(f'{path}: the contact sheet could not be written')


def _range(maps: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """Return the 2nd and 98th percentiles of all finite values, so that outliers do not dominate the colours."""
    finite = [values[np.isfinite(values)] for values in maps]
    values = np.concatenate(finite) if finite else np.empty(0)
    if not values.size:
        return None
    low, high = np.percentile(values, (2, 98))
    return float(low), float(high)


def _title(name: str, limits: tuple[float, float] | None, note: str) -> str:
    return f'{name}: none' if limits is None else f'{name} {limits[0]:.3g} .. {limits[1]:.3g}, {note}'


def _column(index: int) -> int:
    return _GAP + index * (CELL_WIDTH + _GAP)


def _banner(width: int) -> np.ndarray:
    band = np.full((_BANNER, width, 3), _WARNING, dtype=np.uint8)
    cv2.putText(band, 'UNTRAINED', (_GAP, 52), _FONT, 1.8, (255, 255, 255), 4, cv2.LINE_AA)
    for line, text in enumerate(('random weights:', 'depth and poses mean nothing')):
        cv2.putText(band, text, (_column(1) + _GAP * 4, 32 + line * 24), _FONT, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
    return band


def _text_band(width: int, texts: Sequence[tuple[str, int]]) -> np.ndarray:
    """Draw a line of texts, each (text, left edge in pixels), smaller where one would be wider than the sheet."""
    band = np.full((_LINE, width, 3), _PAPER, dtype=np.uint8)
    for text, left in texts:
        (needed, _), _ = cv2.getTextSize(text, _FONT, 0.45, 1)
        scale = 0.45 * min(1.0, (width - left - _GAP) / max(needed, 1))
        cv2.putText(band, text, (left, _LINE - 7), _FONT, scale, _INK, 1, cv2.LINE_AA)
    return band


def _draw_row(
    row: SheetRow,
    width: int,
    depth_range: tuple[float, float] | None,
    confidence_range: tuple[float, float] | None,
    confident: bool,
) -> np.ndarray:
    image = cv2.cvtColor(row.image, cv2.COLOR_GRAY2BGR if row.image.ndim == 2 else cv2.COLOR_RGB2BGR)
    cells = [_fit(image, cv2.INTER_AREA)]
    maps = ((row.depth, depth_range, True), (row.confidence, confidence_range, False))
    for values, limits, near_is_hot in maps[: 2 if confident else 1]:
        if values is None or limits is None:
            cells.append(np.full((1, CELL_WIDTH, 3), _INVALID, dtype=np.uint8))
        else:
            # Nearest neighbour shows the pixels of the network.
            cells.append(_fit(colour_map(values, *limits, near_is_hot=near_is_hot), cv2.INTER_NEAREST))
    height = max(cell.shape[0] for cell in cells)
    band = np.full((height + _GAP, width, 3), _PAPER, dtype=np.uint8)
    for index, cell in enumerate(cells):
        band[: cell.shape[0], _column(index) : _column(index) + CELL_WIDTH] = cell
    return np.concatenate([_text_band(width, [(row.label, _GAP)]), band], axis=0)


def _fit(image: np.ndarray, interpolation: int) -> np.ndarray:
    """Resize an image to the width of a cell, keeping its aspect ratio."""
    height = max(1, round(image.shape[0] * CELL_WIDTH / image.shape[1]))
    return cv2.resize(image, (CELL_WIDTH, height), interpolation=interpolation)
