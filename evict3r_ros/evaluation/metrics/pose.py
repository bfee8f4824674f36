# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Trajectory errors against ground truth. Poses are ``world_from_camera``, (n, 4, 4) float64, OpenCV axes.

Definitions are those of Sturm et al. (IROS 2012) and Zhang and Scaramuzza (IROS 2018), as in `evo`; a test
compares the two. ATE is the root mean square of the positions' distances after one least-squares alignment (Umeyama,
PAMI 1991) of all positions; RPE compares the motion over ``delta`` frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evict3r_ros.geometry import invert


@dataclass(frozen=True)
class Similarity:
    """A similarity transform: target = scale * rotation @ source + translation."""

    scale: float
    rotation: np.ndarray
    """(3, 3)."""
    translation: np.ndarray
    """(3,)."""

    def points(self, points: np.ndarray) -> np.ndarray:
        """Transform points (..., 3)."""
        moved: np.ndarray = self.scale * points @ self.rotation.T + self.translation
        return moved

    def poses(self, poses: np.ndarray) -> np.ndarray:
        """Transform poses (n, 4, 4): the rotation applies to all of a pose, scale and translation to its position."""
        moved = np.array(poses, dtype=np.float64)
        moved[:, :3, :3] = self.rotation @ moved[:, :3, :3]
        moved[:, :3, 3] = self.points(moved[:, :3, 3])
        return moved


def align(source: np.ndarray, target: np.ndarray, with_scale: bool = True) -> Similarity:
    """Return the similarity that brings points source (n, 3) closest to target (n, 3) by least squares.

    Umeyama, PAMI 1991, equations 40 to 42. with_scale False keeps the scale at 1; so does a source without extent,
    which is moved to the target's mean.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    source_mean, target_mean = source.mean(0), target.mean(0)
    centred = source - source_mean
    variance = (centred**2).sum() / len(source)
    if not variance > (1e-12 * (1.0 + np.abs(source_mean).max())) ** 2:
        return Similarity(1.0, np.eye(3), target_mean - source_mean)
    covariance = (target - target_mean).T @ centred / len(source)
    left, singular, right = np.linalg.svd(covariance)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = (left * signs) @ right
    scale = float((singular * signs).sum() / variance) if with_scale else 1.0
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)


def path_length(poses: np.ndarray) -> float:
    """Return the length of the polygon through the positions."""
    return float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum())


def rotation_angles(rotations: np.ndarray) -> np.ndarray:
    """Return angles (...,) in degrees of rotations (..., 3, 3); also exact for small angles, unlike the trace alone."""
    twist = np.stack(
        [
            rotations[..., 2, 1] - rotations[..., 1, 2],
            rotations[..., 0, 2] - rotations[..., 2, 0],
            rotations[..., 1, 0] - rotations[..., 0, 1],
        ],
        axis=-1,
    )
    trace = np.trace(rotations, axis1=-2, axis2=-1)
    angles: np.ndarray = np.degrees(np.arctan2(np.linalg.norm(twist, axis=-1), trace - 1.0))
    return angles


def rotation_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return angles (n,) in degrees between predicted and true rotations, each relative to its first frame."""
    found = predicted[:1, :3, :3].transpose(0, 2, 1) @ predicted[:, :3, :3]
    true = truth[:1, :3, :3].transpose(0, 2, 1) @ truth[:, :3, :3]
    return rotation_angles(true.transpose(0, 2, 1) @ found)


def position_errors(predicted: np.ndarray, truth: np.ndarray, with_scale: bool = True) -> np.ndarray:
    """Return distances (n,) from predicted to true positions after one alignment, in the truth's unit."""
    moved = align(predicted[:, :3, 3], truth[:, :3, 3], with_scale).points(predicted[:, :3, 3])
    distances: np.ndarray = np.linalg.norm(moved - truth[:, :3, 3], axis=1)
    return distances


def ate(predicted: np.ndarray, truth: np.ndarray, with_scale: bool = True) -> float:
    """Return the absolute trajectory error: the root mean square of ``position_errors``."""
    return float(np.sqrt((position_errors(predicted, truth, with_scale) ** 2).mean()))


def ate_over_length(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return the ATE after Sim(3) alignment divided by the length of the true path; NaN for a length of 0."""
    length = path_length(truth)
    return ate(predicted, truth) / length if length > 0.0 else float('nan')


def relative_errors(
    predicted: np.ndarray, truth: np.ndarray, delta: int = 1, with_scale: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return the RPE over ``delta`` frames: translations (n - delta,) in the truth's unit, and angles in degrees.

    The prediction is aligned as for the ATE first; for relative poses this only changes the unit of length.
    """
    if not 1 <= delta < len(truth):
        raise ValueError(f'a step of {delta} frames does not fit a trajectory of {len(truth)}')
    moved = align(predicted[:, :3, 3], truth[:, :3, 3], with_scale).poses(predicted)
    errors = np.stack(
        [
            invert(invert(true_a) @ true_b) @ (invert(a) @ b)
            for a, b, true_a, true_b in zip(moved[:-delta], moved[delta:], truth[:-delta], truth[delta:], strict=True)
        ]
    )
    return np.linalg.norm(errors[:, :3, 3], axis=1), rotation_angles(errors[:, :3, :3])


def rms(values: np.ndarray) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))
