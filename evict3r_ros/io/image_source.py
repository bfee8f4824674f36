# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames from image files: a folder, a glob, a table of stamps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evict3r_ros.camera.tone import SteadyTone
from evict3r_ros.errors import UserError
from evict3r_ros.io.frames import FramePicker, Selection, VideoFrame
from evict3r_ros.io.image_file import IMAGE_SUFFIXES, is_hidden, read_rgb
from evict3r_ros.io.stamps import NANOSECONDS


class ImageFiles:
    """Image files with their stamps."""

    is_live, damaged = False, 0
    notes: list[str] = []  # noqa: RUF012, nobody adds to it

    def __init__(self, origin: str, paths: list[Path], stamps_ns: list[int], selection: Selection):
        self._origin, self._selection = origin, selection
        picker = FramePicker(selection)
        self._chosen = [
            (path, stamp) for path, stamp in zip(paths, stamps_ns, strict=True) if picker.takes(stamp - stamps_ns[0])
        ]
        if not self._chosen:
            raise UserError(f'{origin}: has no image in the time asked for')

    def identity(self) -> dict[str, Any]:
        """See FrameSource."""
        return {'images': str(Path(self._origin).expanduser().resolve()), **self._selection.identity()}

    def expected(self) -> int | None:
        """See FrameSource."""
        return len(self._chosen)

    def exact_count(self) -> int:
        """See FrameSource."""
        return len(self._chosen)

    def frames(self) -> Iterator[VideoFrame]:
        """See FrameSource."""
        size, first, tone = None, self._chosen[0][0], SteadyTone()
        for path, stamp in self._chosen:
            image = read_rgb(path, tone)
            if size is None:
                size = image.shape
            if image.shape != size:
                raise UserError(
                    f'{path}: {image.shape[1]} x {image.shape[0]} pixels, but {first.name} has '
                    f'{size[1]} x {size[0]}; a stream has one size'
                )
            yield VideoFrame(stamp, path.name, image)


def images_among(origin: str, candidates: list[Path], selection: Selection, fps: float) -> ImageFiles:
    """Return the images among some files, in natural order (2 before 10). Raises UserError where there are none.

    fps: their rate. Hidden files are passed over.
    """
    paths = sorted(
        (
            path
            for path in candidates
            if path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path) and path.is_file()
        ),
        key=lambda path: (_natural(str(path)), str(path)),
    )
    if not paths:
        raise UserError(f'{origin}: no images there ({", ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)})')
    return ImageFiles(origin, paths, [round(index * NANOSECONDS / fps) for index in range(len(paths))], selection)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Return a sort key in which numbers inside names compare by value."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r'(\d+)', name) if part]
