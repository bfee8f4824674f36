# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What robot monitors read on /diagnostics: one status, its level by what went wrong lately, and all the figures."""

from __future__ import annotations

from collections.abc import Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from evict3r_ros.msg import StreamStatus
from evict3r_ros.ros.perception.faults import KINDS

RECENT_S = 5.0  # how long a fault keeps the level up
TRACKING = {
    getattr(StreamStatus, name): name.lower()
    for name in ('INITIALISING', 'TRACKING', 'COASTING', 'LOST', 'RELOCALISED')
}


def diagnostics(
    status: StreamStatus, name: str, state: str, recent: Sequence[str], conditions: Sequence[str]
) -> DiagnosticArray:
    """Return the diagnostics of a node.

    name: the node's full name. state: of its life, such as 'active'. recent: kinds of faults of the last RECENT_S.
    conditions: what is wrong as long as it lasts, in words.
    """
    level, words = DiagnosticStatus.OK, []
    if state == 'unconfigured' and status.last_error:
        level, words = DiagnosticStatus.ERROR, [status.last_error]
    for text in (*conditions, *(KINDS[kind][1] for kind in recent)):
        level = max(level, DiagnosticStatus.WARN)
        words.append(text)
    if any(KINDS[kind][0] for kind in recent):
        level = DiagnosticStatus.ERROR
    message = '; '.join(words) or (f'{status.rate_hz:.1f} frames a second' if state == 'active' else state)
    entry = DiagnosticStatus(
        level=level,
        name=f'{name.lstrip("/")}: stream',
        message=message,
        hardware_id=status.header.frame_id,
        values=_values(status, state),
    )
    answer = DiagnosticArray(status=[entry])
    answer.header.stamp = status.header.stamp
    return answer


def _values(status: StreamStatus, state: str) -> list[KeyValue]:
    values = {
        'state': state,
        'weights': status.weights,
        'preset': status.preset,
        'policy': status.policy,
        'device': status.device,
        'frames received': status.frames_received,
        'frames answered': status.frames_processed,
        'frames dropped': status.frames_dropped,
        'frames failed': status.frames_failed,
        'resets': status.resets,
        'rate [Hz]': f'{status.rate_hz:.2f}',
        'latency median [ms]': f'{status.latency_p50_ms:.1f}',
        'latency 99 % [ms]': f'{status.latency_p99_ms:.1f}',
        'cache [MiB]': f'{status.cache_bytes / 2**20:.1f}',
        'tracking': TRACKING[status.tracking_state],
        'metric': status.is_metric,
        'scale': f'{status.scale:.4g}',
        'scale deviation': f'{status.scale_stddev:.4g}',
        'scale source': status.scale_source,
        'transform withheld': status.tf_withheld,
        'last error': status.last_error,
    }
    values.update((f'fault: {kind}', count) for kind, count in zip(status.faults, status.fault_counts, strict=True))
    return [KeyValue(key=key, value=str(value)) for key, value in values.items()]
