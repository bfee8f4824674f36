# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A camera in front of a live node for minutes: what is answered, what is dropped, how late, and what memory does."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from evict3r_ros.errors import UserError
from evict3r_ros.io.bag import header_stamp_ns
from evict3r_ros.io.figures import new_figure, save
from evict3r_ros.io.stamps import NANOSECONDS
from evict3r_ros.msg import StreamStatus
from evict3r_ros.ros.messages.conversions import image_from_rgb
from evict3r_ros.ros.tools.node_process import NodeProcess
from evict3r_ros.ros.tools.session import Session
from evict3r_ros.ros.tools.waiting import wait_until

LOOK_S = 1.0
_CONNECT_S = 30.0
_LAST_ANSWER_S = 3.0


@dataclass(frozen=True)
class LiveSoak:
    """What a long run of a live node showed."""

    published: int
    """Images sent."""
    longest_pause_s: float
    """Between two images, on this program's side."""
    status: StreamStatus
    """The node's last one."""
    latency_ms: np.ndarray
    """(answers,) from an image's stamp, the time at which it was published, to its answer's arrival."""
    answered_at: np.ndarray
    """(answers,) seconds since the start."""
    looked_at: np.ndarray
    """(looks,) seconds since the start."""
    resident: np.ndarray
    """(looks,) bytes of the node in memory."""

    def summary(self) -> dict[str, object]:
        """Return the figures; those of memory over the last third, when path and cloud have reached their bounds."""
        status, steady = self.status, self.looked_at >= self.looked_at[-1] * 2 / 3
        memory = self.resident[steady] / 2**20
        seconds = float(self.looked_at[-1])
        p50, p99 = np.percentile(self.latency_ms, (50, 99)) if len(self.latency_ms) else (np.nan, np.nan)
        return {
            'seconds': round(seconds, 1),
            'images_published': self.published,
            'longest_pause_of_the_publisher_s': round(self.longest_pause_s, 3),
            'images_received': int(status.frames_received),
            'answered': int(status.frames_processed),
            'dropped': int(status.frames_dropped),
            'failed': int(status.frames_failed),
            'counts_agree': int(status.frames_received)
            == int(status.frames_processed + status.frames_dropped + status.frames_failed),
            'answers_heard': len(self.latency_ms),
            'rate_hz': round(len(self.latency_ms) / seconds, 2),
            'stamp_to_answer_p50_ms': round(float(p50), 1),
            'stamp_to_answer_p99_ms': round(float(p99), 1),
            'resident_mib_first': round(float(memory[0]), 1),
            'resident_mib_last': round(float(memory[-1]), 1),
            'resident_mib_most': round(float(memory.max()), 1),
            'resident_kib_a_minute': round(60 * 1024 * float(np.polyfit(self.looked_at[steady], memory, 1)[0]), 1),
            'faults': dict(zip(status.faults, map(int, status.fault_counts), strict=True)),
        }


def run(
    session: Session,
    process: NodeProcess,
    images: list[np.ndarray],
    rate: float,
    seconds: float,
    progress: Callable[[], object],
) -> LiveSoak:
    """Publish images (h, w, 3) uint8 RGB, there and back again, at a rate in Hz, to an active node named evict3r."""
    lock = threading.Lock()
    answers: list[tuple[float, float]] = []
    statuses: list[StreamStatus] = []

    def hear(raw: bytes) -> None:
        now = time.time()
        with lock:
            answers.append((now, now - header_stamp_ns(raw) * 1e-9))

    def take(status: StreamStatus) -> None:
        statuses[:] = [status]

    best_effort = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    reliable = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
    node = session.node
    publisher = node.create_publisher(Image, 'image', best_effort)
    # Only what answers an image: odometry goes on without.
    node.create_subscription(CameraInfo, '/evict3r/depth/camera_info', hear, reliable, raw=True)
    node.create_subscription(StreamStatus, '/evict3r/status', take, reliable)
    if not wait_until(lambda: publisher.get_subscription_count() > 0 and bool(statuses), _CONNECT_S, process.check):
        raise UserError(f'the node and this program did not find each other in {_CONNECT_S:g} s')
    messages = [image_from_rgb(image, Header(frame_id='camera')) for image in (*images, *images[-2:0:-1])]
    published, started = 0, time.time()
    looks: list[tuple[float, int]] = []
    tick, last, longest = 0, started, 0.0
    while time.time() - started < seconds:
        if time.time() - started >= len(looks) * LOOK_S:
            looks.append((time.time() - started, _resident_bytes(process.pid)))
            process.check()
            session.check()
        message = messages[published % len(messages)]
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), NANOSECONDS)
        publisher.publish(message)
        longest, last = max(longest, time.time() - last), time.time()
        published += 1
        progress()
        # A camera that was held up does not hurry afterwards: ticks that are over are left out.
        tick = max(tick + 1, math.ceil((time.time() - started) * rate))
        time.sleep(max(0.0, started + tick / rate - time.time()))
    time.sleep(_LAST_ANSWER_S)
    session.check()
    with lock:
        at, late = np.array(answers).reshape(-1, 2).T
    looked_at, resident = np.array(looks).T
    return LiveSoak(published, longest, statuses[0], 1e3 * late, at - started, looked_at, resident)


def plot(soak: LiveSoak, path: Path, title: str) -> None:
    """Draw latency and memory against time, as PNG."""
    figure = new_figure(9, 6)
    above, below = figure.subplots(2, sharex=True)
    above.plot(soak.answered_at, soak.latency_ms, '.', markersize=1.5, color='0.5')
    above.set(ylabel='stamp to answer [ms]', ylim=(0, float(np.percentile(soak.latency_ms, 99.5)) * 1.3), title=title)
    below.plot(soak.looked_at, soak.resident / 2**20)
    below.set(xlabel='time [s]', ylabel='resident memory [MiB]', ylim=(0, None))
    save(figure, path)


def _resident_bytes(pid: int) -> int:
    return int(Path(f'/proc/{pid}/statm').read_text().split()[1]) * 4096
