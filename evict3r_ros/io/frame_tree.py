# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Static transforms joined along their tree: what /tf_static says, whether it was heard live or read from a bag."""

from __future__ import annotations

import numpy as np

from evict3r_ros.geometry import invert


class FrameTree:
    """Frames and their parents. A leading slash of ROS 1 is no part of a name. Not safe between threads."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, np.ndarray]] = {}  # child -> (parent, parent_from_child)

    def add(self, parent: str, child: str, parent_from_child: np.ndarray) -> None:
        """Add a transform (4, 4); the latest one of a child counts."""
        self._parents[bare(child)] = bare(parent), parent_from_child

    def find(self, target: str, source: str) -> np.ndarray | None:
        """Return the (4, 4) matrix target_from_source over any chain, up and down, or None without one."""
        target_to_root, source_to_root = self.carriers(target), self.carriers(source)
        for frame, frame_from_target in target_to_root.items():
            if frame in source_to_root:
                target_from_source: np.ndarray = invert(frame_from_target) @ source_to_root[frame]
                return target_from_source
        return None

    def root(self, frame: str) -> tuple[str, np.ndarray]:
        """Return the frame at the top of the chain over `frame`, and the (4, 4) matrix root_from_frame.

        A frame that nothing carries is its own root.
        """
        return list(self.carriers(frame).items())[-1]

    def carriers(self, frame: str) -> dict[str, np.ndarray]:
        """Return each frame from here to the root, nearest first, and the matrix from here to it. A loop ends it."""
        frame = bare(frame)
        passed = {frame: np.eye(4)}
        while frame in self._parents and self._parents[frame][0] not in passed:
            parent, parent_from_frame = self._parents[frame]
            passed[parent] = parent_from_frame @ passed[frame]
            frame = parent
        return passed


def bare(frame: str) -> str:
    """Return a frame's name without the leading slash that some drivers still write."""
    return frame.lstrip('/')
