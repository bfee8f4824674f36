# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Input of the demo: images of a folder, or a walk through a synthetic world."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evict3r_ros.io.image_folder import CameraModel, read_image_folder
from evict3r_ros.synthetic.clips import WorldStream
from evict3r_ros.synthetic.world_folder import stamped, world_camera

_SIZE, _FPS, _SEED = (240, 320), 10, 7


@dataclass(frozen=True)
class DemoInput:
    """Frames to play."""

    kind: str
    """``images`` or ``synthetic``."""
    origin: str
    """Folder or world, for messages."""
    camera: CameraModel
    count: int
    """Number of frames."""
    frames: Callable[[], Iterator[tuple[int, np.ndarray]]]
    """Yields (stamp in ns, image (h, w) or (h, w, 3) uint8 RGB)."""


def folder_input(path: Path, count: int) -> DemoInput:
    """Return at most ``count`` evenly spread images of a folder. Raises UserError for another layout."""
    folder = read_image_folder(path)
    indices = np.linspace(0, len(folder) - 1, min(count, len(folder))).round().astype(int)
    chosen = [folder.frames[index] for index in indices]
    return DemoInput(
        'images', str(path), folder.camera, len(chosen), lambda: ((frame.stamp_ns, frame.read()) for frame in chosen)
    )


def synthetic_input(count: int) -> DemoInput:
    """Return a loop of ``count`` frames through synthetic rooms at 10 Hz, with the camera on a robot's mast."""
    stream = WorldStream(_SEED, count, size=_SIZE, effects=False, loop=True)

    def frames() -> Iterator[tuple[int, np.ndarray]]:
        for stamp, frame in stamped(stream, _FPS):
            yield stamp, frame.image

    return DemoInput('synthetic', f'world of seed {_SEED}', world_camera(stream, _SIZE), count, frames)
