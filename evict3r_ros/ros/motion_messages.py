# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The odometry's state and path as messages, and a pose back from one: pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from builtin_interfaces.msg import Time
from geometry_msgs.msg import (
    Pose, PoseStamped, PoseWithCovariance, Transform, Twist, TwistWithCovariance, Vector3)
from nav_msgs.msg import Odometry, Path
import numpy as np
from std_msgs.msg import Header

from evict3r_ros import geometry
from evict3r_ros.ros.conversions import matrix_from_transform
from evict3r_ros.trajectory import OdometryState


def odometry(state: OdometryState, header: Header, child_frame: str) -> Odometry:
    """Return the pose of `child_frame` in the header's frame, and its twist in its own axes, with covariances."""
    linear, angular = (Vector3(**dict(zip('xyz', map(float, part)))) for part in (state.twist[:3], state.twist[3:]))
    return Odometry(
        header=header, child_frame_id=child_frame,
        pose=PoseWithCovariance(pose=_pose(state.odom_from_child), covariance=state.pose_covariance.ravel()),
        twist=TwistWithCovariance(twist=Twist(linear=linear, angular=angular),
                                  covariance=state.twist_covariance.ravel()))


def matrix_from_pose(pose: Pose) -> np.ndarray:
    """Return a pose as a (4, 4) matrix; raises ValueError if it is not a rigid transform."""
    position = pose.position
    return matrix_from_transform(Transform(
        translation=Vector3(x=position.x, y=position.y, z=position.z), rotation=pose.orientation))


class PathMessages:
    """Makes nav_msgs/Path of a thinned path; a pose that was in the last message is not made again."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[np.ndarray, PoseStamped]] = {}

    def of(self, poses: Sequence[tuple[int, np.ndarray]], frame: str) -> Path:
        """Return the message for poses (stamp in nanoseconds, (4, 4)) in time order, stamped with the last one's time."""
        made = {}
        for stamp_ns, pose in poses:
            before = self._made.get(stamp_ns)
            # A bag that loops has the same stamps with other poses.
            made[stamp_ns] = before if before and before[0] is pose else (pose, _stamped(stamp_ns, pose, frame))
        self._made = made
        message = Path(poses=[message for _, message in made.values()])
        message.header.frame_id = frame
        if message.poses:
            message.header.stamp = message.poses[-1].header.stamp
        return message


def _stamped(stamp_ns: int, pose: np.ndarray, frame: str) -> PoseStamped:
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return PoseStamped(header=Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame), pose=_pose(pose))


def _pose(matrix: np.ndarray) -> Pose:
    answer = Pose()
    answer.position.x, answer.position.y, answer.position.z = map(float, matrix[:3, 3])
    x, y, z, w = map(float, geometry.quaternion_from_matrix(matrix))
    answer.orientation.x, answer.orientation.y, answer.orientation.z, answer.orientation.w = x, y, z, w
    return answer
