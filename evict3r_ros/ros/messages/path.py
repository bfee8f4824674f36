# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The path as messages, one after the other, without making thousands of poses anew for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path
from std_msgs.msg import Header

from evict3r_ros.ros.messages.conversions import path_from_poses


class PathMessages:
    """Make nav_msgs/Path of a thinned path; a pose that was in the last message is not made again."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[np.ndarray, PoseStamped]] = {}

    def of(self, poses: Sequence[tuple[int, np.ndarray]], frame: str) -> Path:
        """Return the message for poses (stamp in nanoseconds, (4, 4)) in time order; its stamp is the last one's."""
        header = Header(frame_id=frame)
        made = {}
        for stamp_ns, pose in poses:
            before = self._made.get(stamp_ns)
            # A bag that loops has the same stamps with other poses.
            made[stamp_ns] = (
                before
                if before is not None and before[0] is pose
                else (pose, path_from_poses([(stamp_ns, pose)], header).poses[0])
            )
        self._made = made
        message = Path(header=header, poses=[message for _, message in made.values()])
        if message.poses:
            message.header.stamp = message.poses[-1].header.stamp
        return message
