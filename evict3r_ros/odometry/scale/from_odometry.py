# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scale from another odometry (wheels, VIO): how far the camera moved by it, and how far by the network."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from evict3r_ros.geometry import interpolate_pose, invert
from evict3r_ros.odometry.scale.frame import ScaleFrame
from evict3r_ros.odometry.scale.robust import Estimate, Window

_MOST_POSES = 2000  # 10 s at 200 Hz
_LONGEST_GAP_NS = 500_000_000  # between two poses of the odometry that may be interpolated
_LONGEST_PAIR_NS = 20_000_000_000  # beyond, either odometry may have drifted too far
_CLOCK_JUMP_NS = 1_000_000_000
_MOST_WAITING = 64  # frames whose odometry has not come yet
_LEAST_COSINE = 0.8  # between the two motions: 37 degrees


class OdometryScale:
    """Compares the motion between two frames `baseline` metres apart, pair after pair along the way.

    Each pair begins where the last one ended, so that their errors are independent. A pair whose two motions point in
    different directions is refused: wheels slipped, a pose jumped.
    """

    def __init__(self, baseline: float) -> None:
        self._baseline = baseline
        self._window = Window(size=40, least=5)
        self._lock = threading.Lock()
        self._poses: deque[tuple[int, np.ndarray]] = deque(maxlen=_MOST_POSES)
        self._waiting: deque[tuple[int, np.ndarray, np.ndarray]] = deque(maxlen=_MOST_WAITING)
        self._anchor: tuple[int, np.ndarray, np.ndarray] | None = None  # stamp, pose by the network, by the odometry

    def add_odometry(self, stamp_ns: int, odom_from_base: np.ndarray) -> None:
        """Take in a pose (4, 4) in metres; from any thread. Poses out of order are passed over."""
        if not np.isfinite(odom_from_base).all():
            return
        with self._lock:
            if self._poses and stamp_ns < self._poses[-1][0] - _CLOCK_JUMP_NS:
                self._poses.clear()
            if not self._poses or stamp_ns > self._poses[-1][0]:
                self._poses.append((stamp_ns, odom_from_base))

    def observe(self, frame: ScaleFrame) -> Estimate | None:
        """Take in a frame and return the scale, or None while it is unknown."""
        self._waiting.append((frame.stamp_ns, frame.world_from_camera, frame.base_from_camera))
        with self._lock:
            poses = list(self._poses)
        while self._waiting and poses and self._waiting[0][0] <= poses[-1][0]:
            stamp, world_from_camera, base_from_camera = self._waiting.popleft()
            odom_from_base = _at(poses, stamp)
            if odom_from_base is not None:
                self._compare(stamp, world_from_camera, odom_from_base @ base_from_camera)
        return self._window.estimate()

    def restart(self) -> None:
        """Forget what was seen of the network's motion: a new stream has a unit of its own."""
        self._window.clear()
        self._waiting.clear()
        self._anchor = None

    def _compare(self, stamp_ns: int, world_from_camera: np.ndarray, odom_from_camera: np.ndarray) -> None:
        if self._anchor is None or not 0 < stamp_ns - self._anchor[0] <= _LONGEST_PAIR_NS:
            self._anchor = stamp_ns, world_from_camera, odom_from_camera
            return
        _, first_by_network, first_by_odometry = self._anchor
        metric = (invert(first_by_odometry) @ odom_from_camera)[:3, 3]
        length = float(np.linalg.norm(metric))
        if length < self._baseline:
            return
        self._anchor = stamp_ns, world_from_camera, odom_from_camera
        moved = (invert(first_by_network) @ world_from_camera)[:3, 3]
        along = float(moved @ metric) / length
        if along <= _LEAST_COSINE * np.linalg.norm(moved):
            return
        # The part along the metric motion, not the whole: noise across it would make every motion look longer.
        self._window.add(Estimate(float(np.log(length / along)), 0.0))


def _at(poses: list[tuple[int, np.ndarray]], stamp_ns: int) -> np.ndarray | None:
    """Return the pose at a time from poses in time order, or None where they have a gap."""
    after = int(np.searchsorted([stamp for stamp, _ in poses], stamp_ns))
    if after < len(poses) and poses[after][0] == stamp_ns:
        return poses[after][1]
    if not 0 < after < len(poses):
        return None
    (t0, a), (t1, b) = poses[after - 1], poses[after]
    return interpolate_pose(a, b, (stamp_ns - t0) / (t1 - t0)) if t1 - t0 <= _LONGEST_GAP_NS else None
