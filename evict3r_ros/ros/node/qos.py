# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Quality of service of each topic, and publishers and subscriptions whose users may override it by parameters.

The parameters are those of every ROS 2 node: `qos_overrides./evict3r/points.publisher.reliability`, and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.node import Node, PublisherEventCallbacks, SubscriptionEventCallbacks  # type: ignore[attr-defined]  # the callbacks' own home is another one in Humble
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions
from rclpy.subscription import Subscription

from evict3r_ros.errors import UserError

Made = TypeVar('Made')

# Without rclpy's own events (warnings of qualities that do not match, which the other side gives as well): each is one
# more thing on the list that the executor makes anew for every message, and a list of dozens costs it images.
_KINDS = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)


def sensor() -> QoSProfile:
    """Return the quality of inputs: best effort hears every publisher.

    Deeper than one, though only the latest image is of use: what DDS overwrites while this process is busy nobody
    counts, what the mailbox overwrites is counted.
    """
    return QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


def latched_input() -> QoSProfile:
    """Return the quality that hears what was said once, before it was there; only publishers that latch match it."""
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def output() -> QoSProfile:
    """Return the quality of outputs: reliable. Every subscriber hears it; rviz2 would hear nothing of best effort."""
    return QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)


def latched() -> QoSProfile:
    """Return the quality of the path: who comes late gets the last one."""
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def transforms() -> QoSProfile:
    """Return the quality of /tf, as tf2_ros has it."""
    return QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


def diagnostics() -> QoSProfile:
    """Return the quality of /diagnostics, as diagnostic_updater has it."""
    return QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)


def publish_on(node: Node, kind: type, topic: str, profile: QoSProfile) -> Publisher[Any]:
    """Make a publisher whose quality may be overridden. Raises UserError for overrides that cannot be.

    profile: a fresh one, because rclpy writes the overrides into it.
    """
    return _make(
        topic,
        lambda: node.create_publisher(
            kind,
            topic,
            profile,
            qos_overriding_options=QoSOverridingOptions(_KINDS),
            event_callbacks=PublisherEventCallbacks(use_default_callbacks=False),
        ),
    )


def subscribe_to(
    node: Node,
    kind: type,
    topic: str,
    callback: Callable[[Any], None],
    profile: QoSProfile,
    group: CallbackGroup | None = None,
) -> Subscription[Any]:
    """Make a subscription in the same way."""
    return _make(
        topic,
        lambda: node.create_subscription(
            kind,
            topic,
            callback,
            profile,
            callback_group=group,
            qos_overriding_options=QoSOverridingOptions(_KINDS),
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        ),
    )


def is_latched(node: Node, topic: str) -> bool:
    """Return whether a publisher on a resolved topic tells late subscribers what it said last."""
    return any(
        offer.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        and offer.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        for offer in node.get_publishers_info_by_topic(topic)
    )


def subscribe_to_latched(node: Node, kind: type, topic: str, callback: Callable[[Any], None]) -> Subscription[Any]:
    """Make a second subscription to an input, for a publisher that latched its only message before it was there.

    Such a publisher is heard twice from then on. Its quality is not overridden: the first subscription's is. Only where
    `is_latched`: each publisher that does not latch would warn that what is asked of it does not match its quality.
    """
    return _make(
        topic,
        lambda: node.create_subscription(
            kind,
            topic,
            callback,
            latched_input(),
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        ),
    )


def _make(topic: str, make: Callable[[], Made]) -> Made:
    try:
        return make()
    except (InvalidQosOverridesError, InvalidParameterTypeException, RuntimeError) as error:
        raise UserError(f'topic {topic}: {error}') from error
