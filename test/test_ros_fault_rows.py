# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of docs/faults.md that come from outside, against one live node: each costs itself only, and is counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

from diagnostic_msgs.msg import DiagnosticArray
from evict3r_ros.msg import StreamStatus
from rcl_interfaces.msg import Parameter
from rcl_interfaces.srv import SetParameters
from rclpy.serialization import serialize_message
from ros_bench import MOUNT, START_NS, STEP_NS, info
from ros_robot import (
    BEST_EFFORT,
    SMALL,
    NodeUnderTest,
    Robot,
    image_message,
    map_of,
    nanoseconds,
    parameter_value,
    scene,
)
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from evict3r_ros.ros.messages.conversions import matrix_from_transform
from evict3r_ros.ros.perception.stamps import AGREE
from evict3r_ros.ros.tools.session import Session

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]

SIZE = (120, 160)
SECOND = 1_000_000_000
REFUSED = ('broken_image', 'bad_stamp', 'blank_image')
MIB = 2**20


class Live:
    """A running node, its robot and a clock that only this class sets."""

    def __init__(self, robot: Robot, node: NodeUnderTest) -> None:
        self.robot, self.node = robot, node
        self.stamp_ns, self.index = START_NS, 0

    def image(self, size: tuple[int, int] = SIZE, frame: str = 'cam0', after_ns: int = STEP_NS) -> Image:
        """Return the next image, its stamp so much after the last one's."""
        self.stamp_ns += after_ns
        self.index += 1
        return image_message(scene(self.index, size), self.stamp_ns, frame)

    def see(self, *arguments, **options) -> int:
        """Show the next image and wait for depth, odometry and TF; returns its stamp."""
        stamp = self.robot.show_and_wait(self.image(*arguments, **options))
        self.robot.until(lambda: stamp in self.robot.heard['tf'], 'TF')
        return stamp

    def pose(self, stamp: int) -> np.ndarray:
        return matrix_from_transform(self.robot.heard['tf'][stamp][0].transform)

    def since(self, *kinds: str):
        """Return a function that waits until each of these was counted so often since now, and nothing else was."""
        self.see()
        self.settle()
        before = {kind: self.robot.fault(kind) for kind in kinds}
        rest = {kind: count for kind, count in self.counts().items() if kind not in kinds}

        def wait(*more: int) -> None:
            for kind, count in zip(kinds, more, strict=True):
                self.robot.until_fault(kind, before[kind] + count)
            assert {kind: count for kind, count in self.counts().items() if kind not in kinds} == rest

        return wait

    def counts(self) -> dict[str, int]:
        status = self.robot.statuses[-1]
        return dict(zip(status.faults, status.fault_counts, strict=True))

    def settle(self) -> None:
        """Wait for a status that was made after all that has happened."""
        seen = len(self.robot.statuses)
        self.robot.until(lambda: len(self.robot.statuses) > seen + 1, 'two more statuses')


@pytest.fixture(scope='module')
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    parameters = {**SMALL, 'preset': 'nano', 'startup_timeout': 0.2, 'scale.source': 'depth'}
    with (
        Robot(points=False) as robot,
        NodeUnderTest(tmp_path_factory.mktemp('log') / 'node.log', parameters=parameters) as node,
    ):
        robot.mount_camera(MOUNT)
        robot.until_active()
        robot.until_fault('silent_input')  # counted once, before any test counts
        yield Live(robot, node)
        assert 'Traceback' not in node.said()


def test_a_silent_camera_is_told_of(live):
    robot = live.robot
    robot.listen('diagnostics', DiagnosticArray, '/diagnostics')
    robot.until(
        lambda: any(
            'no image ever on /image' in messages[0].status[0].message
            for messages in list(robot.heard['diagnostics'].values())
        ),
        'a diagnostic',
    )
    other = Session('other')  # a participant has one type for a topic
    other.node.create_publisher(CompressedImage, 'image', BEST_EFFORT)
    robot.until(
        lambda: any(
            'published as sensor_msgs/msg/CompressedImage, and image_transport' in messages[0].status[0].message
            for messages in list(robot.heard['diagnostics'].values())
        ),
        'the other type',
    )
    other.close()
    robot.until(lambda: robot.node.count_publishers('/image') == 1, 'it is gone')
    live.see()
    live.settle()
    assert 'no image' not in list(robot.heard['diagnostics'].values())[-1][0].status[0].message


