# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A path of bounded length, however far the robot goes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from evict3r_ros import geometry

MOST_POSES = 5000


class ThinnedPath:
    """Poses along the way, at most `most`: with each halving the way between two that are kept doubles.

    spacing: metres between two poses that are kept at first; a turn of a radian counts as a metre.
    """

    def __init__(self, most: int = MOST_POSES, spacing: float = 0.02) -> None:
        self._most = max(2, most)
        self._first_spacing = self._spacing = spacing
        self._poses: list[tuple[int, np.ndarray]] = []

    def add(self, stamp_ns: int, pose: np.ndarray) -> bool:
        """Keep a (4, 4) pose if it is far enough from the last one kept; returns whether it was."""
        if self._poses and _apart(self._poses[-1][1], pose) < self._spacing:
            return False
        if len(self._poses) == self._most:
            # From the end, so that the last one stays and the next is measured against it.
            self._poses = self._poses[::-2][::-1]
            self._spacing *= 2.0
            return self.add(stamp_ns, pose)
        self._poses.append((stamp_ns, pose.copy()))
        return True

    def clear(self) -> None:
        """Forget all poses."""
        self._poses.clear()
        self._spacing = self._first_spacing

    def __len__(self) -> int:
        return len(self._poses)

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """Stamp in nanoseconds and pose (4, 4) of each pose kept, in the order they came."""
        return iter(self._poses)


def _apart(first: np.ndarray, second: np.ndarray) -> float:
    turn = geometry.rotation_vector(first[:3, :3].T @ second[:3, :3])
    return float(np.linalg.norm(second[:3, 3] - first[:3, 3]) + np.linalg.norm(turn))
