# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is said between two answers, with a clock that the test sets: predictions of the transform, a pose that ages."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

from ros_bench import START_NS, STEP_NS, Bench, pose
from ros_robot import nanoseconds

from evict3r_ros import geometry
from evict3r_ros.network import load_network
from evict3r_ros.ros.messages.conversions import matrix_from_transform
from evict3r_ros.ros.node import between_answers
from evict3r_ros.ros.node.between_answers import COASTING_NS, HORIZON_NS, BetweenAnswers
from evict3r_ros.ros.perception.faults import FrameRefused

MILLISECOND = 1_000_000
SECOND = 1_000_000_000


@pytest.fixture(scope='module')
def network():
    return load_network('random', preset='nano')


class Clockwork:
    """A BetweenAnswers whose timers fire when the test says so."""

    def __init__(self, network, monkeypatch, rate: float = 40.0, own_ns: int = 0) -> None:
        self.bench = Bench(network, tf_prediction_rate=rate)
        self.now_ns, self.own_ns, self.idle = START_NS, own_ns, True
        self.timers: dict[float, object] = {}
        self.transforms, self.odometry = [], []
        node = SimpleNamespace(
            create_timer=lambda period, callback, **_: self.timers.setdefault(period, callback),
            destroy_timer=lambda timer: None,
            get_clock=lambda: SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=self.own_ns)),
        )
        monkeypatch.setattr(between_answers, 'arrival_ns', lambda _: self.now_ns)
        outputs = SimpleNamespace(publish_odometry=self.odometry.append)
        self.between = BetweenAnswers(node, self.bench.perception, outputs, self.transforms.append, lambda: self.idle)

    def see(self, index: int, late_ns: int = 0):
        """Let an image be answered so long after it came."""
        answer = self.bench.see(index)
        self.now_ns = START_NS + index * STEP_NS + late_ns
        self.between.answered(answer)
        return answer

    def tick(self, after_ns: int) -> None:
        """Let time pass, and all timers fire."""
        self.now_ns += after_ns
        self.own_ns += after_ns if self.own_ns else 0
        for callback in self.timers.values():
            callback()


def test_transforms_are_predicted_by_the_last_twist_up_to_a_horizon(network, monkeypatch):
    clockwork = Clockwork(network, monkeypatch)
    assert sorted(clockwork.timers) == [0.025, 0.2]
    clockwork.tick(25 * MILLISECOND)
    clockwork.see(0)
    answer = clockwork.see(1, late_ns=60 * MILLISECOND)
    assert np.abs(answer.state.twist).max() > 1e-3
    for _ in range(60):
        clockwork.tick(25 * MILLISECOND)
    stamps = [nanoseconds(transform.header) for transform in clockwork.transforms]
    measured_ns = answer.state.stamp_ns
    assert stamps == sorted(set(stamps)) and stamps[0] > measured_ns
    assert len(stamps) == 37 and measured_ns + 0.95 * HORIZON_NS < stamps[-1] <= measured_ns + HORIZON_NS
    for stamp, transform in zip(stamps, clockwork.transforms, strict=True):
        assert (transform.header.frame_id, transform.child_frame_id) == ('odom', 'base_link')
        moved = geometry.motion_of_twist(answer.state.twist * (stamp - measured_ns) / SECOND)
        np.testing.assert_allclose(matrix_from_transform(transform.transform), pose(answer) @ moved, atol=1e-9)


def test_a_prediction_never_takes_the_place_of_a_measured_transform(network, monkeypatch):
    """tf2 ignores the second transform of one stamp: images and node of a simulation share a clock of milliseconds."""
    clockwork = Clockwork(network, monkeypatch)
    clockwork.see(0)
    for index in range(1, 20):
        clockwork.see(index)
        clockwork.tick(STEP_NS)
    measured = {START_NS + index * STEP_NS for index in range(21)}
    stamps = [nanoseconds(transform.header) for transform in clockwork.transforms]
    assert len(stamps) >= 18 and not measured & set(stamps) and stamps == sorted(set(stamps))


def test_predictions_are_of_now_where_stamps_are_of_this_machines_clock(network, monkeypatch):
    clockwork = Clockwork(network, monkeypatch, own_ns=START_NS + 45 * MILLISECOND)
    clockwork.see(0)
    clockwork.tick(5 * MILLISECOND)  # the image was 45 ms on its way
    assert abs(nanoseconds(clockwork.transforms[-1].header) - START_NS - 50 * MILLISECOND) < 1000


def test_nothing_is_predicted_without_a_rate_or_over_a_clock_that_was_set(network, monkeypatch):
    quiet = Clockwork(network, monkeypatch, rate=0.0)
    assert sorted(quiet.timers) == [0.2]
    clockwork = Clockwork(network, monkeypatch)
    clockwork.see(0)
    clockwork.see(1)
    stamps = clockwork.bench.perception.stamps
    stamps.clock_set_back()
    stamps.admit(START_NS - 30 * SECOND, clockwork.now_ns)
    clockwork.tick(25 * MILLISECOND)
    assert clockwork.transforms == []


def test_nothing_is_predicted_from_before_a_clock_that_was_set_forward_by_little(network, monkeypatch):
    clockwork = Clockwork(network, monkeypatch)
    clockwork.see(0)
    clockwork.see(1)
    stamps, off = clockwork.bench.perception.stamps, 600 * MILLISECOND
    for _ in range(2):
        clockwork.now_ns += 20 * MILLISECOND
        with pytest.raises(FrameRefused):
            stamps.admit(clockwork.now_ns + off, clockwork.now_ns)
    clockwork.now_ns += 20 * MILLISECOND
    assert stamps.admit(clockwork.now_ns + off, clockwork.now_ns).shift_ns == off
    clockwork.tick(MILLISECOND)
    assert clockwork.transforms == []


def test_an_image_after_a_silence_comes_after_the_pose_that_was_said_last(network, monkeypatch):
    """It may have been on its way for longer than the one before the silence."""
    clockwork = Clockwork(network, monkeypatch, rate=0.0)
    for index in range(3):
        clockwork.see(index)
    for _ in range(10):
        clockwork.tick(2 * STEP_NS)
    late = clockwork.bench.perception.stamps.now(clockwork.now_ns).stamp_ns - 150 * MILLISECOND
    assert clockwork.odometry and nanoseconds(clockwork.odometry[-1].header) < late


def test_the_last_pose_is_said_again_for_a_while_and_not_while_a_frame_is_in_work(network, monkeypatch):
    clockwork = Clockwork(network, monkeypatch, rate=0.0)
    clockwork.tick(5 * SECOND)
    assert clockwork.odometry == []
    for index in range(8):
        answer = clockwork.see(index)
    clockwork.tick(SECOND // 2)
    assert clockwork.odometry == []
    clockwork.idle = False
    clockwork.tick(SECOND)
    assert clockwork.odometry == []
    clockwork.idle = True
    for _ in range(100):
        clockwork.tick(SECOND // 5)
    stamps = [nanoseconds(odometry.header) for odometry in clockwork.odometry]
    assert stamps == sorted(set(stamps)) and stamps[-1] - answer.state.stamp_ns <= COASTING_NS
    assert 40 < len(stamps) < 50
    assert stamps[0] > answer.state.stamp_ns
    assert all(odometry.pose.pose == answer.odometry.pose.pose for odometry in clockwork.odometry)
    clockwork.see(200)
    clockwork.between.close()
    clockwork.tick(2 * SECOND)
    assert len(clockwork.odometry) == len(stamps)
