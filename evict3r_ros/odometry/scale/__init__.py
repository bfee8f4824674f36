# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How many metres the network's unit of length is: `MetricScale`, and one estimator for each source. No ROS."""

from __future__ import annotations

from evict3r_ros.odometry.scale.frame import ScaleFrame
from evict3r_ros.odometry.scale.metric import SOURCES, MetricScale, ScaleSettings, ScaleState

__all__ = ['SOURCES', 'MetricScale', 'ScaleFrame', 'ScaleSettings', 'ScaleState']
