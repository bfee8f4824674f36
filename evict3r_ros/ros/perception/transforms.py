# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the camera sits on the robot, from /tf_static, and which frame the odometry may move.

tf2_ros has no wheel for pip, and all that is needed of it here is a chain of static transforms: so a small
listener of our own, the same on a robot and without one.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node, SubscriptionEventCallbacks  # type: ignore[attr-defined]  # as in node/qos.py
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from tf2_msgs.msg import TFMessage

from evict3r_ros import geometry
from evict3r_ros.io.frame_tree import FrameTree, bare
from evict3r_ros.ros.messages.conversions import matrix_from_transform

# Frames of REP-105 that a robot moves in, and robot_localization's utm: none of them is a part of it. With prefixes, as
# of several robots (robot1/map) or several odometries (wheel_odom), with numbers, and with endings that drivers add.
_WORLD_FRAME = re.compile(
    r'(.*[/_.-])?(odom|map|earth|world|utm)(_?\d+)?([_-](frame|link|enu|ned|combined))?', re.IGNORECASE
)


class StaticTransforms:
    """The static transforms heard so far, by child frame; safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._tree = FrameTree()
        self._found: dict[tuple[str, str], np.ndarray | None] = {}
        self.version = 0
        """Changes with each message taken in."""

    def update(self, transforms: Iterable[TransformStamped]) -> list[str]:
        """Take in transforms (the latest of a child wins) and return why any of them was refused."""
        refused = []
        with self._changed:
            for transform in transforms:
                child, parent = bare(transform.child_frame_id), bare(transform.header.frame_id)
                try:
                    if not child or not parent or child == parent:
                        raise ValueError(f'it goes from {parent!r} to {child!r}')
                    self._tree.add(parent, child, matrix_from_transform(transform.transform))
                except ValueError as error:
                    refused.append(f'static transform {parent} -> {child} refused: {error}')
            self._found.clear()
            self.version += 1
            self._changed.notify_all()
        return refused

    def find(self, target: str, source: str) -> np.ndarray | None:
        """Return the (4, 4) matrix target_from_source over any chain, up and down, or None without one."""
        key = bare(target), bare(source)
        with self._changed:
            if key not in self._found:
                self._found[key] = self._tree.find(*key)
            return self._found[key]

    def wait(self, target: str, source: str, timeout_s: float, cancelled: threading.Event) -> np.ndarray | None:
        """Return `find` as soon as it has an answer, or None after `timeout_s` or once `cancelled` is set."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = self.find(target, source)
            if found is not None or cancelled.is_set() or time.monotonic() >= deadline:
                return found
            with self._changed:
                self._changed.wait(0.05)  # short, because a condition cannot wait for the event as well

    def carriers(self, frame: str) -> dict[str, np.ndarray]:
        """Return each frame from `frame` up to the root of its static chain, and the (4, 4) matrix from it to that."""
        with self._changed:
            return self._tree.carriers(frame)

    def root(self, frame: str) -> tuple[str, np.ndarray]:
        """Return the frame at the top of the static chain over `frame`, and the (4, 4) matrix root_from_frame."""
        with self._changed:
            return self._tree.root(frame)


def listen(node: Node, transforms: StaticTransforms, group: CallbackGroup) -> list[Subscription[TFMessage]]:
    """Subscribe `transforms` to /tf_static on `node`; returns the subscriptions, to be destroyed with the node."""

    def receive(message: TFMessage) -> None:
        for reason in transforms.update(message.transforms):
            node.get_logger().warning(reason)

    # One broadcaster sends one message and is silent for ever: only transient local hears those from before. A bag
    # that is played without that quality is heard only by who does not ask for it.
    return [
        node.create_subscription(
            TFMessage,
            '/tf_static',
            receive,
            QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=durability),
            callback_group=group,
            # Its own would warn of each publisher that only the other one of the two hears.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        )
        for durability in (DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE)
    ]


