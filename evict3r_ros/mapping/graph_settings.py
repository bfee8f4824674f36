# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of the pose graph, which need no optimiser to be read."""

from __future__ import annotations

from dataclasses import dataclass

from evict3r_ros.errors import UserError


@dataclass(frozen=True)
class GraphSettings:
    """How far odometry is trusted, and when a loop is not."""

    odometry_turn: float = 0.06
    """Standard deviation of the odometry's rotation from one keyframe to the next, radians."""
    odometry_way: float = 0.06
    """The same of its position, over the median depth."""
    odometry_log_scale: float = 0.05
    """The same of the logarithm of its scale."""
    most_residual: float = 21.8
    """Squared residual, in standard deviations, that chance gives 0.3 % of edges of seven degrees of freedom (the
    3-sigma rule): an edge with more, or a loop that adds more to the whole graph, is not believed."""
    iterations: int = 100
    """Of Levenberg and Marquardt's method at most; a graph that needs more does not converge."""

    def __post_init__(self) -> None:
        deviations = (self.odometry_turn, self.odometry_way, self.odometry_log_scale)
        if not (min(*deviations, self.most_residual) > 0.0 and self.iterations >= 1):
            raise UserError('deviations of odometry and most_residual must be positive, and iterations at least 1')
