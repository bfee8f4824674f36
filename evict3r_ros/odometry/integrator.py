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
from evict3r_ros.odometry.drift import DriftModel, coast
from evict3r_ros.odometry.scale import ScaleState
from evict3r_ros.odometry.thinned_path import ThinnedPath

_UNKNOWN = 1e3  # variance of what is not known at all: (30 m)^2, (30 rad)^2, and the same a second
_QUATERNION_EVERY = 100  # frames between two makings of an exact rotation
_LATELY_S = 10.0
_LONGEST_TWIST_S = 1.0  # a motion that was not seen is no twist if it took longer


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
    an upright child. drift: what the network's errors are; by default those of unknown weights.
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

    def advance(self, stamp_ns: int, world_from_camera: np.ndarray, scale: ScaleState) -> OdometryState:
        """Add the motion since the last frame and return where the robot is.

        world_from_camera: (4, 4), in the stream's world and unit. scale: of this frame. The first frame of a stream
        stays where the last stream ended.
        """
        if self._world_from_camera is None or self._stamp_ns is None:
            self._bridge(stamp_ns)
        else:
            moved = geometry.invert(self._world_from_camera) @ world_from_camera
            moved[:3, 3] *= scale.scale
            motion = self._child_from_camera @ moved @ self._camera_from_child
            seconds = (stamp_ns - self._stamp_ns) * 1e-9
            if self._interrupted:
                self._covariance = coast(self._covariance, self._speed, seconds)
            self._add(motion, seconds, scale)
            if self._interrupted and seconds > _LONGEST_TWIST_S:
                self._forget_twist()
        self._interrupted = False
        self._world_from_camera, self._stamp_ns = world_from_camera, stamp_ns
        self.path.add(stamp_ns, self._pose)
        covariance = self._covariance + np.diag(self._drift.floor)
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
        covariance = coast(last.pose_covariance, self._speed, (stamp_ns - last.stamp_ns) * 1e-9)
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
            self._covariance = coast(self._covariance, self._speed, (stamp_ns - self._stamp_ns) * 1e-9)
        self._forget_twist()

    def _add(self, motion: np.ndarray, seconds: float, scale: ScaleState) -> None:
        rotation = self._pose[:3, :3]
        step = rotation @ motion[:3, 3]
        self._pose = self._pose @ motion
        self._frames += 1
        if self._frames % _QUATERNION_EVERY == 0:
            exact = geometry.matrix_from_quaternion(geometry.quaternion_from_matrix(self._pose))
            self._pose[:3, :3] = exact
        twist = geometry.constant_twist(motion)
        noise = self._drift.step(float(np.linalg.norm(motion[:3, 3])), float(np.linalg.norm(twist[3:])))
        # An error of the attitude so far turns the step that follows: d(R m) = -[R m] d(theta).
        carry = np.eye(6)
        carry[:3, 3:] = -geometry.skew(step)
        self._covariance = carry @ self._covariance @ carry.T + np.diag(noise)
        # The scale's error is one for all steps and adds up with its sign: there and back again it cancels. One that is
        # not known may be anything: as large as the motion itself.
        relative = scale.stddev / scale.scale if math.isfinite(scale.stddev) else 0.0 if scale.is_metric else 1.0
        self._scale_error = self._scale_error + relative * step
        if seconds <= 0.0:
            self._forget_twist()
            return
        self._twist = twist / seconds
        speed = np.array([np.linalg.norm(self._twist[:3]), np.linalg.norm(self._twist[3:])])
        self._speed = np.maximum(speed, self._speed * math.exp(-seconds / _LATELY_S))
        along = relative * self._twist[:3]
        # Each of the two poses has the floor's error.
        covariance = np.diag((noise + 2.0 * self._drift.floor) / seconds**2)
        covariance[:3, :3] += np.outer(along, along)
        self._twist_covariance = covariance
