# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The graph of keyframes: drift that a loop corrects, and loops that must not be believed."""

from __future__ import annotations

import numpy as np
import pytest

from evict3r_ros import geometry
from evict3r_ros.errors import UserError
from evict3r_ros.mapping.graph_settings import GraphSettings
from evict3r_ros.mapping.pose_graph import LoopEdge, PoseGraph
from evict3r_ros.mapping.sim3 import Sim3

DEVIATION = np.array([0.02, 0.02, 0.02, 0.05, 0.05, 0.05, 0.05])
DEPTH = 3.0


def yaw(angle):
    return geometry.rotation_from_vector(np.array([0.0, angle, 0.0]))


def circle(nodes, laps=1, radius=5.0):
    """Return poses of a camera that goes round and looks along its way; y is down."""
    angles = 2.0 * np.pi * laps * np.arange(nodes) / nodes
    poses = [geometry.transform(yaw(angle), [-radius * np.cos(angle), 0.0, radius * np.sin(angle)]) for angle in angles]
    return [geometry.invert(poses[0]) @ pose for pose in poses]


def drifted(truth, turn, log_scale):
    """Return odometry of which each step turns too far, and is too long by a scale that grows."""
    poses = [truth[0]]
    for number in range(1, len(truth)):
        step = geometry.invert(truth[number - 1]) @ truth[number]
        step[:3, :3] = step[:3, :3] @ yaw(turn)
        step[:3, 3] *= np.exp(log_scale * number)
        poses.append(poses[-1] @ step)
    return poses


def graph_of(poses, settings=None, log_scale=0.0):
    graph = PoseGraph(settings)
    for number, pose in enumerate(poses):
        graph.add(pose, DEPTH * np.exp(log_scale * number))
    return graph


def loop_of(truth, old, new, log_scale=0.0, noise=0.0, rng=None):
    """Return the true relation of two nodes whose units differ by their scale drift, with noise."""
    relative = geometry.invert(truth[old]) @ truth[new]
    rng = rng or np.random.default_rng(0)
    turn = geometry.rotation_from_vector(noise * rng.normal(size=3))
    # Odometry's unit at a node: a metre is exp(log_scale * number) of it.
    unit = np.exp(log_scale * old)
    scale = np.exp(-log_scale * (new - old) + noise * rng.normal())
    return LoopEdge(
        old, new, Sim3(scale, relative[:3, :3] @ turn, unit * relative[:3, 3] + noise * rng.normal(size=3)), DEVIATION
    )


def worst(graph, truth):
    turns = [
        np.linalg.norm(geometry.rotation_vector(graph.node(number).rotation.T @ pose[:3, :3]))
        for number, pose in enumerate(truth)
    ]
    ways = [np.linalg.norm(graph.node(number).translation - pose[:3, 3]) for number, pose in enumerate(truth)]
    return max(turns), max(ways)


def nodes_of(graph):
    return np.stack([graph.node(number).pose(np.eye(4)) for number in range(len(graph))])


def test_without_a_loop_the_graph_is_the_odometry():
    poses = drifted(circle(30), 0.01, 0.01)
    graph = graph_of(poses)
    np.testing.assert_allclose(nodes_of(graph), np.stack(poses), atol=1e-9)
    np.testing.assert_allclose(graph.correction(29).pose(np.eye(4)), np.eye(4), atol=1e-9)


def test_a_circle_that_drifted_in_heading_and_scale_is_corrected_by_noisy_loops():
    truth = circle(120, laps=2)
    poses, rng = drifted(truth, 0.006, 0.003), np.random.default_rng(3)
    graph = graph_of(poses, log_scale=0.003)
    before = worst(graph, truth)
    assert before[0] > 0.6 and before[1] > 4.0
    for new in range(62, 120, 6):
        assert graph.close(loop_of(truth, new - 60, new, 0.003, 0.01, rng)) == ''
    turn, way = worst(graph, truth)
    assert len(graph.loops) == 10 and turn < 0.3 * before[0] and way < 0.3 * before[1]
    # What odometry says next goes on from the corrected end, at the corrected scale.
    step = geometry.transform(np.eye(3), [0.0, 0.0, 1.0])
    scale = graph.node(119).scale
    number = graph.add(poses[-1] @ step, DEPTH)
    assert np.linalg.norm(graph.node(number).translation - graph.node(119).translation) == pytest.approx(scale)


def test_scale_that_doubled_on_the_way_is_closed():
    log_scale = np.log(2.0) / 99
    truth = circle(100)
    graph = graph_of(drifted(truth, 0.0, log_scale), log_scale=log_scale)
    before = worst(graph, truth)
    assert graph.close(loop_of(truth, 0, 99, log_scale)) == ''
    assert graph.node(99).scale == pytest.approx(0.5, rel=0.1)
    assert worst(graph, truth)[1] < 0.35 * before[1]


def test_a_false_loop_is_refused_and_changes_nothing():
    truth = circle(120, laps=2)
    graph = graph_of(drifted(truth, 0.002, 0.0))
    for new in range(62, 120, 12):
        assert graph.close(loop_of(truth, new - 60, new)) == ''
    before, loops = nodes_of(graph), list(graph.loops)
    # Two places on opposite sides that look the same.
    false = LoopEdge(20, 110, Sim3.identity(), DEVIATION)
    assert graph.close(false).startswith('residual')
    np.testing.assert_array_equal(nodes_of(graph), before)
    assert graph.loops == loops


def test_a_false_loop_is_refused_even_as_the_first_where_odometry_cannot_be_so_wrong():
    truth = circle(60)
    graph = graph_of(truth)
    before = nodes_of(graph)
    assert graph.close(LoopEdge(0, 30, Sim3.identity(), DEVIATION)).startswith('residual')
    np.testing.assert_array_equal(nodes_of(graph), before)


def test_a_graph_that_does_not_converge_stays_as_it_was():
    truth = circle(60)
    graph = graph_of(drifted(truth, 0.01, 0.01), GraphSettings(iterations=1), log_scale=0.01)
    before = nodes_of(graph)
    assert graph.close(loop_of(truth, 0, 59, 0.01)) == 'no convergence'
    nothing = Sim3(np.nan, np.eye(3), np.zeros(3))
    assert graph.close(LoopEdge(0, 59, nothing, DEVIATION)) == 'no numbers'
    np.testing.assert_array_equal(nodes_of(graph), before)
    assert graph.loops == []


@pytest.mark.parametrize('settings', [{'odometry_turn': 0.0}, {'most_residual': -1.0}, {'iterations': 0}])
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(UserError):
        GraphSettings(**settings)
