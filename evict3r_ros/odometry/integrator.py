# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Odometry from the camera poses of streams. No ROS.

Camera poses come in the network's unit and in the world of a stream; robot poses leave in metres (or in the network's
unit, while the scale is 1) and in one odom frame, z up (REP-103, REP-105), that outlives streams and never jumps: only
the motion since the last frame is scaled and added, so a new scale or a new stream changes what follows, not what was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from evict3r_ros import geometry
from evict3r_ros.odometry.scale import ScaleState
from evict3r_ros.odometry.thinned_path import ThinnedPath

_UNKNOWN = 1e3  # variance of what is not known at all: (30 m)^2, (30 rad)^2, and the same a second
_QUATERNION_EVERY = 100  # frames between two makings of an exact rotation
# A robot that is not seen may go on as fast as it lately was: straight on for so long, and at random after that.
_STRAIGHT_S = 10.0
_LATELY_S = 10.0
_STANDS = 0.01  # metres and radians a second that it may move although it stood still
_LONGEST_TWIST_S = 1.0  # a motion that was not seen is no twist if it took longer


@dataclass(frozen=True)
class DriftModel:
    """How uncertain the motion between two frames is: a random walk, in the robot's axes.

    Standard deviations, all for a confidence of 2; the variance is divided by (confidence - 1), within a factor of 10.
    These are assumptions on the safe side, not measurements.
    """

    position: float = 0.05
    """Of the position, in metres, after a metre."""
    position_by_turn: float = 0.05
    """Of the position, in metres, after a radian."""
    rotation: float = 0.02
    """Of the attitude, in radians, after a metre."""
    rotation_by_turn: float = 0.05
    """Of the attitude, in radians, after a radian."""
    floor: float = 0.01
    """Of each single pose, in metres and radians; it does not add up."""


@dataclass(frozen=True)
class OdometryState:
    """A pose and how the robot moves."""

    stamp_ns: int
    """Of the image."""
    odom_from_child: np.ndarray
    """(4, 4): the pose, in metres."""
    twist: np.ndarray
    """(6,): linear m/s, then angular rad/s, in the child frame's axes (REP-103's order)."""
    pose_covariance: np.ndarray
    """(6, 6): x y z and rotations about x y z, in the odom frame's axes."""
    twist_covariance: np.ndarray
    """(6, 6): x y z and rotations about x y z, in the child frame's axes."""