@dataclass(frozen=True)
class Mount:
    """How the camera is mounted."""

    child: str
    """The frame that the odometry moves."""
    child_from_camera: np.ndarray
    """(4, 4)."""
    odom_from_child: np.ndarray
    """(4, 4), the child's pose at odom's origin, which is upright."""
    base_from_camera: np.ndarray
    """(4, 4), with z up."""
    from_tf: bool = False
    """Whether all this is the static transform that was asked for."""
    problem: str = ''
    """What a user should know, '' if nothing."""
    taken: bool = False
    """Whether the child has a parent that is not ours, so that it must not get another."""

    def differs(self, other: Mount) -> bool:
        """Return whether poses by the other one would be of another frame or place, or only one may be sent to /tf."""
        if (self.child, self.taken) != (other.child, other.taken):
            return True
        return not np.allclose(self.child_from_camera, other.child_from_camera)


def find_mount(
    transforms: StaticTransforms, odom: str, base: str, camera: str, timeout_s: float, cancelled: threading.Event
) -> Mount:
    """Return the mount of `camera` on `base`, waiting up to `timeout_s` for it.

    Without a static chain between the two, the camera is taken to be level at the first image and the odometry moves
    the camera's own frame. No frame gets a second parent, since that would tear the tree of frames apart: what is
    carried by another frame (a camera by its housing, a base_link by a base_footprint) moves with the one that
    carries it, and what is fixed in the world is not moved at all.
    """
    base_from_camera = transforms.wait(base, camera, timeout_s, cancelled) if camera else None
    if base_from_camera is not None:
        return _on_base(transforms, odom, base, base_from_camera, '')
    if camera and not is_of_world(camera, odom):
        return _of_camera(transforms, odom, base, camera, timeout_s)
    named = f'the frame {camera!r}, which is one of the world' if camera else 'no frame'
    assumed = f'the images name {named}: the camera is taken to be at {base!r}, level'
    return _on_base(transforms, odom, base, geometry.BODY_FROM_OPTICAL, assumed)


def is_of_world(frame: str, odom: str) -> bool:
    """Return whether a frame is one that robots move in, by its name: odom itself, or map, robot1/map, odom_frame."""
    return frame == odom or _WORLD_FRAME.fullmatch(frame) is not None


def _on_base(transforms: StaticTransforms, odom: str, base: str, base_from_camera: np.ndarray, assumed: str) -> Mount:
    """Return the mount on a base. assumed: what was, '' for a camera whose place is known."""
    known = not assumed
    if fixed := _fixed_in_the_world(transforms, odom, base)[1]:
        problem = f'{fixed}: {odom} -> {base} is not published, because no frame may have two parents'
        return Mount(base, base_from_camera, np.eye(4), base_from_camera, known, problem, taken=True)
    root, root_from_base = transforms.root(base)
    problem = assumed and f'{assumed}; {odom} -> {root} is published'
    return Mount(
        root, root_from_base @ base_from_camera, geometry.invert(root_from_base), base_from_camera, known, problem
    )


def _of_camera(transforms: StaticTransforms, odom: str, base: str, camera: str, timeout_s: float) -> Mount:
    """Return the mount where nothing joins camera and base: what carries the camera is moved."""
    upright = geometry.BODY_FROM_OPTICAL
    child, fixed = _fixed_in_the_world(transforms, odom, camera)
    child_from_camera = transforms.carriers(camera)[child]
    problem = f'no static transform from {camera!r} to {base!r} within {timeout_s:g} s: '
    if fixed:
        problem += f'{fixed}, so {odom} -> {child} is not published, because no frame may have two parents'
    else:
        problem += f'{odom} -> {child} is published instead, with the camera taken to be level at the first image'
    origin = upright @ geometry.invert(child_from_camera)
    return Mount(child, child_from_camera, origin, upright, problem=problem, taken=bool(fixed))


def _fixed_in_the_world(transforms: StaticTransforms, odom: str, frame: str) -> tuple[str, str]:
    """Return the topmost carrier of a frame that is not of the world, and in words why it cannot move, or ''."""
    names = list(transforms.carriers(frame))
    for below, above in itertools.pairwise(names):
        if is_of_world(above, odom):
            return below, f'/tf_static has {below!r} below {above!r}'
    if is_of_world(frame, odom):
        return frame, f'{frame!r} is a frame of the world'
    root = names[-1]
    # A root by any other name, from which odom hangs as well: odom -> root would close a circle.
    joined = transforms.find(root, odom) is not None
    return root, f'/tf_static joins {root!r} with {odom!r}' if joined else ''
