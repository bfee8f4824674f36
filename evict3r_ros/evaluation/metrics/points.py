# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Point cloud errors against ground truth, as for 7-Scenes and Neural RGB-D.

The protocol is that of Spann3R (arXiv 2408.16061), which CUT3R, StreamVGGT and Evict3R follow.

Accuracy: distance from each predicted point to the nearest true one. Completeness: from each true point to the nearest
predicted one. Normal consistency: |cosine| between the normals of these pairs, mean of both directions.
Each is given as mean and as median. Clouds are (n, 3) float, in metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from evict3r_ros.evaluation.metrics.pose import Similarity, align

NORMAL_NEIGHBOURS = 30
"""Neighbours, the point itself included, to which a plane is fitted for the normal."""
ICP_DISTANCE = 0.1
"""Metres: ICP ignores pairs further apart."""
ICP_ROUNDS = 30
_BLOCK = 100_000


@dataclass(frozen=True)
class PointErrors:
    """Errors in metres, and |cosine| for normals."""

    accuracy_mean: float
    accuracy_median: float
    completeness_mean: float
    completeness_median: float
    normals_mean: float
    """Normal consistency, mean of both directions."""
    normals_median: float


def normals(points: np.ndarray, tree: KDTree | None = None) -> np.ndarray:
    """Return unit normals (n, 3) of unknown sign: the direction in which a point's neighbours vary least."""
    tree = tree or KDTree(points)
    result = np.empty((len(points), 3))
    for start in range(0, len(points), _BLOCK):
        _, near = tree.query(points[start : start + _BLOCK], k=min(NORMAL_NEIGHBOURS, len(points)))
        patches = points[near.reshape(len(near), -1)]
        patches = patches - patches.mean(axis=1, keepdims=True)
        result[start : start + _BLOCK] = np.linalg.eigh(patches.transpose(0, 2, 1) @ patches)[1][:, :, 0]
    return result


def icp(source: np.ndarray, target: np.ndarray, distance: float = ICP_DISTANCE, rounds: int = ICP_ROUNDS) -> Similarity:
    """Return the rigid motion of source (n, 3) onto target (m, 3) by point-to-point ICP (Besl and McKay 1992).

    Both must be roughly aligned. Pairs further apart than ``distance`` are ignored; iterations end when the root mean
    square of the distances hardly changes.
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
    """Return the errors of two aligned clouds. Raises ValueError for an empty one."""
    if not len(predicted) or not len(truth):
        raise ValueError(f'clouds of {len(predicted)} and {len(truth)} points cannot be compared')
    predicted_tree, true_tree = KDTree(predicted), KDTree(truth)
    accuracy, nearest_true = true_tree.query(predicted)
    completeness, nearest_predicted = predicted_tree.query(truth)
    predicted_normals, true_normals = normals(predicted, predicted_tree), normals(truth, true_tree)
    directions = (
        np.abs((predicted_normals * true_normals[nearest_true]).sum(1)),
        np.abs((true_normals * predicted_normals[nearest_predicted]).sum(1)),
    )
    return PointErrors(
        float(accuracy.mean()),
        float(np.median(accuracy)),
        float(completeness.mean()),
        float(np.median(completeness)),
        float(np.mean([way.mean() for way in directions])),
        float(np.mean([np.median(way) for way in directions])),
    )
