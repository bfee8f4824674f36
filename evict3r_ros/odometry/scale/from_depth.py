# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scale from a depth sensor: its depth over the network's, at the same pixels."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from evict3r_ros.odometry.scale.frame import ScaleFrame, SurePixels
from evict3r_ros.odometry.scale.robust import Estimate, Window, robust_mean

_MOST_MAPS = 30
_MOST_COLUMNS = 160  # of a map that is kept: 80 kB a map instead of 4 MB
_LARGEST_OFFSET_NS = 25_000_000  # between image and depth: less than a frame at 30 Hz
_LEAST_PIXELS = 100
_LEAST_DEPTH = 0.1  # metres; nearer, depth sensors answer nonsense
# Pixels of one image do not err independently. As if each frame had this many that do, however many were compared.
_INDEPENDENT = 50


class DepthScale:
    """Median ratio over the surer pixels of each frame that has a depth map of its time, then over frames.

    The depth maps show the camera image's field of view, at any resolution: they are registered to the image.
    """

    def __init__(self) -> None:
        self._window = Window(size=30, least=3)
        self._lock = threading.Lock()
        self._maps: deque[tuple[int, np.ndarray]] = deque(maxlen=_MOST_MAPS)

    def add_depth(self, stamp_ns: int, depth: np.ndarray) -> None:
        """Take in a depth map (h, w) in metres along z, NaN or 0 where invalid; from any thread."""
        step = max(1, depth.shape[1] // _MOST_COLUMNS)
        kept = depth[step // 2 :: step, step // 2 :: step].astype(np.float32)
        if not kept.size:
            return
        with self._lock:
            self._maps.append((stamp_ns, kept))

    def observe(self, frame: ScaleFrame) -> Estimate | None:
        """Take in a frame and return the scale, or None while it is unknown."""
        with self._lock:
            nearest = min(self._maps, key=lambda entry: abs(entry[0] - frame.stamp_ns), default=None)
        if nearest is not None and abs(nearest[0] - frame.stamp_ns) <= _LARGEST_OFFSET_NS:
            observation = _compare(frame, nearest[1])
            if observation is not None:
                self._window.add(observation)
        return self._window.estimate()

    def restart(self) -> None:
        """Forget what was seen of the network's depth: a new stream has a unit of its own."""
        self._window.clear()


def _compare(frame: ScaleFrame, metric: np.ndarray) -> Estimate | None:
    sure = SurePixels.of(frame)
    height, width = frame.depth.shape
    top, bottom = frame.seen_rows
    rows = ((top + (sure.rows + 0.5) / height * (bottom - top)) * metric.shape[0]).astype(int)
    columns = ((sure.columns + 0.5) / width * metric.shape[1]).astype(int)
    known = metric[rows.clip(0, metric.shape[0] - 1), columns.clip(0, metric.shape[1] - 1)]
    valid = np.isfinite(known) & (known > _LEAST_DEPTH)
    if valid.sum() < _LEAST_PIXELS:
        return None
    ratios = np.log(known[valid]) - np.log(sure.depth[valid])
    mean, spread, near = robust_mean(ratios)
    # Where most pixels disagree, one scale does not describe them: another scene, a sensor that is not registered.
    return Estimate(mean, spread / np.sqrt(_INDEPENDENT)) if near.mean() >= 0.5 and spread < 0.5 else None
