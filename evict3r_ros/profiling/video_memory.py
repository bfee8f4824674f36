# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Does `evict3r video` need more memory for a longer video? Its process is watched over a long one made here."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.io.figures import new_figure, save
from evict3r_ros.io.prediction_folder import FRAMES_FILE
from evict3r_ros.io.video_file import VideoWriter
from evict3r_ros.profiling.process import resident_bytes

SIZE = (48, 64)
WIDTH = 42
"""Of the network's images."""
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class VideoMemory:
    """What the process held while it ran."""

    frames: int
    seconds: float
    """Of the video."""
    answered: np.ndarray
    """(looks,): frames that were on disk."""
    resident: np.ndarray
    """(looks,): bytes of the process in memory."""

    def summary(self) -> dict[str, Any]:
        """Return the figures that say whether memory grows, after the first tenth of the frames."""
        answering = (self.answered >= self.frames / 10) & (self.answered < self.frames)
        exporting = self.answered >= self.frames
        resident = self.resident / 2**20
        return {
            'frames': self.frames,
            'minutes': self.seconds / 60,
            'resident_mib_at_a_tenth': float(resident[answering][0]),
            'resident_mib_at_the_end': float(resident[answering][-1]),
            'resident_bytes_a_frame': float(np.polyfit(self.answered[answering], self.resident[answering], 1)[0]),
            'resident_mib_peak_of_export': float(resident[exporting].max()) if exporting.any() else None,
        }


def make_video(path: Path, frames: int, fps: float) -> None:
    """Write a video of stripes that drift over noise, small and quick to make."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (*SIZE, 3))
    columns = np.arange(SIZE[1])
    with VideoWriter(path, fps, SIZE) as writer:
        for index in range(frames):
            stripes = 90.0 + 80.0 * np.sin(0.3 * columns + 0.05 * index)[None, :, None]
            writer.write((noise + stripes).astype(np.uint8))


def run(
    seconds: float, fps: float, options: list[str], progress: Callable[[int], object] = lambda _: None
) -> VideoMemory:
    """Run the command over a video of that length; options: more of the command's. Linux.

    progress: told how many frames are done. Raises UserError where the command fails.
    """
    frames = round(seconds * fps)
    with tempfile.TemporaryDirectory(prefix='evict3r_video_') as folder:
        video, out, log = Path(folder, 'long.mp4'), Path(folder, 'out'), Path(folder, 'log')
        make_video(video, frames, fps)
        command = [
            sys.executable,
            '-m',
            'evict3r_ros.cli.main',
            'video',
            str(video),
            '--out',
            str(out),
            '--weights',
            'random',
            '--preset',
            'nano',
            '--image-width',
            str(WIDTH),
            '--device',
            'cpu',
            *options,
        ]
        looks, done, place = [], 0, 0
        with log.open('wb') as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
            try:
                while process.poll() is None:
                    content = _from(out / FRAMES_FILE, place)
                    done, place = done + content.count(b'\n'), place + len(content)
                    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                        looks.append((done, resident_bytes(process.pid)))
                    progress(done)
                    time.sleep(_LOOK_EVERY_S)
            finally:
                process.kill()
        if process.returncode:
            raise UserError(f'evict3r video failed: {log.read_text(errors="replace").strip().splitlines()[-1]}')
    answered, resident = np.array(looks).T
    return VideoMemory(frames, seconds, answered, resident)


def _from(path: Path, place: int) -> bytes:
    if not path.exists():
        return b''
    with path.open('rb') as file:
        file.seek(place)
        return file.read()


def plot(memory: VideoMemory, path: Path, title: str) -> None:
    """Draw memory against the time of the video, and during the export after it, as PNG."""
    figure = new_figure(10, 3.6)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1))
    answering = (memory.answered < memory.frames) & (memory.answered > 0)
    minutes = memory.answered / memory.frames * memory.seconds / 60
    left.plot(minutes[answering], memory.resident[answering] / 2**20, color='C1')
    left.set(xlabel='video answered [min]', ylabel='resident [MiB]', title=title)
    export = memory.resident[memory.answered >= memory.frames] / 2**20
    right.plot(np.arange(len(export)) * _LOOK_EVERY_S, export, color='C2')
    right.set(xlabel='cloud, scene, video [s]', ylim=(0, memory.resident.max() / 2**20 * 1.1))
    save(figure, path)
