# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Show the live topics of a node in a `SceneView`."""

from __future__ import annotations

from types import TracebackType

from evict3r_ros.io.answer import AnswerTopics
from evict3r_ros.ros.messages.message_types import message_class
from evict3r_ros.ros.node.qos import output
from evict3r_ros.ros.perception.transforms import StaticTransforms, listen
from evict3r_ros.ros.tools.session import Session
from evict3r_ros.viewer.scene_view import SceneView


class LiveSource:
    """The live topics of a node (context manager). The DDS profile must be chosen before."""

    def __init__(self, topics: AnswerTopics) -> None:
        """Join the ROS domain."""
        self._topics = topics
        self._static = StaticTransforms()
        self._session = Session('evict3r_view')
        self.find_transform = self._static.find

    def subscribe(self, view: SceneView) -> None:
        """Show messages from now on, in another thread."""
        node = self._session.node
        listen(node, self._static, node.default_callback_group)
        for topic, kind in self._topics.types().items():
            if topic in view.wanted:
                node.create_subscription(
                    message_class(kind), topic, lambda message, topic=topic: view.show(topic, message), output()
                )

    def check(self) -> None:
        """Raise the error of a callback, if there was one."""
        self._session.check()

    def __enter__(self) -> LiveSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()
