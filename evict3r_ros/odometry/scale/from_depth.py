# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scale from a depth sensor: its depth over the network's, at the same pixels."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from evict3r_ros.odometry.scale.frame import ScaleFrame, SurePixels
from evict3r_ros.odometry.scale.robust import Estimate, Window, robust_mean

_MOST_MAPS = 90  # 3 s at 30 Hz: what a network may need for an image
_MOST_WAITING = 64  # frames whose depth has not come yet
_CLOCK_JUMP_NS = 1_000_000_000
_MOST_COLUMNS = 160  # of a map that is kept: 80 kB a map instead of 4 MB
_LARGEST_OFFSET_NS = 25_000_000  # between image and depth: less than a frame at 30 Hz
_LEAST_PIXELS = 100
_LEAST_DEPTH = 0.1  # metres; nearer, depth sensors answer nonsense
# Pixels of one image do not err independently. As if each frame had this many that do, however many were compared.
_INDEPENDENT = 50


@dataclass(frozen=True)
class _Waiting:
    """What is compared of a frame, once its depth map has come."""

    stamp_ns: int
    rows: np.ndarray
    """(n,): where in the camera image, from 0 to 1."""
    columns: np.ndarray
    """(n,): the same."""
    depth: np.ndarray
    """(n,), in the network's unit."""

    @classmethod
    def of(cls, frame: ScaleFrame) -> _Waiting:
        """Take the sure pixels of a frame."""
        sure = SurePixels.of(frame)
        height, width = frame.depth.shape
        top, bottom = frame.seen_rows
        rows = top + (sure.rows + 0.5) / height * (bottom - top)
        return cls(frame.stamp_ns, rows, (sure.columns + 0.5) / width, sure.depth)


class DepthScale:
    """Median ratio over the surer pixels of each frame that has a depth map of its time, then over frames.

    The depth maps show the camera image's field of view, at any resolution: they are registered to the image. A sensor
    may need longer for its map than the network for its answer, so a frame waits until no nearer map can come.
    """

    def __init__(self) -> None:
        self._window = Window(size=30, least=3)
        self._lock = threading.Lock()
        self._maps: deque[tuple[int, np.ndarray]] = deque(maxlen=_MOST_MAPS)
        self._waiting: deque[_Waiting] = deque(maxlen=_MOST_WAITING)

    def add_depth(self, stamp_ns: int, depth: np.ndarray) -> None:
        """Take in a depth map (h, w) in metres along z, NaN or 0 where invalid; from any thread."""
        step = max(1, depth.shape[1] // _MOST_COLUMNS)
        kept = depth[step // 2 :: step, step // 2 :: step].astype(np.float32)
        if not kept.size:
            return
        with self._lock:
            if self._maps and stamp_ns < self._maps[-1][0] - _CLOCK_JUMP_NS:
                self._maps.clear()
            self._maps.append((stamp_ns, kept))

    def observe(self, frame: ScaleFrame) -> Estimate | None:
        """Take in a frame and return the scale, or None while it is unknown."""
        self._waiting.append(_Waiting.of(frame))
        with self._lock:
            maps = list(self._maps)
        newest = max((stamp for stamp, _ in maps), default=None)
        while self._waiting and newest is not None and self._waiting[0].stamp_ns <= newest:
            self._compare(self._waiting.popleft(), maps)
        return self._window.estimate()

    def restart(self) -> None:
        """Forget what was seen of the network's depth: a new stream has a unit of its own."""
        self._window.clear()
        self._waiting.clear()

    def _compare(self, frame: _Waiting, maps: list[tuple[int, np.ndarray]]) -> None:
        stamp_ns, metric = min(maps, key=lambda entry: abs(entry[0] - frame.stamp_ns))
        if abs(stamp_ns - frame.stamp_ns) > _LARGEST_OFFSET_NS:
            return
        height, width = metric.shape
        rows = (frame.rows * height).astype(int).clip(0, height - 1)
        columns = (frame.columns * width).astype(int).clip(0, width - 1)
        known = metric[rows, columns]
        valid = np.isfinite(known) & (known > _LEAST_DEPTH)
        if valid.sum() < _LEAST_PIXELS:
            return
        mean, spread, near = robust_mean(np.log(known[valid]) - np.log(frame.depth[valid]))
        # Where most pixels disagree, one scale does not describe them: another scene, a sensor that is not registered.
        if near.mean() >= 0.5 and spread < 0.5:
            self._window.add(Estimate(mean, spread / np.sqrt(_INDEPENDENT)))