class OdometryIntegrator:
    """Integrates the motion of a camera that sits on a robot.

    child_from_camera: (4, 4), how. odom_from_child: (4, 4), the child's pose where the odom frame begins: identity for
    an upright child.
    """

    def __init__(
        self, child_from_camera: np.ndarray, odom_from_child: np.ndarray | None = None, drift: DriftModel | None = None
    ) -> None:
        self.path = ThinnedPath()
        self._drift = drift if drift is not None else DriftModel()
        self._frames = 0
        self._world_from_camera: np.ndarray | None = None
        self._stamp_ns: int | None = None
        self._covariance: np.ndarray = np.zeros((6, 6))
        self._scale_error: np.ndarray = np.zeros(3)
        self._speed: np.ndarray = np.zeros(2)  # the most of lately: metres and radians a second
        self._last: OdometryState | None = None
        self._interrupted = False
        self._mount(child_from_camera, np.eye(4) if odom_from_child is None else odom_from_child)
        self._begin()

    def advance(
        self, stamp_ns: int, world_from_camera: np.ndarray, scale: ScaleState, confidence: float
    ) -> OdometryState:
        """Add the motion since the last frame and return where the robot is.

        world_from_camera: (4, 4), in the stream's world and unit. scale: of this frame. confidence: the network's, of a
        typical pixel, 1 and more. The first frame of a stream stays where the last stream ended.
        """
        if self._world_from_camera is None or self._stamp_ns is None:
            self._bridge(stamp_ns)
        else:
            moved = geometry.invert(self._world_from_camera) @ world_from_camera
            moved[:3, 3] *= scale.scale
            motion = self._child_from_camera @ moved @ self._camera_from_child
            seconds = (stamp_ns - self._stamp_ns) * 1e-9
            if self._interrupted:
                self._covariance += self._unseen(seconds)
            self._add(motion, seconds, scale, confidence)
            if self._interrupted and seconds > _LONGEST_TWIST_S:
                self._forget_twist()
        self._interrupted = False
        self._world_from_camera, self._stamp_ns = world_from_camera, stamp_ns
        self.path.add(stamp_ns, self._pose)
        floor = self._drift.floor**2 * np.eye(6)
        covariance = self._covariance + floor
        covariance[:3, :3] += np.outer(self._scale_error, self._scale_error)
        self._last = OdometryState(
            stamp_ns, self._pose.copy(), self._twist.copy(), covariance, self._twist_covariance.copy()
        )
        return self._last

    def coast(self, stamp_ns: int, world_from_camera: np.ndarray | None = None) -> OdometryState | None:
        """Return the last pose with what the robot may have moved since, unseen, added to its covariance.

        None before the first frame. The twist is not known. world_from_camera: where the network sees the camera, if
        that is not believed: the next motion is measured from there. Safe from any thread without that.
        """
        last = self._last
        if last is None:
            return None
        self._interrupted = True
        if world_from_camera is not None:
            self._world_from_camera = world_from_camera
        covariance = last.pose_covariance + self._unseen((stamp_ns - last.stamp_ns) * 1e-9)
        return OdometryState(stamp_ns, last.odom_from_child.copy(), np.zeros(6), covariance, _UNKNOWN * np.eye(6))

    def interrupt(self) -> None:
        """Know that the robot is not seen from now on: what it may do until the next frame counts as uncertain."""
        self._interrupted = True

    def shift_clock(self, shift_ns: int) -> None:
        """Know that the clock was set forward, by so much more than the time that passed."""
        if self._stamp_ns is not None:
            self._stamp_ns += shift_ns
        if self._last is not None:
            self._last = replace(self._last, stamp_ns=self._last.stamp_ns + shift_ns)

    def restart(self, keep: bool) -> None:
        """Begin with a new stream: at the last pose (`keep`), or all anew at the origin, when a clock was set back."""
        self._world_from_camera = None
        if not keep:
            self._begin()

    def remount(
        self, child_from_camera: np.ndarray, odom_from_child: np.ndarray | None = None, keep: bool = True
    ) -> None:
        """Go on with another camera, at the last pose if it sits on the same child (`keep`), or else at the origin."""
        self._mount(child_from_camera, np.eye(4) if odom_from_child is None else odom_from_child)
        self.restart(keep)

    def _mount(self, child_from_camera: np.ndarray, origin: np.ndarray) -> None:
        self._origin = np.array(origin, dtype=np.float64)
        self._child_from_camera = np.array(child_from_camera, dtype=np.float64)
        self._camera_from_child = geometry.invert(self._child_from_camera)

    def _begin(self) -> None:
        self._pose = self._origin.copy()
        self._world_from_camera = None
        self._stamp_ns = None
        self._covariance = np.zeros((6, 6))
        self._scale_error = np.zeros(3)
        self._speed = np.zeros(2)
        self._last = None
        self._interrupted = False
        self._forget_twist()
        self.path.clear()

    def _forget_twist(self) -> None:
        self._twist, self._twist_covariance = np.zeros(6), _UNKNOWN * np.eye(6)

    def _bridge(self, stamp_ns: int) -> None:
        """Account for the time between two streams: the robot may have gone on as it moved before."""
        if self._stamp_ns is not None and stamp_ns > self._stamp_ns:
            self._covariance += self._unseen((stamp_ns - self._stamp_ns) * 1e-9)
        self._forget_twist()

    def _unseen(self, seconds: float) -> np.ndarray:
        """Return the (6, 6) covariance of what the robot may have moved in a time in which nobody saw it."""
        seconds = max(seconds, 0.0)
        reach = seconds if seconds < _STRAIGHT_S else math.sqrt(seconds * _STRAIGHT_S)
        linear, angular = (self._speed + _STANDS) * reach
        return np.diag([linear**2] * 3 + [min(angular, math.pi) ** 2] * 3)

    def _add(self, motion: np.ndarray, seconds: float, scale: ScaleState, confidence: float) -> None:
        rotation = self._pose[:3, :3]
        step = rotation @ motion[:3, 3]
        self._pose = self._pose @ motion
        self._frames += 1
        if self._frames % _QUATERNION_EVERY == 0:
            exact = geometry.matrix_from_quaternion(geometry.quaternion_from_matrix(self._pose))
            self._pose[:3, :3] = exact
        noise = self._noise(motion, confidence)
        # An error of the attitude so far turns the step that follows: d(R m) = -[R m] d(theta).
        carry = np.eye(6)
        carry[:3, 3:] = -geometry.skew(step)
        # The noise is the same along all axes, so that its axes do not matter.
        self._covariance = carry @ self._covariance @ carry.T + np.diag(noise)
        # The scale's error is one for all steps and adds up with its sign: there and back again it cancels. One that is
        # not known may be anything: as large as the motion itself.
        relative = scale.stddev / scale.scale if math.isfinite(scale.stddev) else 0.0 if scale.is_metric else 1.0
        self._scale_error = self._scale_error + relative * step
        if seconds <= 0.0:
            self._forget_twist()
            return
        self._twist = geometry.constant_twist(motion) / seconds
        speed = np.array([np.linalg.norm(self._twist[:3]), np.linalg.norm(self._twist[3:])])
        self._speed = np.maximum(speed, self._speed * math.exp(-seconds / _LATELY_S))
        along = relative * self._twist[:3]
        # Each of the two poses has the floor's error.
        covariance = np.diag((noise + 2.0 * self._drift.floor**2) / seconds**2)
        covariance[:3, :3] += np.outer(along, along)
        self._twist_covariance = covariance

    def _noise(self, motion: np.ndarray, confidence: float) -> np.ndarray:
        """Return the (6,) variances of a motion."""
        length = float(np.linalg.norm(motion[:3, 3]))
        turn = float(np.linalg.norm(geometry.rotation_vector(motion[:3, :3])))
        sureness = min(max(confidence - 1.0, 0.1), 10.0) if math.isfinite(confidence) else 0.1
        drift = self._drift
        position = drift.position**2 * length + drift.position_by_turn**2 * turn
        rotation = drift.rotation**2 * length + drift.rotation_by_turn**2 * turn
        return np.array([position] * 3 + [rotation] * 3) / sureness