def test_a_silent_odom_in_or_depth_in_is_told_of(live):
    """While it lasts, and counted once; broken messages are no reason to fall silent about it."""
    robot = live.robot
    robot.listen('silence', DiagnosticArray, '/diagnostics')
    words = 'no usable depth_in ever on /depth_in'
    robot.until(
        lambda: any(words in heard[0].status[0].message for heard in list(robot.heard['silence'].values())),
        'a diagnostic',
    )
    live.see()
    live.settle()
    assert robot.fault('silent_input') == 1


def test_odometry_and_depth_that_cannot_be_used(live):
    """Depth here; odometry, which takes a node of another scale.source, in test_ros_interface.py."""
    robot = live.robot
    depth = robot.node.create_publisher(Image, 'depth_in', BEST_EFFORT)
    colours, short = live.image(), live.image()
    short.encoding, short.step = '16UC1', 10
    for message, reason in ((colours, "'rgb8' is not supported"), (short, 'step of 10 bytes')):
        counted = robot.fault('broken_input')

        def told(message=message, counted=counted) -> bool:
            depth.publish(message)  # again and again: the node may not have found this publisher yet
            time.sleep(0.05)
            return robot.fault('broken_input') > counted

        robot.until(told, 'it is counted')
        live.settle()
        assert 'depth_in is not used' in robot.statuses[-1].last_error and reason in robot.statuses[-1].last_error
    robot.node.destroy_publisher(depth)
    live.see()


def test_clock_set_back_by_a_bag_that_loops(live):
    """The third image of the new time is answered at odom's origin, and nothing of the old time comes after it."""
    live.since()
    robot, counted, refused = live.robot, live.robot.fault('clock_set_back'), live.robot.fault('bad_stamp')
    for _ in range(3):
        live.see()
    robot.show(live.image(after_ns=-30 * SECOND))
    robot.until_fault('bad_stamp', refused + 1)
    robot.show(live.image())
    robot.until_fault('bad_stamp', refused + 2)
    stamp = robot.show_and_wait(live.image())
    robot.until(lambda: stamp in robot.heard['tf'], 'TF in the new time')
    np.testing.assert_allclose(live.pose(stamp), np.eye(4), atol=1e-9)
    live.see()
    stamps = [moment for name, moment in robot.order if name == 'tf']
    new = stamps.index(stamp)
    assert all(moment < stamp + SECOND for moment in stamps[new:]), 'no TF of before the loop after its first'
    robot.until_fault('clock_set_back', counted + 1)


