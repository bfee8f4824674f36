# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The scale that is applied to depth, cloud and motion, and what is known of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.odometry.scale.frame import ScaleFrame
from evict3r_ros.odometry.scale.from_camera_height import CameraHeightScale
from evict3r_ros.odometry.scale.from_depth import DepthScale
from evict3r_ros.odometry.scale.from_odometry import OdometryScale
from evict3r_ros.odometry.scale.robust import Estimate

SOURCES = ('none', 'fixed', 'odometry', 'depth', 'camera_height')
_LONGEST_STEP_S = 0.5  # a pause does not entitle to a jump


@dataclass(frozen=True)
class ScaleSettings:
    """Where the scale comes from. Raises UserError for values that cannot be."""

    source: str = 'none'
    """One of SOURCES."""
    fixed: float = 1.0
    """Metres for one unit of the network."""
    camera_height: float = 0.0
    """Metres over the ground."""
    baseline: float = 0.3
    """Metres between two frames whose motions are compared."""
    max_slew: float = 0.05
    """The largest relative change a second, once the scale is known."""

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise UserError(f'scale source {self.source!r} is not one of {", ".join(SOURCES)}')
        needed = {'fixed': ('fixed',), 'camera_height': ('camera_height',), 'odometry': ('baseline',)}
        for name in (*needed.get(self.source, ()), 'max_slew'):
            value = getattr(self, name)
            if not 0.0 < value < math.inf:
                raise UserError(f'scale source {self.source!r} needs {name} over 0, not {value:g}')


@dataclass(frozen=True)
class ScaleState:
    """The scale that is applied to a frame, as `~/status` reports it."""

    scale: float = 1.0
    """Metres for one unit of the network, where ``is_metric``."""
    stddev: float = math.nan
    """Standard deviation of the scale; NaN where unknown."""
    is_metric: bool = False
    """Whether lengths are in metres."""
    source: str = ''
    """One of SOURCES; empty until metric."""


class Estimator(Protocol):
    """What each source is: frames in, the logarithm of the scale out, or None while it is unknown."""

    def observe(self, frame: ScaleFrame) -> Estimate | None:
        """Take in a frame and return the scale by all frames so far."""

    def restart(self) -> None:
        """Forget the frames: a new stream has a unit of its own."""


class FixedScale:
    """A scale that was measured before; its deviation is not known."""

    def __init__(self, scale: float) -> None:
        self._estimate = Estimate(math.log(scale), math.nan)

    def observe(self, frame: ScaleFrame) -> Estimate:
        """Return it."""
        return self._estimate

    def restart(self) -> None:
        """Keep it."""


def _estimator(settings: ScaleSettings) -> Estimator | None:
    match settings.source:
        case 'fixed':
            return FixedScale(settings.fixed)
        case 'odometry':
            return OdometryScale(settings.baseline)
        case 'depth':
            return DepthScale()
        case 'camera_height':
            return CameraHeightScale(settings.camera_height)
    return None


class MetricScale:
    """Follows the estimate of a source. `observe` and `restart` belong to one thread; the rest may be called from any.

    Until the source is sure the scale is 1, or after a restart the last one, and not metric. The first sure estimate
    is taken as it is, in the frame in which `is_metric` becomes true; from then on the scale moves towards the
    estimate by at most `max_slew` a second, so that what stands still in the world does not jump in the map.
    """

    def __init__(self, settings: ScaleSettings) -> None:
        self.settings = settings
        self.state = ScaleState()
        self._estimator = _estimator(settings)
        self._stamp_ns: int | None = None

    def add_odometry(self, stamp_ns: int, odom_from_base: np.ndarray) -> None:
        """Take in a pose (4, 4) in metres of the robot's base; of use to source 'odometry' only."""
        if isinstance(self._estimator, OdometryScale):
            self._estimator.add_odometry(stamp_ns, odom_from_base)

    def add_depth(self, stamp_ns: int, depth: np.ndarray) -> None:
        """Take in a depth map (h, w) in metres, registered to the image; of use to source 'depth' only."""
        if isinstance(self._estimator, DepthScale):
            self._estimator.add_depth(stamp_ns, depth)

    def observe(self, frame: ScaleFrame) -> ScaleState:
        """Take in a frame and return the scale for it."""
        estimate = self._estimator.observe(frame) if self._estimator is not None else None
        elapsed = 0.0 if self._stamp_ns is None else (frame.stamp_ns - self._stamp_ns) * 1e-9
        self._stamp_ns = frame.stamp_ns
        if estimate is not None:
            self.state = self._follow(estimate, min(max(elapsed, 0.0), _LONGEST_STEP_S))
        return self.state

    def restart(self) -> None:
        """Begin with a new stream: its unit is unknown, and the last scale is only the best guess."""
        self._stamp_ns = None
        if self._estimator is not None:
            self._estimator.restart()
        self.state = ScaleState(scale=self.state.scale)

    def _follow(self, estimate: Estimate, elapsed_s: float) -> ScaleState:
        log_scale = estimate.log_scale
        if self.state.is_metric:
            reach = math.log1p(self.settings.max_slew) * elapsed_s
            now = math.log(self.state.scale)
            log_scale = now + min(max(log_scale - now, -reach), reach)
        # What the scale still lags behind is an error as well.
        deviation = math.hypot(estimate.deviation, estimate.log_scale - log_scale)
        scale = math.exp(log_scale)
        return ScaleState(scale, scale * deviation, True, self.settings.source)
