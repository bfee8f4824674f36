# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Stamps judged as images arrive: one that is wrong is refused, those that agree in a row are the clock's new time."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

from evict3r_ros.ros.perception.faults import Faults, FrameRefused
from evict3r_ros.ros.perception.stamps import AGREE, StampOrder

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
STEP = SECOND // 10


class Camera:
    """Images before a StampOrder, one every STEP unless it is said otherwise."""

    def __init__(self) -> None:
        self.faults = Faults(lambda is_error, text: None)
        self.order = StampOrder(self.faults)
        self.arrived = 0

    def send(self, *stamps: float, every: int = STEP) -> list[bool]:
        """Send images with stamps in seconds after START; returns which of them were admitted."""
        return [self.admit(START + round(stamp * SECOND), every) is not None for stamp in stamps]

    def admit(self, stamp_ns: int, every: int = STEP):
        self.arrived += every
        try:
            return self.order.admit(stamp_ns, self.arrived)
        except FrameRefused as error:
            assert error.kind == 'bad_stamp'
            return None

    def run(self, first: float, count: int) -> list[bool]:
        return self.send(*(first + 0.1 * i for i in range(count)))

    @property
    def told(self) -> dict[str, int]:
        return self.faults.counts()


@pytest.fixture
def camera() -> Camera:
    camera = Camera()
    assert all(camera.run(0.0, 10))
    return camera


@pytest.mark.parametrize('off', [3600.0, 5.0, 1.5, 0.8, -0.5, -1.0, -1.5, -5.0, -3600.0])
@pytest.mark.parametrize('number', [1, AGREE - 1])
def test_stamps_that_are_wrong_are_refused_and_the_rest_goes_on(camera, off, number):
    wrong = [1.0 + 0.1 * i + off for i in range(number)]
    assert not any(camera.send(*wrong))
    assert all(camera.run(1.0 + 0.1 * number, 20))
    assert camera.order.era == 0 and camera.told == {}


@pytest.mark.parametrize('every', [30, 10, 1, 0.5])
def test_wrong_stamps_are_known_at_every_rate_of_a_camera(every):
    camera, step = Camera(), 1.0 / every
    elapsed = round(step * SECOND)
    assert all(camera.send(*(step * i for i in range(8)), every=elapsed))
    for i, off in enumerate((max(8 * step, 1.0), 3600.0, -max(8 * step, 1.0))):
        assert not camera.admit(START + round((8 + 5 * i) * step * SECOND + off * SECOND), elapsed)
        assert all(camera.send(*(step * (9 + 5 * i + k) for k in range(4)), every=elapsed))
    assert camera.order.era == 0 and camera.told == {}


def test_a_stamp_that_is_only_a_little_late_costs_the_images_until_then_at_most(camera):
    """It cannot be told from an image of a burst whose others were lost; the odometry does not begin anew for it."""
    assert camera.send(1.4) == [True]
    assert not any(camera.send(1.1, 1.2, 1.3, 1.4))
    assert all(camera.run(1.5, 5)) and camera.order.era == 0


@pytest.mark.parametrize('off', [-5.0, -1.2, -3600.0])
def test_a_clock_that_is_set_back_is_believed_when_images_in_a_row_say_so(camera, off):
    assert camera.run(1.0 + off, AGREE + 5) == [False] * (AGREE - 1) + [True] * 6
    assert camera.order.era == 1


def test_a_clock_set_back_by_little_is_waited_for(camera):
    """NTP corrects by less than a second: the odometry goes on once time has passed the last image again."""
    assert all(camera.run(1.0, 40))
    assert camera.run(4.6, 10) == [False] * 4 + [True] * 6
    assert camera.order.era == 0


@pytest.mark.parametrize('off', [1.5, 5.0, 3600.0])
def test_a_clock_that_is_set_forward_is_believed_and_no_new_era(camera, off):
    before = camera.admit(START + SECOND)
    assert camera.run(1.1 + off, AGREE + 5) == [False] * (AGREE - 1) + [True] * 6
    after = camera.admit(START + round((1.1 + off + 0.8) * SECOND))
    assert after.era == before.era == 0
    # by so much more than the time that passed
    assert after.shift_ns - before.shift_ns == round(off * SECOND)
    assert camera.told == {'clock_set_forward': 1}


