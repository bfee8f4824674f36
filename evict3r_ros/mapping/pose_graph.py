# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keyframes as nodes in Sim(3), the odometry between them and loops as edges; what a loop corrects, or breaks.

A false loop is worse than none: a loop is taken back if the graph does not converge with it, if any edge is left with
more than it should have by chance, or if all edges together are.
"""

from __future__ import annotations

from dataclasses import dataclass

import gtsam
import numpy as np

from evict3r_ros import geometry
from evict3r_ros.mapping.graph_settings import GraphSettings
from evict3r_ros.mapping.sim3 import Sim3, mean_rotation

FREEDOMS = 7
FIXED = 1e-6
"""Standard deviation of the first node, which stays."""


@dataclass(frozen=True)
class LoopEdge:
    """A measured similarity between two keyframes that are far apart in time."""

    old: int
    new: int
    old_from_new: Sim3
    """From the new camera's frame and unit to the old one's."""
    deviation: np.ndarray
    """(7,): see ``sim3.Edge.deviation``, with the position in the old camera's unit."""


class PoseGraph:
    """Sim(3) nodes from odometry, and the loops that were believed. Numbers of nodes count from 0."""

    def __init__(self, settings: GraphSettings | None = None):
        self.settings = settings or GraphSettings()
        self.loops: list[LoopEdge] = []
        self._odometry: list[np.ndarray] = []
        self._depths: list[float] = []
        self._found: list[Sim3] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, world_from_camera: np.ndarray, depth: float) -> int:
        """Add a keyframe where odometry (4, 4) has it, behind the last one; depth: a typical one, in odometry's unit.

        Returns the node's number.
        """
        self._odometry.append(world_from_camera)
        self._depths.append(depth)
        number = len(self._found)
        own = self.odometry(number)
        self._found.append(own if number == 0 else self.correction(number - 1) @ own)
        return number

    def odometry(self, number: int) -> Sim3:
        """Return world_from_camera of a node as odometry had it."""
        return Sim3.rigid(self._odometry[number])

    def node(self, number: int) -> Sim3:
        """Return world_from_camera of a node as the graph has it; its scale takes odometry's unit to the world's."""
        return self._found[number]

    def correction(self, number: int) -> Sim3:
        """Return what takes odometry's world to the graph's at a node."""
        return self._found[number] @ self.odometry(number).inverse()

    def close(self, loop: LoopEdge) -> str:
        """Optimise with one more loop; return '' if it is believed, or else the reason, and nothing has changed."""
        found = self.solve(loop)
        if isinstance(found, str):
            return found
        self.accept(loop, found)
        return ''

    def accept(self, loop: LoopEdge, nodes: list[Sim3]) -> None:
        """Believe a loop: what ``solve`` returned is the graph from now on."""
        self._found, self.loops = nodes, [*self.loops, loop]

    def solve(self, loop: LoopEdge) -> list[Sim3] | str:
        """Return the nodes with one more loop, or the reason why it is not believed; changes nothing itself."""
        if not all(np.isfinite(each).all() for each in (*_parts(loop.old_from_new), loop.deviation)):
            return 'no numbers'
        before = sum(self._squares(self._found, self.loops))
        loops = [*self.loops, loop]
        found = self._optimised(self._spread(loop), loops)
        if found is None:
            return 'no convergence'
        squares = self._squares(found, loops)
        if max(squares) > self.settings.most_residual:
            return 'residual of an edge'
        if sum(squares) - before > self.settings.most_residual:
            return 'residual of the graph'
        return found

    def _spread(self, loop: LoopEdge) -> list[Sim3]:
        """Return the nodes with a loop's gap in rotation, scale and position spread evenly between its ends.

        An optimiser that begins with the gap in one edge ends in a wrong minimum where the drift is large.
        """
        old, new = loop.old, loop.new
        there = self._found[old] @ loop.old_from_new
        now = self._found[new]
        turn = geometry.rotation_vector(there.rotation @ now.rotation.T)
        log_scale = np.log(there.scale / now.scale)
        nodes = list(self._found)
        for number in range(old + 1, new + 1):
            share = (number - old) / (new - old)
            bend, stretch = geometry.rotation_from_vector(share * turn), float(np.exp(share * log_scale))
            step = self._found[number].translation - self._found[number - 1].translation
            nodes[number] = Sim3(
                stretch * self._found[number].scale,
                bend @ self._found[number].rotation,
                nodes[number - 1].translation + stretch * bend @ step,
            )
        left = there.translation - nodes[new].translation
        for number in range(old + 1, new + 1):
            each, share = nodes[number], (number - old) / (new - old)
            nodes[number] = Sim3(each.scale, each.rotation, each.translation + share * left)
        moved = nodes[new] @ now.inverse()
        for number in range(new + 1, len(nodes)):
            nodes[number] = moved @ self._found[number]
        return nodes

    def _factors(self, loops: list[LoopEdge], robust: bool) -> list[gtsam.NonlinearFactor]:
        settings = self.settings
        factors: list[gtsam.NonlinearFactor] = []
        for number in range(1, len(self._odometry)):
            motion = geometry.invert(self._odometry[number - 1]) @ self._odometry[number]
            way = settings.odometry_way * self._depths[number - 1]
            noise = _noise(np.array([*[settings.odometry_turn] * 3, *[way] * 3, settings.odometry_log_scale]))
            measured = _similarity(Sim3.rigid(motion))
            factors.append(gtsam.BetweenFactorSimilarity3(number - 1, number, measured, noise))
        for loop in loops:
            noise = _noise(loop.deviation)
            if robust:
                noise = gtsam.noiseModel.Robust.Create(gtsam.noiseModel.mEstimator.Cauchy.Create(1.0), noise)
            factors.append(gtsam.BetweenFactorSimilarity3(loop.old, loop.new, _similarity(loop.old_from_new), noise))
        return factors

    def _squares(self, nodes: list[Sim3], loops: list[LoopEdge]) -> list[float]:
        """Return the squared residual of each edge, in standard deviations."""
        values = _values(nodes)
        return [2.0 * factor.error(values) for factor in self._factors(loops, robust=False)]

    def _optimised(self, nodes: list[Sim3], loops: list[LoopEdge]) -> list[Sim3] | None:
        """Return the nodes that fit best, the first one where it is; None if that did not converge."""
        graph = gtsam.NonlinearFactorGraph()
        fixed = gtsam.noiseModel.Isotropic.Sigma(FREEDOMS, FIXED)
        graph.add(gtsam.PriorFactorSimilarity3(0, _similarity(self._found[0]), fixed))
        for factor in self._factors(loops, robust=True):
            graph.add(factor)
        parameters = gtsam.LevenbergMarquardtParams()
        parameters.setMaxIterations(self.settings.iterations)
        optimizer = gtsam.LevenbergMarquardtOptimizer(graph, _values(nodes), parameters)
        try:
            values = optimizer.optimize()
        except RuntimeError:
            # A system that cannot be solved.
            return None
        found = [_sim3(values.atSimilarity3(number)) for number in range(len(nodes))]
        finite = all(np.isfinite(part).all() for node in found for part in _parts(node))
        return found if finite and optimizer.iterations() < self.settings.iterations else None


def _parts(similarity: Sim3) -> tuple[float, np.ndarray, np.ndarray]:
    return similarity.scale, similarity.rotation, similarity.translation


def _noise(deviation: np.ndarray) -> gtsam.noiseModel.Base:
    return gtsam.noiseModel.Diagonal.Sigmas(deviation)


def _similarity(similarity: Sim3) -> gtsam.Similarity3:
    # There a point is moved before it is scaled: s (R p + t).
    return gtsam.Similarity3(
        gtsam.Rot3(similarity.rotation), similarity.translation / similarity.scale, similarity.scale
    )


def _sim3(similarity: gtsam.Similarity3) -> Sim3:
    scale = float(similarity.scale())
    # An error of rounding would double with each loop, because inverses are taken as transposes.
    rotation = mean_rotation(similarity.rotation().matrix()[None])
    return Sim3(scale, rotation, scale * np.asarray(similarity.translation()))


def _values(nodes: list[Sim3]) -> gtsam.Values:
    values = gtsam.Values()
    for number, node in enumerate(nodes):
        values.insert(number, _similarity(node))
    return values
