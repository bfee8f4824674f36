# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The StreamStatus message, made from the parts that know."""

from __future__ import annotations

from evict3r_ros.msg import StreamStatus
from evict3r_ros.network import StreamVGGT
from evict3r_ros.ros.perception.faults import Faults
from evict3r_ros.ros.perception.perception import Perception
from evict3r_ros.ros.perception.transform_gate import TransformGate
from evict3r_ros.ros.perception.worker import Counts, Pace


def status_message(
    counts: Counts,
    pace: Pace,
    faults: Faults,
    network: StreamVGGT | None,
    perception: Perception | None,
    gate: TransformGate | None,
) -> StreamStatus:
    """Return the status without stamp. network, perception, gate: None while the node is not configured."""
    faulty = faults.counts()
    message = StreamStatus(
        frames_received=counts.received,
        frames_processed=counts.processed,
        frames_dropped=counts.dropped,
        frames_failed=counts.failed,
        rate_hz=pace.rate_hz,
        latency_p50_ms=pace.latency_p50_ms,
        latency_p99_ms=pace.latency_p99_ms,
        is_metric=False,
        scale=float('nan'),
        scale_stddev=float('nan'),
        faults=list(faulty),
        fault_counts=list(faulty.values()),
        last_error=faults.last,
    )
    if network is not None:
        message.preset = network.preset.name
        message.weights, message.untrained, message.device = network.source, network.untrained, str(network.device)
    if perception is not None:
        message.policy = perception.policy
        message.header.frame_id = perception.camera_frame
        message.resets = perception.resets
        message.tokens, message.budget = perception.stats.tokens, perception.stats.budget
        message.cache_bytes = perception.stats.cache_bytes
        scale = perception.scale.state
        if scale.is_metric:
            message.is_metric, message.scale, message.scale_stddev = True, scale.scale, scale.stddev
            message.scale_source = scale.source
        message.tracking_state = perception.tracking_state
    if gate is not None:
        message.tf_withheld = gate.withheld()
    return message