def test_stamps_that_are_wrong_cost_their_images_only(live):
    """Repeated, back by a little or by much, zero, negative, an hour ahead: each alone."""
    counted = live.since('bad_stamp')
    robot, refused = live.robot, live.robot.fault('bad_stamp')
    resets, before = robot.statuses[-1].resets, live.pose(live.see())
    depth = set(robot.heard['depth'])
    for number, after_ns in enumerate((0, -1_000_000, -5 * SECOND, 3600 * SECOND, None, -(2**40) * SECOND), start=1):
        wrong = live.image(after_ns=0)
        seconds = 0 if after_ns is None else max(-5, (live.stamp_ns + after_ns) // SECOND)
        nanosec = 0 if seconds <= 0 else (live.stamp_ns + after_ns) % SECOND
        wrong.header.stamp.sec, wrong.header.stamp.nanosec = seconds, nanosec
        robot.show(wrong)
        robot.until_fault('bad_stamp', refused + number)
        if number % 2 == 0:
            depth.add(live.see())  # between two of them time goes on
    counted(6)
    after = live.see()
    assert robot.statuses[-1].resets == resets and not np.allclose(live.pose(after), np.eye(4), atol=1e-9)
    assert set(robot.heard['depth']) <= depth | {after}
    assert np.linalg.norm(live.pose(after)[:3, 3] - before[:3, 3]) > 0.0


def test_a_clock_that_is_set_forward(live):
    counted = live.since('bad_stamp', 'clock_set_forward')
    robot, refused = live.robot, live.robot.fault('bad_stamp')
    resets = robot.statuses[-1].resets
    for number, after_ns in ((1, 3600 * SECOND), (2, STEP_NS)):
        robot.show(live.image(after_ns=after_ns))
        robot.until_fault('bad_stamp', refused + number)
    first = live.see()
    second = live.see()
    counted(2, 1)
    assert 'set forward by 3' in robot.statuses[-1].last_error and robot.statuses[-1].resets == resets
    assert not np.array_equal(live.pose(first), live.pose(second))  # the same stream goes on


def test_images_that_fall_silent_leave_the_pose_that_was(live):
    """Odometry says it again and again, less and less surely, and the status that it does; /tf says nothing."""
    live.since()
    robot = live.robot
    last = live.see()
    robot.heard['coasting'].clear()
    robot.until(lambda: len(robot.heard['coasting']) > 3, 'odometry without images')
    held = [messages[0] for messages in robot.heard['coasting'].values()]
    stamps = [nanoseconds(message.header) for message in held]
    assert last + SECOND // 2 < stamps[0] and stamps == sorted(set(stamps))
    assert all(message.pose.pose == robot.heard['odometry'][last][0].pose.pose for message in held)
    spreads = [message.pose.covariance[0] for message in (robot.heard['odometry'][last][0], *held)]
    assert spreads == sorted(set(spreads))
    robot.until(lambda: robot.statuses[-1].tracking_state == StreamStatus.COASTING, 'coasting')
    assert max(robot.heard['tf']) == last
    live.see()
    robot.until(lambda: robot.statuses[-1].tracking_state == StreamStatus.TRACKING, 'tracking')


def test_resolution_encoding_and_frame_change_in_mid_stream(live):
    counted = live.since('image_changed', 'no_transform')
    robot, resets = live.robot, live.robot.statuses[-1].resets
    last = live.see()
    other = live.see(size=(160, 120))
    np.testing.assert_allclose(live.pose(other), live.pose(last), atol=1e-9)
    assert map_of(robot.heard['depth'][other][0]).shape == (154, 154)
    grey = live.image(size=(160, 120))
    grey = image_message(np.ascontiguousarray(scene(live.index, (160, 120))[..., 0]), live.stamp_ns)
    robot.show_and_wait(grey)

    def moved() -> bool:  # once it was listened for others who do
        stamp = robot.show_and_wait(live.image(size=(160, 120), frame='cam1'))
        return any(transform.child_frame_id == 'cam1' for transform in robot.heard['tf'].get(stamp, []))

    robot.until(moved, 'TF of the other camera')
    live.see()  # both at once, back to the first camera
    counted(3, 1)
    assert robot.statuses[-1].resets == resets + 3


def test_camera_info_that_disagrees_or_comes_late_or_says_nothing(live):
    counted = live.since('calibration')
    robot, resets = live.robot, live.robot.statuses[-1].resets
    predicted = robot.heard['info'][live.see()][0].k[0]

    def told(message: CameraInfo) -> float:
        message.header.frame_id = 'cam0'
        robot.info.publish(message)
        time.sleep(0.2)
        stamp = live.see()
        robot.until(lambda: stamp in robot.heard['info'], 'camera_info')
        return robot.heard['info'][stamp][0].k[0]

    assert told(info((60, 80))) != pytest.approx(70.0 * 154 / 160)  # of another size
    assert told(info(SIZE)) == pytest.approx(70.0 * 154 / 160)  # late
    zeros = info(SIZE)
    zeros.k = [0.0] * 9
    back = told(zeros)
    assert back != pytest.approx(70.0 * 154 / 160) and abs(back / predicted - 1.0) < 0.5
    # told that it is of no use, and that the calibration changed, twice
    counted(3)
    assert robot.statuses[-1].resets == resets + 2


def test_messages_that_are_not_what_they_say(live):
    counted = live.since('broken_image')
    truncated, short, empty, point, tall = (live.image() for _ in range(5))
    truncated.data = truncated.data[:1000]
    short.step = 10
    empty.height = empty.width = empty.step = 0
    empty.data = empty.data[:0]
    point.height = point.width = 1
    point.step, point.data = 3, point.data[:3]
    tall.height, tall.width, tall.step = tall.height * tall.width, 1, 3
    for message in (truncated, short, empty, point, tall):
        live.robot.show(message)
        time.sleep(0.1)
    counted(5)
    live.see()


def test_black_and_white_images(live):
    counted = live.since('blank_image')
    for level in (0, 255):
        message = live.image()
        message.data = type(message.data)('B', bytes([level]) * len(message.data))
        live.robot.show(message)
        time.sleep(0.1)
    counted(2)
    robot = live.robot
    assert 'is the lens covered' in robot.statuses[-1].last_error
    robot.until(lambda: live.stamp_ns in robot.heard['odometry'], 'the last pose, said again')
    held = robot.heard['odometry'][live.stamp_ns][0]
    assert held.pose.covariance[0] > robot.heard['odometry'][live.stamp_ns - STEP_NS][0].pose.covariance[0]
    assert live.stamp_ns not in robot.heard['depth'] and live.stamp_ns not in robot.heard['tf']
    robot.until(lambda: robot.statuses[-1].tracking_state == StreamStatus.COASTING, 'coasting')


def test_a_frozen_camera(live):
    counted = live.since('frozen_image')
    while live.robot.fault('frozen_image') == 0:
        live.index = 7
        live.robot.show(live.image())
        time.sleep(0.03)
    counted(1)
    live.see()


def test_a_publisher_twenty_times_faster_than_the_network(live):
    """What is answered is the newest: no more than one frame waits, and nothing piles up."""
    live.since()
    robot = live.robot
    before, answered = live.node.resident(), set(robot.heard['odometry'])
    sent: list[int] = []
    behind: list[int] = []
    message = live.image()
    end = time.monotonic() + 3.0
    while time.monotonic() < end:
        live.stamp_ns += 1_000_000
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(live.stamp_ns, SECOND)
        message.data[:2] = type(message.data)('B', (len(sent) % 256, len(sent) // 256 % 256))
        robot.show(message)
        sent.append(live.stamp_ns)
        new = robot.heard['odometry'].keys() - answered
        if new:
            behind.append(len(sent) - 1 - sent.index(max(new)))
            answered |= new
        time.sleep(0.0005)
    live.settle()
    status = robot.statuses[-1]
    assert status.frames_dropped > 2 * len(behind)
    assert status.frames_processed + status.frames_dropped + status.frames_failed >= status.frames_received - 1
    # as old as the frame in work and the one in the mailbox are together, in frames of this flood
    a_frame = len(sent) / max(1, len(behind))
    assert np.median(behind) <= 2.5 * a_frame + 5
    assert live.node.resident() - before < 30 * MIB


def test_two_publishers_on_one_topic(live):
    counted = live.since('two_publishers')
    second = live.robot.node.create_publisher(Image, 'image', BEST_EFFORT)
    counted(1)
    live.see()
    live.robot.node.destroy_publisher(second)
    assert '2 publishers on /image' in live.robot.statuses[-1].last_error


def test_a_subscriber_that_never_reads(live, tmp_path: Path):
    """A process that subscribes to everything and is then stopped: the node goes on as if it were not there."""
    reader = tmp_path / 'reader.py'
    reader.write_text(
        'import time\n'
        'from ros_robot import Robot\n'
        'with Robot() as robot:\n'
        "    robot.until(lambda: robot.node.count_publishers('/evict3r/points') > 0, 'the node')\n"
        '    time.sleep(0.5)\n'
        "    print('there', flush=True)\n"
        '    time.sleep(600)\n'
    )
    here = str(Path(__file__).parent)
    process = subprocess.Popen(
        [sys.executable, str(reader)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, (here, os.environ.get('PYTHONPATH'))))},
    )
    try:
        assert process.stdout.readline() == 'there\n'
        live.see()
        process.send_signal(signal.SIGSTOP)
        for _ in range(10):
            live.see()
        before = live.node.resident()
        began = time.monotonic()
        for _ in range(40):
            live.see()
        assert (time.monotonic() - began) / 40 < 1.0
        assert live.node.resident() - before < 20 * MIB
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)  # in order, or its shared memory would stay
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            # Whatever so long a stop did to the reader: a second publisher must not outlive this test.
            process.kill()
            process.wait()


