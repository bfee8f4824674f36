# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A perception with the real network and without DDS: what the tests of single frames are done on."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from ros_robot import image_message, scene
from sensor_msgs.msg import CameraInfo

from evict3r_ros import geometry
from evict3r_ros.cache import CacheConfig
from evict3r_ros.io.scene_record import SceneRecord
from evict3r_ros.ros.messages.conversions import matrix_from_transform, transform_from_pose
from evict3r_ros.ros.perception.faults import Faults, explain
from evict3r_ros.ros.perception.perception import Perception
from evict3r_ros.ros.perception.transforms import StaticTransforms
from evict3r_ros.ros.settings.parameters import Settings
from evict3r_ros.stream import Stream

NEVER = threading.Event()
DEFAULTS = Settings()
SIZE = (60, 80)
START_NS = 1_700_000_000_123_456_789
STEP_NS = 100_000_001
MOUNT = geometry.transform(np.eye(3), np.array([0.1, 0.0, 0.4])) @ geometry.BODY_FROM_OPTICAL


class Bench:
    """A perception with a mounted camera, and what it told."""

    def __init__(
        self,
        network,
        expects_info: bool = False,
        record: SceneRecord | None = None,
        image_width: int | None = None,
        image_topic: str = '/image',
        **settings,
    ) -> None:
        self.told: list[str] = []
        self.faults = Faults(lambda _, text: self.told.append(text))
        self.static = StaticTransforms()
        header = image_message(scene(0, SIZE), 0).header
        header.frame_id = 'base_link'
        self.static.update([transform_from_pose(MOUNT, header, 'cam0')])
        self.stream = Stream(network, CacheConfig(tokens=512), image_width=image_width)
        self.wanted = {'points', 'rgb'}
        settings = replace(DEFAULTS, **{'startup_timeout': 0.1, 'points_min_confidence': 1.0, **settings})
        self.perception = Perception(
            self.stream,
            settings,
            self.static,
            self.faults,
            self.wanted.__contains__,
            lambda: expects_info,
            record,
            image_topic,
        )

    def refuse(self, *arguments, **options) -> str:
        """See an image that is not answered; returns the kind of fault."""
        # Which exception it is, is what is asked.
        with pytest.raises(Exception) as caught:
            self.see(*arguments, **options)
        return explain(caught.value)[0]

    def see(
        self,
        index: int,
        size: tuple[int, int] = SIZE,
        stamp_ns: int | None = None,
        frame: str = 'cam0',
        pixels: np.ndarray | None = None,
    ):
        """Return the answer to an image that arrives at the time of its index, whatever its stamp says."""
        arrived_ns = START_NS + index * STEP_NS
        stamp_ns = arrived_ns if stamp_ns is None else stamp_ns
        moment = self.perception.stamps.admit(stamp_ns, arrived_ns)
        self.moment = moment
        message = image_message(scene(index, size) if pixels is None else pixels, stamp_ns, frame)
        answer = self.perception.process(message, NEVER, moment)
        answer.keep()
        return answer


def info(size: tuple[int, int] = SIZE, focal: float = 70.0, D: tuple = ()) -> CameraInfo:
    K = [focal, 0.0, size[1] / 2, 0.0, focal, size[0] / 2, 0.0, 0.0, 1.0]
    return CameraInfo(height=size[0], width=size[1], distortion_model='plumb_bob', d=list(D), k=K)


def pose(answer) -> np.ndarray:
    return matrix_from_transform(answer.transform.transform)
