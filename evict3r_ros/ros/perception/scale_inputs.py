# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the metric scale is taken from, as messages: another odometry, a depth sensor."""

from __future__ import annotations

import numpy as np
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image

from evict3r_ros.io.stamps import nanoseconds
from evict3r_ros.odometry.scale import MetricScale
from evict3r_ros.ros.messages import conversions
from evict3r_ros.ros.perception.faults import Faults
from evict3r_ros.ros.perception.transforms import StaticTransforms


class ScaleInputs:
    """Hand messages to the scale, and count those that cannot be used. base: the frame whose motion is compared."""

    def __init__(self, scale: MetricScale, transforms: StaticTransforms, base: str, faults: Faults) -> None:
        self._scale, self._transforms, self._base, self._faults = scale, transforms, base, faults
        self.used = 0
        """How many messages could be used."""

    def on_odometry(self, message: Odometry) -> None:
        """Take in a pose, of the base or of a frame that static transforms join with it."""
        try:
            matrix = conversions.pose_from_odometry(message)
            child_from_base: np.ndarray | None = np.eye(4)
            if message.child_frame_id:
                child_from_base = self._transforms.find(message.child_frame_id, self._base)
            if child_from_base is None:
                raise ValueError(f'no static transform joins its {message.child_frame_id!r} with {self._base!r}')
        except ValueError as error:
            self._faults.count('broken_input', f'odom_in is not used: {error}')
            return
        self._scale.add_odometry(nanoseconds(message.header.stamp), matrix @ child_from_base)
        self.used += 1

    def on_depth(self, message: Image) -> None:
        """Take in a depth image, registered to the camera's."""
        try:
            depth = conversions.depth_from_image(message)
        except ValueError as error:
            self._faults.count('broken_input', f'depth_in is not used: {error}')
            return
        self._scale.add_depth(nanoseconds(message.header.stamp), depth)
        self.used += 1