def test_a_storm_of_parameters(live):
    live.since()
    robot = live.robot
    client = robot.client(SetParameters, 'set_parameters', SetParameters.Request())
    answers = []
    for i in range(300):
        robot.show(live.image())
        name, value = (
            ('points.stride', 1 + i % 4),
            ('points.min_confidence', 1.0 + i % 3),
            ('publish_tf', i % 2 == 0),
            ('cache.tokens', 100 + i),
            ('points.stride', -i),
            ('points.min_confidence', 'many'),
        )[i % 6]
        answers.append(
            client.call_async(SetParameters.Request(parameters=[Parameter(name=name, value=parameter_value(value))]))
        )
        # a service keeps ten requests, and forgets the oldest when more wait
        robot.until(lambda: all(answer.done() for answer in answers[:-4]), 'answers')
    robot.until(lambda: all(answer.done() for answer in answers), 'an answer to each')
    accepted = [answer.result().results[0].successful for answer in answers]
    assert accepted == [i % 6 < 3 for i in range(300)]
    robot.node.destroy_client(client)
    assert robot.set_parameter('publish_tf', True)[0]
    live.see()


def mutate(rng: np.random.Generator, message) -> None:
    """Change one or two fields of an Image or a CameraInfo to what nobody would send."""

    def number(limit: int) -> int:
        return int(rng.choice([0, 1, 13, limit, rng.integers(limit)]))

    for _ in range(rng.integers(1, 3)):
        match rng.integers(8):
            case 0:
                message.height = number(2**32 - 1)
            case 1:
                message.width = number(2**32 - 1)
            case 2:
                message.header.stamp.sec, message.header.stamp.nanosec = number(2**31 - 1) - 2**30, number(2**32 - 1)
            case 3:
                message.header.frame_id = str(rng.choice(['', 'ceiling', '/', 'kamera \u00e4 \u2603', 'x' * 3000]))
            case 4 | 5 if isinstance(message, Image):
                message.encoding = str(rng.choice(['', 'mono16', 'bayer_rggb8', '32FC1', 'yuv422', 'RGB8', 'x']))
            case 6 if isinstance(message, Image):
                message.step = number(2**32 - 1)
            case 7 if isinstance(message, Image):
                message.data = type(message.data)('B', rng.integers(0, 256, number(5000), np.uint8).tobytes())
            case _ if isinstance(message, CameraInfo):
                message.distortion_model = str(rng.choice(['plumb_bob', 'equidistant', 'rational_polynomial', '', 'x']))
                message.d = rng.choice([0.0, 1e300, np.nan, -np.inf, 0.1], number(15)).tolist()
                for field in (message.k, message.p):
                    field[rng.integers(len(field))] = rng.choice([np.nan, np.inf, -1.0, 0.0, 1e300, 70.0])


