# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Make the pictures of the README and of docs/ from what the commands leave; they are JPEG files of under 500 kB.

From the tree's root, with the environment of `make setup`:

    make demo
    .venv/bin/evict3r world --seed 7 --frames 40 --loop --no-effects --size 480 640 --out walk
    .venv/bin/evict3r attention walk --frames 24 --tokens 1200 --out walk_attention
    .venv/bin/python tools/make_pictures.py --demo out --attention walk_attention
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.io.answer import AnswerTopics, pick_rows
from evict3r_ros.io.bag import BagReader
from evict3r_ros.io.contact_sheet import colour_map
from evict3r_ros.io.image_bag import CameraTopics

DOCS = Path(__file__).resolve().parent.parent / 'docs'
MOST_BYTES = 500_000
MOST_WIDTH = 1800
ROWS, SHOWN = 8, 2
"""Frames that are looked at, and the one of them that is shown, from 0."""
_GAP, _LINE = 10, 34
# BGR, as OpenCV writes it.
_PAPER, _INK = (250, 250, 250), (40, 40, 40)


def read_picture(path: Path) -> np.ndarray:
    """Return a picture (h, w, 3) uint8 BGR. Raises UserError where there is none."""
    picture = cv2.imread(str(path))
    if picture is None:
        raise UserError(f'{path}: no picture; run the commands that --help names first')
    return picture


def shown_frame(demo: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the image and the coloured depth of one frame of a demo's bags, (h, w, 3) uint8 BGR each."""
    with BagReader(demo / 'input') as played, BagReader(demo / 'answer') as recorded:
        rows = pick_rows(ROWS, recorded, played, CameraTopics().image, AnswerTopics.of_node('/evict3r'))
    row = rows[min(SHOWN, len(rows) - 1)]
    low, high = np.nanpercentile(row.depth, (2, 98))
    return cv2.cvtColor(row.image, cv2.COLOR_RGB2BGR), colour_map(row.depth, float(low), float(high), near_is_hot=True)


def compose(image: np.ndarray, depth: np.ndarray, scene: np.ndarray) -> np.ndarray:
    """Return image over depth, and the scene beside them, (h, w, 3) uint8 BGR."""
    height = scene.shape[0]
    cell = (height - _LINE - _GAP) // 2
    left = [_resized(picture, cell) for picture in (image, depth)]
    column = max(picture.shape[1] for picture in left)
    page = np.full((height + _LINE + 2 * _GAP, column + scene.shape[1] + 3 * _GAP, 3), _PAPER, np.uint8)
    top = _GAP
    for picture, caption in zip(left, ('image', 'depth: red is near'), strict=True):
        _write(page, caption, (_GAP, top + _LINE - 11))
        page[top + _LINE : top + _LINE + cell, _GAP : _GAP + picture.shape[1]] = picture
        top += _LINE + cell + _GAP
    _write(page, 'cloud, path and cameras: blue to red in time', (column + 2 * _GAP, _GAP + _LINE - 11))
    page[_GAP + _LINE : _GAP + _LINE + height, column + 2 * _GAP : -_GAP] = scene
    return page


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a JPEG of at most MOST_WIDTH pixels and MOST_BYTES, at the best quality that fits. Raises UserError."""
    if picture.shape[1] > MOST_WIDTH:
        picture = _resized(picture, round(picture.shape[0] * MOST_WIDTH / picture.shape[1]))
    for quality in range(90, 40, -5):
        coded = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        if len(coded) <= MOST_BYTES:
            break
    try:
        path.write_bytes(coded.tobytes())
    except OSError as error:
        raise UserError(f'{path}: could not be written: {error.strerror}') from error
    print(f'{path}: {picture.shape[1]} x {picture.shape[0]}, {len(coded) / 1e3:.0f} kB, quality {quality}')


def _resized(picture: np.ndarray, height: int) -> np.ndarray:
    width = round(picture.shape[1] * height / picture.shape[0])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _write(page: np.ndarray, text: str, place: tuple[int, int]) -> None:
    cv2.putText(page, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.8, _INK, 2, cv2.LINE_AA)


def main() -> int:
    """Make the pictures that the arguments name; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--demo', type=Path, metavar='FOLDER', help='what evict3r demo left')
    parser.add_argument('--attention', type=Path, metavar='FOLDER', help='what evict3r attention left')
    parser.add_argument('--to', type=Path, default=DOCS, metavar='FOLDER', help='where to (default: docs)')
    args = parser.parse_args()
    try:
        if args.demo is not None:
            scene = read_picture(args.demo / 'scene.png')
            write_picture(args.to / 'demo.jpg', compose(*shown_frame(args.demo), scene))
            write_picture(args.to / 'demo_scene.jpg', scene)
            write_picture(args.to / 'demo_contact_sheet.jpg', read_picture(args.demo / 'contact_sheet.png'))
        if args.attention is not None:
            write_picture(args.to / 'evictions.jpg', read_picture(args.attention / 'evictions.png'))
    except UserError as error:
        print(f'make_pictures: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
