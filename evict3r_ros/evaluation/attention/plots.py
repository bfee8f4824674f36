# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Draw attention maps, the patches that a cache keeps, and how it evicts the others over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.evaluation.attention.maps import AttentionMaps
from evict3r_ros.io.figures import new_figure, save

STRIP_ROWS, STRIP_COLUMNS = 6, 10
_PAGE_WIDTH = 2400
_LARGEST_CELL, _SMALLEST_CELL = 320, 96
_GAP, _LINE = 6, 20
# RGB.
_PAPER, _INK, _WARNING = (250, 250, 250), (40, 40, 40), (200, 30, 30)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_DARK, _TINT = 0.25, np.array((55.0, 25.0, 95.0))
"""Brightness of a patch that no layer keeps, and the violet that marks it."""
_SPECIAL_ON, _SPECIAL_OFF = np.array((60, 200, 90)), np.array((60, 60, 60))


def overlay(image: np.ndarray, share: np.ndarray, patches: tuple[int, int], special_tokens: int) -> np.ndarray:
    """Return the image with evicted patches in dark violet; the more layers keep a patch, the clearer it is.

    image (H, W, 3) uint8; share (N,) from 0 to 1: the layers that keep each token, special tokens first. Those are the
    squares in the upper left corner: camera token, then registers, green if kept.
    """
    height, width = image.shape[:2]
    weight = cv2.resize(
        share[special_tokens:].reshape(patches).astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST
    )[..., None]
    gone = image.mean(axis=2, keepdims=True) * _DARK + _TINT
    picture = weight * image + (1.0 - weight) * gone
    side = max(3, height // 16)
    for number in range(special_tokens):
        left = 2 + number * (side + 2)
        picture[1 : 3 + side, left - 1 : left + side + 1] = 255
        picture[2 : 2 + side, left : left + side] = share[number] * _SPECIAL_ON + (1.0 - share[number]) * _SPECIAL_OFF
    rounded: np.ndarray = np.round(picture).astype(np.uint8)
    return rounded


def draw_kept(maps: AttentionMaps, title: str, untrained: bool) -> np.ndarray:
    """Draw all frames with the patches that are kept after the last one, (h, w, 3) uint8 RGB."""
    shares = maps.kept[-1] / maps.layer_count
    cells = [
        (overlay(image, share, maps.patches, maps.special_tokens), f'frame {index}: {share.mean():.0%} kept')
        for index, (image, share) in enumerate(zip(maps.images, shares, strict=True))
    ]
    columns = math.ceil(math.sqrt(len(cells)))
    rows = [cells[first : first + columns] for first in range(0, len(cells), columns)]
    what = (
        'what the cache keeps after the last frame: violet patches are kept in no layer, clear ones in all; squares: '
        'camera token and registers'
    )
    return _page(rows, [title, what], untrained)


def draw_evictions(maps: AttentionMaps, title: str, untrained: bool) -> np.ndarray:
    """Draw a film strip: each row is a frame and, from left to right, what is kept of it over time.

    (h, w, 3) uint8 RGB.
    """
    count = len(maps.images)
    sources = np.unique(np.linspace(0, max(0, count - 2), min(STRIP_ROWS, count)).round().astype(int))
    times = np.unique(np.linspace(0, count - 1, min(STRIP_COLUMNS, count)).round().astype(int))
    rows = []
    for source in sources:
        cells = []
        for time in times:
            share = maps.kept[time, source] / maps.layer_count
            if time < source:
                cells.append((np.full_like(maps.images[0], 235), ''))
            else:
                cells.append(
                    (
                        overlay(maps.images[source], share, maps.patches, maps.special_tokens),
                        f'{source} after {time}: {share.mean():.0%}',
                    )
                )
        rows.append(cells)
    what = 'each row is a frame, and what the cache keeps of it after later frames; violet: evicted'
    return _page(rows, [title, what], untrained)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture as PNG. Raises UserError if that fails."""
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise UserError(f'{path}: could not be written')


def _page(rows: Sequence[Sequence[tuple[np.ndarray, str]]], header: Sequence[str], untrained: bool) -> np.ndarray:
    """Draw labelled cells of one size in a grid under lines of text."""
    columns = max(len(row) for row in rows)
    cell = min(_LARGEST_CELL, max(_SMALLEST_CELL, _PAGE_WIDTH // columns - _GAP))
    height = round(rows[0][0][0].shape[0] * cell / rows[0][0][0].shape[1])
    width = max(columns * (cell + _GAP) + _GAP, 3 * _LARGEST_CELL)
    lines = [(text, _INK) for text in header]
    if untrained:
        lines.insert(0, ('UNTRAINED: random weights', _WARNING))
    page = np.full((_LINE * (len(lines) + 1) + len(rows) * (height + _LINE + _GAP), width, 3), _PAPER, np.uint8)
    for number, (text, colour) in enumerate(lines):
        _write(page, text, (_GAP, _LINE * (number + 1) - 4), width - 2 * _GAP, colour)
    for number, row in enumerate(rows):
        top = _LINE * (len(lines) + 1) + number * (height + _LINE + _GAP)
        for column, (picture, label) in enumerate(row):
            left = _GAP + column * (cell + _GAP)
            page[top : top + height, left : left + cell] = cv2.resize(
                picture, (cell, height), interpolation=cv2.INTER_AREA
            )
            _write(page, label, (left, top + height + _LINE - 6), cell, _INK)
    return page


def _write(page: np.ndarray, text: str, place: tuple[int, int], width: int, colour: tuple[int, int, int]) -> None:
    """Write text, smaller where it would be wider than ``width``."""
    (needed, _), _ = cv2.getTextSize(text, _FONT, 0.45, 1)
    cv2.putText(page, text, place, _FONT, 0.45 * min(1.0, width / max(needed, 1)), colour, 1, cv2.LINE_AA)


def plot_tokens(path: Path, values: np.ndarray, maps: AttentionMaps, title: str) -> None:
    """Plot a token map (B, B) as PNG: rows are queries, columns are keys, lines are the borders of frames."""
    count = len(maps.images)
    size = min(14.0, max(6.0, 2.0 + values.shape[0] / 100))
    figure = new_figure(size + 1.0, size)
    axes = figure.subplots()
    axes.set_facecolor('0.85')
    extent = (
        0.0,
        values.shape[1] * maps.tokens_per_pixel / maps.frame_tokens,
        values.shape[0] * maps.tokens_per_pixel / maps.frame_tokens,
        0.0,
    )
    picture = axes.imshow(
        np.ma.masked_invalid(values),
        norm=_square_root(),
        cmap='viridis',
        extent=extent,
        interpolation='nearest',
        aspect='equal',
    )
    for border in range(1, count):
        axes.axhline(border, color='w', linewidth=0.3)
        axes.axvline(border, color='w', linewidth=0.3)
    a_pixel = (
        f'a pixel is {maps.tokens_per_pixel} x {maps.tokens_per_pixel} tokens'
        if maps.tokens_per_pixel > 1
        else 'a pixel is a pair of tokens'
    )
    axes.set(
        xlabel=f'key, by frame ({maps.frame_tokens} tokens each, the first {maps.special_tokens} special)',
        ylabel='query, by frame',
        xlim=(0, count),
        ylim=(count, 0),
    )
    figure.suptitle(f'{title}\n{a_pixel}; grey: evicted, or in the future', fontsize=9)
    figure.colorbar(picture, label="attention, mean over heads, divided by the row's maximum", shrink=0.8)
    save(figure, path)


def _square_root() -> Any:
    """Return a matplotlib colour scale from 0 to 1 that shows small shares."""
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.5, 0.0, 1.0)


def plot_frames(path: Path, maps: AttentionMaps, title: str) -> None:
    """Plot the frame maps of all chosen layers and their mean, side by side, as PNG."""
    names = [f'layer {layer}' for layer in maps.layers] + [f'mean of {len(maps.layers)} layers']
    values = [*maps.frames, maps.frames.mean(axis=0)]
    columns = min(4, len(values))
    rows = math.ceil(len(values) / columns)
    figure = new_figure(3.6 * columns + 0.8, 3.6 * rows + 0.6)
    axes = figure.subplots(rows, columns, squeeze=False)
    future = np.triu(np.ones_like(values[0], dtype=bool), 1)
    for place, name, shares in zip(axes.flat, names, values, strict=False):
        picture = place.imshow(
            np.ma.masked_array(shares, future), norm=_square_root(), cmap='viridis', interpolation='nearest'
        )
        place.set(title=name, xlabel='frame attended to', ylabel='frame that attends')
    for place in axes.flat[len(values) :]:
        place.set_axis_off()
    figure.suptitle(title, fontsize=10)
    figure.colorbar(picture, ax=axes, label="share of a frame's attention", shrink=0.7)
    save(figure, path)
