# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Similarities in 3-D, and the one that joins two streams which saw the same frames.

Every stream has a gauge of its own: its first camera is its world, and its unit of length is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from evict3r_ros import geometry

WARM_UP = 2
"""First frames of a new stream that do not count: its scale is not settled yet."""
LEAST_FRAMES = 3
"""Frames that must count, or an overlap says nothing of its scatter."""
DEVIATION_OF_MAD = 1.4826
"""Standard deviation over median absolute deviation, of a normal distribution."""


@dataclass(frozen=True)
class Sim3:
    """A similarity: target = scale * rotation @ source + translation."""

    scale: float
    rotation: np.ndarray
    """(3, 3) float64."""
    translation: np.ndarray
    """(3,) float64, in the target's unit."""

    @classmethod
    def identity(cls) -> Sim3:
        """Return the similarity that changes nothing."""
        return cls(1.0, np.eye(3), np.zeros(3))

    @classmethod
    def rigid(cls, matrix: np.ndarray) -> Sim3:
        """Return a rigid (4, 4) transform as a similarity of scale 1."""
        return cls(1.0, matrix[:3, :3], matrix[:3, 3])

    def __matmul__(self, other: Sim3) -> Sim3:
        return Sim3(
            self.scale * other.scale,
            self.rotation @ other.rotation,
            self.scale * self.rotation @ other.translation + self.translation,
        )

    def inverse(self) -> Sim3:
        """Return the similarity that undoes this one."""
        rotation = self.rotation.T
        return Sim3(1.0 / self.scale, rotation, -rotation @ self.translation / self.scale)

    def pose(self, world_from_camera: np.ndarray) -> np.ndarray:
        """Return a rigid pose (4, 4) of the source's world in the target's: turned, and its position moved."""
        position = self.scale * self.rotation @ world_from_camera[:3, 3] + self.translation
        return geometry.transform(self.rotation @ world_from_camera[:3, :3], position)


@dataclass(frozen=True)
class OverlapFrame:
    """What two streams said of one frame."""

    old_pose: np.ndarray
    """world_from_camera (4, 4) of the older stream, in its gauge."""
    new_pose: np.ndarray
    """world_from_camera (4, 4) of the newer stream, in its gauge."""
    log_ratio: float
    """Logarithm of the older stream's depth over the newer one's, median over confident pixels."""


@dataclass(frozen=True)
class Edge:
    """How the gauge of a new stream lies in that of the one before it."""

    old_from_new: Sim3
    deviation: np.ndarray
    """(7,) standard deviations of one frame of the overlap: rotation about x y z in radians, position x y z over the
    median depth, and log scale."""
    frames: int
    """Frames of the overlap that counted."""

    @property
    def covariance(self) -> np.ndarray:
        """(7, 7): of the edge, in the order of ``deviation``.

        The frames of an overlap share their errors, so that their number is not divided by: it is a bound.
        """
        return np.diag(self.deviation**2)


def depth_log_ratio(
    old_depth: torch.Tensor, new_depth: torch.Tensor, old_confidence: torch.Tensor, new_confidence: torch.Tensor
) -> float:
    """Return the median log ratio of two depths (H, W) over the pixels of which both streams are surer than usual.

    NaN if no pixel is left that is finite and positive in both.
    """
    sure = (old_confidence >= old_confidence.median()) & (new_confidence >= new_confidence.median())
    ratio = torch.log(old_depth) - torch.log(new_depth)
    ratio = ratio[sure & torch.isfinite(ratio)]
    return float(ratio.median()) if ratio.numel() else float('nan')


def mean_rotation(rotations: np.ndarray) -> np.ndarray:
    """Return the chordal mean (3, 3) of rotations (n, 3, 3): the rotation nearest to their sum."""
    left, _, right = np.linalg.svd(rotations.sum(axis=0))
    mean: np.ndarray = left @ np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))]) @ right
    return mean


def align_overlap(frames: Sequence[OverlapFrame], depth: float) -> Edge | None:
    """Return the edge that an overlap gives; None if too few of its frames are finite.

    Scale: median of the depths' ratios; rotation: chordal mean of ``R_old R_new^T``; translation: median. The first
    ``WARM_UP`` frames are left out. depth: a typical one in the older stream's unit, in which positions are measured.
    """
    usable = [
        frame
        for frame in frames[WARM_UP:]
        if np.isfinite(frame.log_ratio) and np.isfinite(frame.old_pose).all() and np.isfinite(frame.new_pose).all()
    ]
    if len(usable) < LEAST_FRAMES or not 0.0 < depth < np.inf:
        return None
    old, new = (np.stack([getattr(frame, name) for frame in usable]) for name in ('old_pose', 'new_pose'))
    log_ratios = np.array([frame.log_ratio for frame in usable])
    scale = float(np.exp(np.median(log_ratios)))
    turns = old[:, :3, :3] @ new[:, :3, :3].transpose(0, 2, 1)
    rotation = mean_rotation(turns)
    shifts = old[:, :3, 3] - scale * new[:, :3, 3] @ rotation.T
    translation = np.median(shifts, axis=0)
    residuals = np.column_stack(
        [
            [geometry.rotation_vector(turn @ rotation.T) for turn in turns],
            (shifts - translation) / depth,
            log_ratios - np.median(log_ratios),
        ]
    )
    deviation = DEVIATION_OF_MAD * np.median(np.abs(residuals), axis=0)
    return Edge(Sim3(scale, rotation, translation), deviation, len(usable))
