# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What an estimator of the scale is shown of a frame, and which of its pixels it looks at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_COLUMNS = 64  # of the grid that is looked at: some 3000 pixels tell a median as well as 200 000 do


@dataclass(frozen=True)
class ScaleFrame:
    """A frame as the network answered it, in the network's unit of length, before any scale was applied."""

    stamp_ns: int
    """Of the image."""
    depth: np.ndarray
    """(H, W) float32, NaN where invalid."""
    confidence: np.ndarray
    """(H, W) float32."""
    K: np.ndarray
    """(3, 3): the camera matrix of these maps."""
    world_from_camera: np.ndarray
    """(4, 4), OpenCV axes."""
    base_from_camera: np.ndarray
    """(4, 4) in metres: how the camera sits on the robot's base, whose z points up (REP-103)."""
    seen_rows: tuple[float, float] = (0.0, 1.0)
    """What part of the camera image's height the maps show, as (from, to) in 0..1; all of its width is shown."""


@dataclass(frozen=True)
class SurePixels:
    """Pixels of a grid over a frame whose depth is valid and whose confidence is in the upper half."""

    rows: np.ndarray
    """(n,)."""
    columns: np.ndarray
    """(n,)."""
    depth: np.ndarray
    """(n,) float64, in the network's unit."""

    @classmethod
    def of(cls, frame: ScaleFrame) -> SurePixels:
        """Take them from a frame; half and no threshold, because networks differ in the size of their confidence."""
        height, width = frame.depth.shape
        step = max(1, width // _COLUMNS)
        rows, columns = np.mgrid[step // 2 : height : step, step // 2 : width : step]
        depth, confidence = frame.depth[rows, columns], frame.confidence[rows, columns]
        valid = np.isfinite(depth) & (depth > 0.0) & np.isfinite(confidence)
        if valid.any():
            valid &= confidence >= np.median(confidence[valid])
        return cls(rows[valid], columns[valid], depth[valid].astype(np.float64))

    def points(self, K: np.ndarray) -> np.ndarray:
        """Return their points (n, 3) in the camera's optical frame, for the maps' K (3, 3)."""
        x = (self.columns - K[0, 2]) / K[0, 0]
        y = (self.rows - K[1, 2]) / K[1, 1]
        points: np.ndarray = np.stack([x, y, np.ones_like(x)], axis=-1) * self.depth[:, None]
        return points
