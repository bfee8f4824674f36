# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Similarities, and the one between two streams that saw the same frames."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from evict3r_ros import geometry
from evict3r_ros.mapping.sim3 import OverlapFrame, Sim3, align_overlap, depth_log_ratio, mean_rotation


def random_sim3(rng):
    rotation = geometry.rotation_from_vector(rng.normal(size=3))
    return Sim3(float(np.exp(rng.normal())), rotation, rng.normal(size=3))


def random_pose(rng):
    return geometry.transform(geometry.rotation_from_vector(rng.normal(size=3)), rng.normal(size=3))


def overlap_of(rng, truth, frames=16, noise=0.0):
    """Frames of an overlap whose old gauge lies at ``truth`` in the new one."""
    found = []
    for _ in range(frames):
        new = random_pose(rng)
        old = truth.pose(new)
        old[:3, :3] = geometry.rotation_from_vector(noise * rng.normal(size=3)) @ old[:3, :3]
        old[:3, 3] += noise * rng.normal(size=3)
        found.append(OverlapFrame(old, new, math.log(truth.scale) + noise * rng.normal()))
    return found


def assert_alike(first, second, tolerance=1e-9):
    assert first.scale == pytest.approx(second.scale, abs=tolerance)
    np.testing.assert_allclose(first.rotation, second.rotation, atol=tolerance)
    np.testing.assert_allclose(first.translation, second.translation, atol=tolerance)


@pytest.mark.parametrize('seed', range(5))
def test_a_product_acts_as_one_after_the_other_and_an_inverse_undoes(seed):
    rng = np.random.default_rng(seed)
    first, second, pose = random_sim3(rng), random_sim3(rng), random_pose(rng)
    np.testing.assert_allclose((first @ second).pose(pose), first.pose(second.pose(pose)), atol=1e-9)
    assert_alike(first @ first.inverse(), Sim3.identity())
    moved = first.pose(pose)[:3, :3]
    np.testing.assert_allclose(moved @ moved.T, np.eye(3), atol=1e-9)


@pytest.mark.parametrize('seed', range(5))
def test_an_overlap_without_noise_gives_the_similarity_exactly(seed):
    rng = np.random.default_rng(seed)
    truth = random_sim3(rng)
    edge = align_overlap(overlap_of(rng, truth), 1.0)
    assert_alike(edge.old_from_new, truth)
    np.testing.assert_allclose(edge.deviation, 0.0, atol=1e-7)
    assert edge.frames == 14


def test_the_first_two_frames_and_those_that_are_no_numbers_do_not_count():
    rng = np.random.default_rng(1)
    truth = random_sim3(rng)
    frames = overlap_of(rng, truth)
    frames[0] = OverlapFrame(random_pose(rng), random_pose(rng), 5.0)
    frames[1] = OverlapFrame(random_pose(rng), random_pose(rng), -5.0)
    frames[7] = OverlapFrame(np.full((4, 4), np.nan), random_pose(rng), 0.0)
    frames[9] = OverlapFrame(frames[9].old_pose, frames[9].new_pose, math.nan)
    edge = align_overlap(frames, 1.0)
    assert_alike(edge.old_from_new, truth)
    assert edge.frames == 12


def test_too_few_frames_or_no_depth_give_no_edge():
    rng = np.random.default_rng(2)
    frames = overlap_of(rng, random_sim3(rng), 4)
    assert align_overlap(frames, 1.0) is None
    assert align_overlap(overlap_of(rng, random_sim3(rng)), math.nan) is None
    assert align_overlap(overlap_of(rng, random_sim3(rng)), 0.0) is None


def test_one_wild_frame_hardly_moves_the_edge():
    rng = np.random.default_rng(3)
    truth = random_sim3(rng)
    frames = overlap_of(rng, truth, noise=0.001)
    wild = frames[8].old_pose.copy()
    wild[:3, 3] += 100.0
    frames[8] = OverlapFrame(wild, frames[8].new_pose, 3.0)
    assert_alike(align_overlap(frames, 1.0).old_from_new, truth, 0.005)


def test_the_covariance_is_that_of_the_scatter_and_positions_count_by_depth():
    rng = np.random.default_rng(4)
    truth = Sim3(2.0, np.eye(3), np.zeros(3))
    frames = overlap_of(rng, truth, 402, noise=0.02)
    near, far = align_overlap(frames, 1.0), align_overlap(frames, 10.0)
    np.testing.assert_allclose(near.deviation, 0.02, rtol=0.25)
    np.testing.assert_allclose(far.deviation[3:6], near.deviation[3:6] / 10.0)
    np.testing.assert_allclose(np.sqrt(np.diag(near.covariance)), near.deviation)


def test_a_mean_of_rotations_is_a_rotation_in_their_middle():
    turns = np.stack([geometry.rotation_from_vector(np.array([0.0, 0.0, angle])) for angle in (-0.3, 0.1, 0.5)])
    np.testing.assert_allclose(mean_rotation(turns), geometry.rotation_from_vector(np.array([0.0, 0.0, 0.1])))


def test_the_ratio_of_depths_is_taken_where_both_are_sure():
    new, sure = torch.ones(4, 4), torch.full((4, 4), 5.0)
    old = torch.full((4, 4), 2.0)
    old[0] = 100.0
    unsure = sure.clone()
    unsure[0] = 1.0
    assert depth_log_ratio(old, new, unsure, sure) == pytest.approx(math.log(2.0))
    assert math.isnan(depth_log_ratio(torch.full((4, 4), torch.nan), new, sure, sure))
