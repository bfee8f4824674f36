# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth, pose and intervals: against other implementations, known answers and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from evo.core import metrics
from evo.core.trajectory import PosePath3D
from scipy.optimize import linprog, minimize_scalar
from scipy.spatial.transform import Rotation

from evict3r_ros.evaluation.metrics import depth, intervals, pose


def walk(frames: int, seed: int) -> np.ndarray:
    """Return a path that wanders and turns, (frames, 4, 4)."""
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, 3] = rng.normal(0, 0.1, (frames, 3)).cumsum(0) + rng.normal(0, 3, 3)
    poses[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 0.05, (frames, 3)).cumsum(0)).as_matrix()
    return poses


def disturbed(truth: np.ndarray, seed: int) -> np.ndarray:
    """Return the path in another frame and unit, with small errors."""
    rng = np.random.default_rng(seed)
    answer = pose.Similarity(0.3, Rotation.random(rng=rng).as_matrix(), rng.normal(0, 5, 3)).poses(truth)
    answer[:, :3, 3] += rng.normal(0, 0.02, (len(truth), 3))
    answer[:, :3, :3] = answer[:, :3, :3] @ Rotation.from_rotvec(rng.normal(0, 0.03, (len(truth), 3))).as_matrix()
    return answer


@pytest.mark.parametrize('with_scale', [True, False])
def test_trajectory_errors_are_evos(with_scale):
    truth = walk(40, seed=1)
    predicted = disturbed(truth, seed=2)
    reference, estimate = PosePath3D(poses_se3=list(truth)), PosePath3D(poses_se3=list(predicted))
    estimate.align(reference, correct_scale=with_scale)

    def evo(metric) -> float:
        metric.process_data((reference, estimate))
        return metric.get_statistic(metrics.StatisticsType.rmse)

    part, unit = metrics.PoseRelation, metrics.Unit.frames
    assert pose.ate(predicted, truth, with_scale) == pytest.approx(evo(metrics.APE(part.translation_part)), rel=1e-9)
    for delta in (1, 5):
        translation, rotation = pose.relative_errors(predicted, truth, delta, with_scale)
        assert pose.rms(translation) == pytest.approx(
            evo(metrics.RPE(part.translation_part, delta, unit, all_pairs=True)), rel=1e-9
        )
        assert pose.rms(rotation) == pytest.approx(
            evo(metrics.RPE(part.rotation_angle_deg, delta, unit, all_pairs=True)), rel=1e-7
        )
    assert pose.path_length(truth) == pytest.approx(reference.path_length)


def test_an_exact_answer_in_another_frame_and_unit_has_no_error():
    truth = walk(20, seed=3)
    moved = pose.Similarity(7.0, Rotation.random(rng=np.random.default_rng(0)).as_matrix(), np.ones(3)).poses(truth)
    assert pose.ate_over_length(moved, truth) < 1e-12
    assert pose.rotation_errors(moved, truth).max() < 1e-6
    assert pose.ate(moved, truth, with_scale=False) > 1.0


def test_a_mirrored_path_is_not_matched_by_a_mirror():
    truth = walk(30, seed=4)
    mirrored = truth.copy()
    mirrored[:, 0, 3] *= -1.0
    found = pose.align(mirrored[:, :3, 3], truth[:, :3, 3])
    assert np.linalg.det(found.rotation) == pytest.approx(1.0)
    assert pose.ate(mirrored, truth) > 0.01


def test_a_still_camera_is_placed_in_the_middle():
    truth = walk(30, seed=5)
    still = np.tile(np.eye(4), (30, 1, 1))
    spread = truth[:, :3, 3] - truth[:, :3, 3].mean(0)
    assert pose.ate(still, truth) == pytest.approx(np.sqrt((spread**2).sum(1).mean()))
    assert math.isnan(pose.ate_over_length(truth, still))


def test_rotation_errors_are_relative_to_the_first_frame():
    truth = walk(10, seed=6)
    predicted = truth.copy()
    predicted[:, :3, :3] = Rotation.from_euler('x', 50, degrees=True).as_matrix() @ predicted[:, :3, :3]
    assert pose.rotation_errors(predicted, truth).max() < 1e-6
    predicted[4, :3, :3] = predicted[4, :3, :3] @ Rotation.from_euler('y', 0.01, degrees=True).as_matrix()
    np.testing.assert_allclose(pose.rotation_errors(predicted, truth)[3:6], [0, 0.01, 0], atol=1e-6)
    turns = Rotation.from_euler('z', [[0], [1e-5], [90], [180]], degrees=True).as_matrix()
    np.testing.assert_allclose(pose.rotation_angles(turns), [0, 1e-5, 90, 180], atol=1e-8)


