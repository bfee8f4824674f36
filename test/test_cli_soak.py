# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r soak`, for seconds: everything is counted, and the figures are there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

from evict3r_ros.msg import StreamStatus

from evict3r_ros.cli.main import main
from evict3r_ros.errors import UserError
from evict3r_ros.ros.tools.soak_report import Arrivals, LiveSoak, Looks


@pytest.mark.ros
@pytest.mark.timeout(180)
def test_a_few_seconds_of_camera(tmp_path: Path):
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'evict3r_ros.cli.main',
            'soak',
            '--minutes',
            '0.07',
            '--rate',
            '10',
            '--size',
            '120',
            '160',
            '--transport',
            'compressed',
            '--subscribe',
            'all',
            '--json',
            '--plot',
            str(tmp_path / 'soak.png'),
        ],
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told['counts_agree'] and 0 < told['images_received'] <= told['images_published']
    assert told['answered'] + told['dropped'] == told['images_received'] and told['failed'] == 0
    assert told['answers_heard'] == told['answered']
    assert 0.0 < told['stamp_to_odometry_p50_ms'] <= told['stamp_to_odometry_p99_ms']
    assert told['stamp_to_odometry_p50_ms'] < told['stamp_to_cloud_p50_ms'] <= told['stamp_to_cloud_p99_ms']
    assert told['dropped_after_first_second'] <= told['dropped'] and told['cpu_ms_a_frame'] > 0.0
    assert told['start_to_active_s'] > 0.0 and told['first_frame_over_median'] > 0.0
    assert 100.0 < told['resident_mib_first'] <= told['resident_mib_most']
    assert (tmp_path / 'soak.png').read_bytes()[:4] == b'\x89PNG'


@pytest.mark.parametrize(
    ('words', 'reason'),
    [
        (['--minutes', '0'], '--minutes must be'),
        (['--rate', '0'], '--minutes must be'),
        (['--minutes', 'nan'], '--minutes must be'),
        (['--size', '480', '0'], '--size must be'),
    ],
)
def test_a_run_that_cannot_be_is_refused(words, reason, capsys):
    assert main(['soak', *words]) == 2
    assert reason in capsys.readouterr().err


def soak_of(latency_ms: list[float | None], rate: float = 10.0) -> LiveSoak:
    """Return a run with an image every 1 / rate seconds, answered after so many milliseconds or not at all."""
    sent = 10**18 + (np.arange(len(latency_ms)) / rate * 1e9).astype(np.int64)
    odometry = [(stamp + round(late * 1e6), stamp) for stamp, late in zip(sent, latency_ms, strict=True) if late]
    looks = np.arange(0.0, len(latency_ms) / rate, 1.0)
    return LiveSoak(
        sent,
        0.1,
        StreamStatus(frames_received=len(sent), frames_processed=len(odometry)),
        Arrivals(*np.array(odometry, np.int64).reshape(-1, 2).T),
        None,
        Looks(looks, np.full(len(looks), 2.0**20), 0.05 * looks),
        1.0,
    )


def test_drops_of_the_first_second_are_told_apart():
    told = soak_of([None] * 3 + [5.0] * 7 + [None] * 2 + [5.0] * 18).summary()
    assert told['dropped_after_first_second'] == 2 and told['answers_heard'] == 25


def test_the_first_answer_and_the_last_minute_are_compared_with_the_rest():
    told = soak_of([40.0] + [10.0] * 699 + [20.0] * 600).summary()
    assert told['first_frame_over_median'] == 4.0
    assert told['p99_last_over_first_minute'] == 2.0
    assert told['stamp_to_odometry_p50_ms'] == 10.0 and told['stamp_to_cloud_p50_ms'] is None


def test_processor_time_is_shared_by_the_answers():
    # 50 ms of processors a second, and ten answers in it.
    assert soak_of([5.0] * 100).summary()['cpu_ms_a_frame'] == 5.0


def test_a_run_without_answers_has_no_figures_of_them(tmp_path: Path):
    soak = soak_of([None] * 30)
    told = soak.summary()
    for name in ('stamp_to_odometry_p50_ms', 'cpu_ms_a_frame', 'first_frame_over_median', 'p99_last_over_first_minute'):
        assert told[name] is None
    assert told['dropped_after_first_second'] == 20
    with pytest.raises(UserError, match='nothing was answered'):
        soak.plot(tmp_path / 'soak.png', 'nothing')
