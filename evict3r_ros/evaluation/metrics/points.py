# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Point clouds against the truth, as 7-Scenes and Neural RGB-D are evaluated (Spann3R, arXiv 2408.16061, and after it
CUT3R, StreamVGGT and Evict3R).

Accuracy: distance from each predicted point to the nearest true one. Completeness: from each true point to the nearest
predicted one. Normal consistency: |cosine| between the normals of these pairs, each way, and the mean of both ways.
Every figure as mean and as median. Clouds are (n, 3) float, in metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from evict3r_ros.evaluation.metrics.pose import Similarity, align

NORMAL_NEIGHBOURS = 30
"""Points, itself included, whose best plane gives a point its normal."""
ICP_DISTANCE = 0.1
"""Metres: pairs further apart do not count in ICP."""
ICP_ROUNDS = 30
_BLOCK = 100_000


@dataclass(frozen=True)
class PointErrors:
    """Metres, and |cosine| for normals."""

    accuracy_mean: float
    accuracy_median: float
    completeness_mean: float
    completeness_median: float
    normals_mean: float
    """Normal consistency, of both ways."""
    normals_median: float


def normals(points: np.ndarray, tree: KDTree | None = None) -> np.ndarray:
    """Unit normals (n, 3), their sign undecided: the direction in which a point's nearest neighbours vary least."""
    tree = tree or KDTree(points)
    answer = np.empty((len(points), 3))
    for start in range(0, len(points), _BLOCK):
        _, near = tree.query(points[start : start + _BLOCK], k=min(NORMAL_NEIGHBOURS, len(points)))
        patches = points[near.reshape(len(near), -1)]
        patches = patches - patches.mean(axis=1, keepdims=True)
        answer[start : start + _BLOCK] = np.linalg.eigh(patches.transpose(0, 2, 1) @ patches)[1][:, :, 0]
    return answer


def icp(source: np.ndarray, target: np.ndarray, distance: float = ICP_DISTANCE, rounds: int = ICP_ROUNDS) -> Similarity:
    """The rigid motion of source (n, 3) onto target (m, 3) from where they lie, point to point (Besl and McKay 1992).

    Pairs further apart than ``distance`` do not count; it ends when their root mean square hardly changes.
    """
    tree = KDTree(target)
    moved, last = Similarity(1.0, np.eye(3), np.zeros(3)), np.inf
    for _ in range(rounds):
        away, nearest = tree.query(moved.points(source), distance_upper_bound=distance)
        paired = np.isfinite(away)
        if paired.sum() < 3:
            return moved
        error = np.sqrt((away[paired] ** 2).mean())
        if abs(last - error) < 1e-6 * max(error, 1e-12):
            break
        moved, last = align(source[paired], target[nearest[paired]], with_scale=False), error
    return moved


def point_errors(predicted: np.ndarray, truth: np.ndarray) -> PointErrors:
    """Errors of clouds that lie in one frame already. Raises ValueError for an empty one."""
    if not len(predicted) or not len(truth):
        raise ValueError(f'clouds of {len(predicted)} and {len(truth)} points cannot be compared')
    predicted_tree, true_tree = KDTree(predicted), KDTree(truth)
    accuracy, nearest_true = true_tree.query(predicted)
    completeness, nearest_predicted = predicted_tree.query(truth)
    predicted_normals, true_normals = normals(predicted, predicted_tree), normals(truth, true_tree)
    ways = (
        np.abs((predicted_normals * true_normals[nearest_true]).sum(1)),
        np.abs((true_normals * predicted_normals[nearest_predicted]).sum(1)),
    )
    return PointErrors(
        float(accuracy.mean()),
        float(np.median(accuracy)),
        float(completeness.mean()),
        float(np.median(completeness)),
        float(np.mean([way.mean() for way in ways])),
        float(np.mean([np.median(way) for way in ways])),
    )