def test_depth_errors_by_hand():
    truth = torch.tensor([1.0, 2.0, 4.0, 0.0, math.nan, 3.0])
    predicted = torch.tensor([1.1, 1.0, 4.0, 5.0, 1.0, -1.0])
    errors = depth.depth_errors(predicted, truth, 'none')
    assert errors.pixels == 3
    assert errors.absrel == pytest.approx((0.1 + 0.5 + 0.0) / 3)
    assert errors.rmse == pytest.approx(math.sqrt((0.01 + 1.0) / 3))
    assert errors.log_rmse == pytest.approx(math.sqrt((math.log(1.1) ** 2 + math.log(2) ** 2) / 3))
    assert errors.deltas == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    masked = depth.depth_errors(predicted, truth, 'none', torch.tensor([True, False, True, True, True, True]))
    assert masked.pixels == 2 and masked.absrel == pytest.approx(0.05)
    nothing = depth.depth_errors(predicted[3:5], truth[3:5])
    assert nothing.pixels == 0 and math.isnan(nothing.absrel) and math.isnan(nothing.deltas[2])


def test_alignments_undo_what_they_may_undo():
    truth = 1.0 + 9.0 * torch.rand(50, 40, generator=torch.Generator().manual_seed(0))
    scaled, shifted = truth / 3.0, (truth - 0.7) / 3.0
    assert depth.depth_errors(truth, truth, 'none').absrel == 0.0
    assert depth.depth_errors(scaled, truth, 'none').absrel == pytest.approx(2 / 3)
    for how in ('median', 'scale', 'scale&shift'):
        assert depth.depth_errors(scaled, truth, how).absrel < 1e-6
    assert depth.depth_errors(shifted, truth, 'scale&shift').absrel < 1e-6
    assert depth.depth_errors(shifted, truth, 'scale').absrel > 0.01
    with pytest.raises(ValueError, match='not one of'):
        depth.depth_errors(truth, truth, 'mean')


def test_least_absolute_deviations_are_the_least():
    generator = torch.Generator().manual_seed(1)
    truth = 1.0 + 9.0 * torch.rand(101, generator=generator, dtype=torch.float64)
    predicted = truth * (0.5 + torch.rand(101, generator=generator, dtype=torch.float64))
    predicted[:5] *= 30.0
    scale, _ = depth.alignment(predicted, truth, 'scale')
    best = minimize_scalar(lambda s: float((s * predicted - truth).abs().sum()), bounds=(0, 10), method='bounded')
    assert float((scale * predicted - truth).abs().sum()) <= best.fun * (1 + 1e-9)
    # |residual| <= e is a linear programme in (s, o, e_1 ... e_n).
    n, d, t = len(truth), predicted.numpy(), truth.numpy()
    rows = np.stack([d, np.ones(n)], axis=1)
    programme = linprog(
        np.r_[0, 0, np.ones(n)],
        A_ub=np.block([[rows, -np.eye(n)], [-rows, -np.eye(n)]]),
        b_ub=np.r_[t, -t],
        bounds=[(None, None)] * 2 + [(0, None)] * n,
    )
    scale, shift = depth.alignment(predicted, truth, 'scale&shift')
    assert float((scale * predicted + shift - truth).abs().sum()) <= programme.fun * 1.001


def test_a_flat_prediction_is_a_constant_depth():
    truth = torch.tensor([1.0, 2.0, 3.0, 8.0])
    for how in ('median', 'scale', 'scale&shift'):
        errors = depth.depth_errors(torch.full((4,), 0.1), truth, how)
        assert 0.3 < errors.absrel < 0.8, how


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = [
        found.low <= 5.0 <= found.high
        for found in (intervals.interval(rng.normal(5.0, 2.0, 40), seed=seed) for seed in range(100))
    ]
    assert 0.86 <= np.mean(covered) <= 1.0


def test_pairs_see_what_separate_intervals_do_not():
    rng = np.random.default_rng(1)
    hard = rng.lognormal(0, 1, 30)
    better, worse = hard - 0.05 + rng.normal(0, 0.01, 30), hard
    found = intervals.paired_difference(better, worse)
    assert found.excludes_zero and found.high < 0.0 and found.value == pytest.approx(-0.05, abs=0.01)
    assert intervals.interval(better).high > intervals.interval(worse).low
    assert not intervals.paired_difference(hard + rng.normal(0, 0.5, 30), hard, np.median).excludes_zero
    same = intervals.paired_difference(hard, hard)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0) and not same.excludes_zero
    with pytest.raises(ValueError, match='pairs'):
        intervals.paired_difference(hard, hard[:3])
    with pytest.raises(ValueError, match='no sequences'):
        intervals.interval([])


@pytest.mark.parametrize(
    'values', [[3.0], [1.0, 2.0], [2.0, 2.0, 1.0, 5.0], [4.0, 1.0, 3.0, 2.0], [1.0, 1.0, 2.0, 2.0], [5.0, 1.0, 3.0]]
)
def test_the_median_is_numpys(values):
    scale, _ = depth.alignment(torch.ones(len(values)), torch.tensor(values), 'median')
    assert scale == np.median(values)
