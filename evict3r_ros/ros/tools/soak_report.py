# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a long run of a live node showed: figures and a plot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.io.figures import new_figure, save
from evict3r_ros.io.stamps import NANOSECONDS
from evict3r_ros.msg import StreamStatus

BEGINNING_S = 1.0
"""In which a node may still settle: drops and processor time are counted from then on."""
WINDOW_S = 60.0
"""Whose latency is compared, at the end and at the beginning."""


@dataclass(frozen=True)
class Arrivals:
    """Messages of one topic, each with an image's stamp: the time at which that image was published."""

    arrived_ns: np.ndarray
    """(n,) int64."""
    stamp_ns: np.ndarray
    """(n,) int64."""

    @property
    def latency_ms(self) -> np.ndarray:
        """(n,) from stamp to arrival."""
        latency: np.ndarray = (self.arrived_ns - self.stamp_ns) * 1e-6
        return latency

    def percentiles(self) -> tuple[float | None, float | None]:
        """Return median and 99 % of the latency in milliseconds, None where nothing came."""
        if not len(self.stamp_ns):
            return None, None
        p50, p99 = np.percentile(self.latency_ms, (50, 99))
        return round(float(p50), 1), round(float(p99), 1)


@dataclass(frozen=True)
class Looks:
    """The node's process, looked at now and then."""

    at_s: np.ndarray
    """(looks,) seconds since the start."""
    resident: np.ndarray
    """(looks,) bytes in memory."""
    cpu_s: np.ndarray
    """(looks,) seconds of processors that it has had since it exists, all threads."""


@dataclass(frozen=True)
class LiveSoak:
    """What was seen."""

    sent_ns: np.ndarray
    """(images,) int64: their stamps."""
    longest_pause_s: float
    """Between two images, on the publishing side."""
    status: StreamStatus
    """The node's last one."""
    odometry: Arrivals
    points: Arrivals | None
    """None if nobody listened."""
    looks: Looks
    start_to_active_s: float
    """From the start of the process to its being active."""

    def summary(self) -> dict[str, object]:
        """Return the figures; those of memory over the last third, when path and cloud have reached their bounds."""
        status, looks = self.status, self.looks
        steady = looks.at_s >= looks.at_s[-1] * 2 / 3
        memory = looks.resident[steady] / 2**20
        seconds = float(looks.at_s[-1])
        p50, p99 = self.odometry.percentiles()
        cloud_p50, cloud_p99 = (None, None) if self.points is None else self.points.percentiles()
        return {
            'seconds': round(seconds, 1),
            'images_published': len(self.sent_ns),
            'longest_pause_of_the_publisher_s': round(self.longest_pause_s, 3),
            'images_received': int(status.frames_received),
            'answered': int(status.frames_processed),
            'dropped': int(status.frames_dropped),
            'dropped_after_first_second': self.dropped_after_beginning(),
            'failed': int(status.frames_failed),
            'counts_agree': int(status.frames_received)
            == int(status.frames_processed + status.frames_dropped + status.frames_failed),
            'answers_heard': len(self.odometry.stamp_ns),
            'rate_hz': round(len(self.odometry.stamp_ns) / seconds, 2) if seconds else None,
            'stamp_to_answer_p50_ms': p50,
            'stamp_to_answer_p99_ms': p99,
            'stamp_to_odometry_p50_ms': p50,
            'stamp_to_odometry_p99_ms': p99,
            'stamp_to_cloud_p50_ms': cloud_p50,
            'stamp_to_cloud_p99_ms': cloud_p99,
            'cpu_ms_a_frame': self.cpu_ms_a_frame(),
            'start_to_active_s': round(self.start_to_active_s, 2),
            'first_frame_over_median': self.first_over_median(),
            'p99_last_over_first_minute': self.p99_last_over_first(),
            'resident_mib_first': round(float(memory[0]), 1),
            'resident_mib_last': round(float(memory[-1]), 1),
            'resident_mib_most': round(float(memory.max()), 1),
            'resident_kib_a_minute': self._slope(looks.at_s[steady], memory),
            'faults': dict(zip(status.faults, map(int, status.fault_counts), strict=True)),
        }

    @property
    def began_ns(self) -> int:
        """When the first image was published."""
        return int(self.sent_ns[0])

    def dropped_after_beginning(self) -> int:
        """Return how many images after the first second were not answered: dropped, failed or lost on the way."""
        late = self.sent_ns[self.sent_ns - self.began_ns >= BEGINNING_S * NANOSECONDS]
        return int(np.isin(late, self.odometry.stamp_ns, invert=True).sum())

    def cpu_ms_a_frame(self) -> float | None:
        """Return the processor time of the node a frame answered, after the first second; None in shorter runs."""
        looks = self.looks
        at = looks.at_s[looks.at_s >= BEGINNING_S]
        if len(at) < 2:
            return None
        arrived_s = (self.odometry.arrived_ns - self.began_ns) / NANOSECONDS
        answers = int(((arrived_s >= at[0]) & (arrived_s < at[-1])).sum())
        spent = looks.cpu_s[-1] - looks.cpu_s[looks.at_s == at[0]][0]
        return round(1e3 * float(spent) / answers, 2) if answers else None

    def first_over_median(self) -> float | None:
        """Return the latency of the first image that was answered over the median; None without an answer."""
        latency = self.odometry.latency_ms
        if not len(latency):
            return None
        return round(float(latency[self.odometry.stamp_ns.argmin()] / np.median(latency)), 2)

    def p99_last_over_first(self) -> float | None:
        """Return the 99 % of latency in the last minute over that in the first, the first second left out.

        Runs shorter than two minutes are halved. None where one of the parts has no answer.
        """
        since_s = (self.odometry.stamp_ns - self.began_ns) / NANOSECONDS
        end_s = (int(self.sent_ns[-1]) - self.began_ns) / NANOSECONDS
        window = min(WINDOW_S, (end_s - BEGINNING_S) / 2)
        first = self.odometry.latency_ms[(since_s >= BEGINNING_S) & (since_s < BEGINNING_S + window)]
        last = self.odometry.latency_ms[since_s >= end_s - window]
        if not len(first) or not len(last):
            return None
        return round(float(np.percentile(last, 99) / np.percentile(first, 99)), 3)

    def plot(self, path: Path, title: str) -> None:
        """Draw latency and memory against time, as PNG. Raises UserError if nothing was answered."""
        latency = self.odometry.latency_ms
        if not len(latency):
            raise UserError('nothing was answered: there is nothing to plot')
        figure = new_figure(9, 6)
        above, below = figure.subplots(2, sharex=True)
        for name, arrivals, colour in (('cloud', self.points, 'C0'), ('odometry', self.odometry, '0.5')):
            if arrivals is not None:
                at = (arrivals.arrived_ns - self.began_ns) / NANOSECONDS
                above.plot(at, arrivals.latency_ms, '.', markersize=1.5, color=colour, label=name)
        above.set(ylabel='from the image [ms]', ylim=(0, float(np.percentile(latency, 99.5)) * 1.3), title=title)
        above.legend(loc='upper right', markerscale=6)
        below.plot(self.looks.at_s, self.looks.resident / 2**20)
        below.set(xlabel='time [s]', ylabel='resident memory [MiB]', ylim=(0, None))
        save(figure, path)

    @staticmethod
    def _slope(at_s: np.ndarray, mib: np.ndarray) -> float | None:
        return round(60 * 1024 * float(np.polyfit(at_s, mib, 1)[0]), 1) if len(at_s) > 1 else None