def damage(rng: np.random.Generator, message) -> bytes:
    """Return a message's bytes on the wire with some changed, or with the end cut off."""
    raw = bytearray(serialize_message(message))
    if rng.integers(3) == 0:
        del raw[int(rng.integers(4, len(raw))) :]
    for place in rng.integers(4, min(len(raw), 120), rng.integers(1, 6)):
        raw[place] = rng.integers(256)
    return bytes(raw)


def test_five_hundred_mutated_messages(live):
    """No crash, no hang, and every image that the node took in is answered, dropped for a newer one, or counted."""
    live.since()
    robot, rng = live.robot, np.random.default_rng(5)
    depth = robot.node.create_publisher(Image, 'depth_in', BEST_EFFORT)
    robot.until(lambda: depth.get_subscription_count() > 0, 'the node listens to depth_in')
    failed = robot.statuses[-1].frames_failed
    for i in range(500):
        size = tuple(int(side) for side in rng.integers(14, 60, 2))
        image = live.image(size)
        publisher = (robot.image, robot.image, robot.info, depth)[i % 4]
        message = info(size) if publisher is robot.info else image
        if i % 5:
            mutate(rng, message)
            publisher.publish(message)
        else:
            publisher.publish(damage(rng, message))
        time.sleep(0.015)
    live.stamp_ns += 100 * 365 * 24 * 3600 * SECOND  # past every stamp that came of it
    live.stamp_ns = min(live.stamp_ns, (2**31 - 10**6) * SECOND)
    live.robot.info.publish(CameraInfo())
    time.sleep(0.5)
    for _ in range(AGREE - 1):
        robot.show(live.image())
        time.sleep(0.1)
    live.see()
    live.settle()
    status = robot.statuses[-1]
    counts = live.counts()
    assert counts.get('network_failed', 0) == counts.get('not_finite', 0) == 0, live.node.said()
    assert status.frames_failed == sum(counts.get(kind, 0) for kind in REFUSED) > failed + 80
    assert status.frames_processed + status.frames_dropped + status.frames_failed == status.frames_received
    assert nanoseconds(robot.heard['depth'][live.stamp_ns][0].header) == live.stamp_ns