@pytest.mark.parametrize('length', [3, 5, 8])
def test_a_bag_shorter_than_a_second_that_loops_is_answered_in_each_loop(length):
    camera = Camera()
    for loop in range(5):
        admitted = camera.run(0.0, length)
        assert admitted == [loop == 0] * (AGREE - 1) + [True] * (length - AGREE + 1)
        assert camera.order.era == loop


def test_clock_says_at_once_that_it_was_set_back(camera):
    camera.order.clock_set_back()
    assert camera.send(1.0, 1.1) == [True, True], 'images of before still come'
    assert camera.send(0.0, 0.1, 1.2) == [True, True, False] and camera.order.era == 1
    camera.order.clock_set_back()
    assert all(camera.run(0.2, 60)), 'and where no image lies back'
    assert camera.send(1.0) == [False], 'one that does much later is wrong as ever'


def test_two_cameras_of_different_clocks_do_not_take_turns(camera):
    """The second's stamps are refused, ahead or behind, as long as the first one's go on between them."""
    for off in (-7200.0, 7200.0):
        for i in range(20):
            assert camera.send(1.0 + 0.1 * i + (off > 0) * 2.0) == [True]
            assert camera.send(1.05 + 0.1 * i + (off > 0) * 2.0 + off) == [False]
    assert camera.order.era == 0


def test_a_stamp_that_stalls_is_refused_until_it_goes_on(camera):
    assert not any(camera.send(*[0.9] * 50))
    assert all(camera.run(5.9, 5)) and camera.order.era == 0


@pytest.mark.parametrize('stamp', [0, -1, -5 * SECOND])
def test_stamps_that_cannot_be(camera, stamp):
    for _ in range(2 * AGREE):
        assert camera.admit(stamp) is None
    assert all(camera.run(1.0 + 0.2 * AGREE, 5)) and camera.order.era == 0
    with pytest.raises(FrameRefused, match='zero' if stamp == 0 else 'negative'):
        StampOrder(camera.faults).admit(stamp, 0)


def test_a_camera_that_was_silent_goes_on_at_once(camera):
    moment = camera.admit(START + 11 * SECOND, 10 * SECOND + STEP)
    assert moment.after_gap and moment.shift_ns == 0 and camera.told == {'image_gap': 1}
    assert 'no image for 10.1 s' in camera.faults.last
    assert not camera.admit(START + 11 * SECOND + STEP).after_gap


@pytest.mark.parametrize('off', [0.0, -5.0, -3600.0, 3600.0])
def test_a_pause_is_no_gap_and_a_clock_set_meanwhile_is_known_as_ever(camera, off):
    camera.order.pause()
    camera.arrived += 60 * SECOND
    admitted = camera.run(61.0 + off - 66.0 * (off < 0), 8)
    assert admitted == ([True] * 8 if not off else [False] * (AGREE - 1) + [True] * 6)
    assert camera.order.era == (off < 0) and camera.told == ({'clock_set_forward': 1} if off > 0 else {})


def test_a_gap_in_a_bag_that_is_played_fast_costs_two_images(camera):
    assert camera.send(60.0, 60.1, 60.2, 60.3, every=STEP // 20) == [False, False, True, True]
    assert camera.order.era == 0


@pytest.mark.parametrize('step', [0.5, 1.0, 3.0, 20.0])
def test_pictures_that_are_taken_seldom_and_played_fast_are_answered(step):
    camera = Camera()
    admitted = camera.send(*(step * i for i in range(20)), every=SECOND // 50)
    assert all(admitted[AGREE:]) and camera.order.era == 0


def test_garbage_never_makes_a_time_of_its_own(camera):
    rng = np.random.default_rng(2)
    assert not any(camera.admit(int(stamp)) for stamp in rng.integers(1, 2**31 * SECOND, 300) // SECOND * SECOND)
    assert camera.order.era == 0


def test_silence_is_longer_than_usual(camera):
    assert camera.order.silence_ns(camera.arrived + SECOND // 2) == 0
    assert camera.order.silence_ns(camera.arrived + 2 * SECOND) == 2 * SECOND
    now = camera.order.now(camera.arrived + 2 * SECOND)
    assert (now.stamp_ns, now.era) == (START + round(2.9 * SECOND), 0)
    seldom = Camera()
    seldom.send(*(5.0 * i for i in range(5)), every=5 * SECOND)
    assert seldom.order.silence_ns(seldom.arrived + 6 * SECOND) == 0
    assert StampOrder(camera.faults).silence_ns(SECOND) == 0 and StampOrder(camera.faults).now(SECOND) is None
