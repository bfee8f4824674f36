# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The topics that the node answers on."""

from __future__ import annotations

import threading

from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry, Path
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from evict3r_ros.odometry.integrator import OdometryIntegrator
from evict3r_ros.ros.messages.path import PathMessages
from evict3r_ros.ros.node import qos
from evict3r_ros.ros.perception.perception import Answer


class Outputs:
    """Publishers of everything that follows from a frame, from configure to cleanup.

    Raises UserError for overrides of quality that cannot be.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._telling = threading.Lock()  # the path is published by a timer, which a transition may come across
        self._publishers = {}
        self._paths = PathMessages()
        self._path_was: tuple[int, int] | None = None
        self._path_of: OdometryIntegrator | None = None
        topics = {
            'tf': (TFMessage, '/tf', qos.transforms),
            'depth': (Image, '~/depth/image_rect', qos.output),
            'confidence': (Image, '~/depth/confidence', qos.output),
            'info': (CameraInfo, '~/depth/camera_info', qos.output),
            'rgb': (Image, '~/rgb/image_rect', qos.output),
            'rgb_info': (CameraInfo, '~/rgb/camera_info', qos.output),
            'odometry': (Odometry, '~/odometry', qos.output),
            'points': (PointCloud2, '~/points', qos.output),
            'path': (Path, '~/path', qos.latched),
        }
        try:
            for name, (kind, topic, profile) in topics.items():
                self._publishers[name] = qos.publish_on(node, kind, topic, profile())
        except Exception:
            self.close()
            raise

    def wanted(self, name: str) -> bool:
        """Return whether anybody listens to an output."""
        return self._publishers[name].get_subscription_count() > 0

    def publish(self, answer: Answer, with_tf: bool) -> None:
        """Publish an answer, its transform only if that is wished."""
        if with_tf and answer.transform is not None:
            # Before the rest: who gets the cloud can then already place it.
            self.publish_transform(answer.transform)
        for name in ('depth', 'confidence', 'info', 'odometry', 'rgb_info', 'rgb', 'points'):
            message = getattr(answer, name)
            if message is not None:
                self._publishers[name].publish(message)

    def publish_transform(self, transform: TransformStamped) -> None:
        """Publish a transform."""
        self._publishers['tf'].publish(TFMessage(transforms=[transform]))

    def publish_odometry(self, odometry: Odometry) -> None:
        """Publish where the robot is by what was seen before."""
        self._publishers['odometry'].publish(odometry)

    def publish_path(self, odometry: OdometryIntegrator, frame: str) -> None:
        """Publish the path, if there is more of it than last time; from any thread."""
        poses = list(odometry.path)
        state = (len(poses), poses[-1][0]) if poses else None
        with self._telling:
            news = state is not None and (state != self._path_was or odometry is not self._path_of)
            if news and self._publishers:
                self._publishers['path'].publish(self._paths.of(poses, frame))
            self._path_was, self._path_of = state, odometry

    def close(self) -> None:
        """Withdraw the topics."""
        with self._telling:
            for publisher in self._publishers.values():
                self._node.destroy_publisher(publisher)
            self._publishers = {}
