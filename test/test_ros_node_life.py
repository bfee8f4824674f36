# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node's life: transitions, parameters while a frame is in the network, signals, and starts that must fail."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

from evict3r_ros.msg import StreamStatus
from lifecycle_msgs.msg import State, Transition
from ros_bench import MOUNT, START_NS, STEP_NS
from ros_robot import PATIENCE_S, SMALL, NodeUnderTest, Robot, image_message, scene
from safetensors.torch import save_file
from std_srvs.srv import Trigger

from evict3r_ros.network import load_network
from evict3r_ros.ros.messages.conversions import matrix_from_transform
from evict3r_ros.ros.node.process import DEVICE_LOST

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]


LOST = """
import sys
import torch
from evict3r_ros.cli.main import main
from evict3r_ros.stream import Stream

step = Stream.step

def fail_after_three(stream, image):
    if stream.stats().frames == 3:
        raise torch.AcceleratorError('CUDA error: device-side assert triggered')
    return step(stream, image)

Stream.step = fail_after_three
sys.exit(main(sys.argv[1:]))
"""


def test_a_device_that_is_lost_ends_the_process_with_a_reason(tmp_path: Path):
    """What torch raises after a sticky CUDA error, from the network: no later frame could succeed."""
    program = tmp_path / 'lost.py'
    program.write_text(LOST)
    with (
        Robot(points=False) as robot,
        NodeUnderTest(tmp_path / 'node.log', parameters={**SMALL, 'preset': 'nano'}, program=(str(program),)) as node,
    ):
        robot.mount_camera(MOUNT)
        robot.until_active()
        for i in range(3):
            robot.show_and_wait(image_message(scene(i), START_NS + i * STEP_NS))
        robot.show(image_message(scene(3), START_NS + 3 * STEP_NS))
        assert node.process.wait(PATIENCE_S) == DEVICE_LOST
        assert 'the device answers nothing any more in this process' in node.said()
        assert 'start it anew: CUDA error: device-side assert triggered' in node.said()
        robot.until(lambda: robot.fault('device_lost') == 1, 'a last status that says why')


def test_every_transition_twice(tmp_path: Path):
    """Nothing is answered unless active; what deactivate ended activate goes on with; configure begins anew."""
    log = tmp_path / 'node.log'
    parameters = {**SMALL, 'weights': '', 'save.folder': str(tmp_path / 'maps')}
    with Robot() as robot, NodeUnderTest(log, '--no-autostart', parameters=parameters) as node:
        robot.mount_camera(MOUNT)
        assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED
        assert not robot.change_state(Transition.TRANSITION_CONFIGURE)
        assert 'cannot configure: no weights are named' in node.said() and 'Traceback' not in node.said()
        assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED
        assert robot.set_parameter('weights', 'random') == (True, '')
        stamp = START_NS
        for policy in ('evict3r', 'sliding_window'):
            assert robot.set_parameter('cache.policy', policy) == (True, '')
            assert robot.change_state(Transition.TRANSITION_CONFIGURE)
            assert robot.state() == State.PRIMARY_STATE_INACTIVE and robot.image.get_subscription_count() == 0
            poses = []
            for activation in range(2):
                assert robot.change_state(Transition.TRANSITION_ACTIVATE)
                robot.until_watched()
                for image in range(2):
                    stamp += STEP_NS
                    robot.show_and_wait(image_message(scene(5 * image), stamp))
                    robot.until(lambda stamp=stamp: stamp in robot.heard['tf'], 'TF')
                    poses.append(matrix_from_transform(robot.heard['tf'][stamp][0].transform))
                saved = robot.call(Trigger, 'save', Trigger.Request()).message
                assert f' {2 + 2 * activation} poses' in saved, 'the record goes on as well'
                assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
                robot.until(lambda: robot.image.get_subscription_count() == 0, 'the node listens no more')
                robot.until(lambda: robot.statuses[-1].tracking_state == StreamStatus.COASTING, 'coasting')
                robot.show(image_message(scene(0), stamp + 1))
            np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-9)
            assert not np.allclose(poses[2], np.eye(4), atol=1e-9), 'the odometry goes on after a pause'
            status = robot.until_counted(4)
            assert (status.policy, status.frames_processed, status.resets) == (policy, 4, 0)
            assert robot.change_state(Transition.TRANSITION_CLEANUP)
            assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED
            robot.until(lambda: robot.statuses[-1].preset == '', 'a status without a network')
            robot.until(lambda: robot.node.count_publishers('/evict3r/points') == 0, 'no publishers')
        assert len(robot.heard['depth']) == 8
        assert robot.change_state(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
        assert node.end()[0] == 0
        assert 'Traceback' not in node.said()


@pytest.fixture(scope='class')
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    """Return a robot beside an active node, for tests that leave it as it was."""
    log = tmp_path_factory.mktemp('log') / 'node.log'
    with Robot() as robot, NodeUnderTest(log, parameters=SMALL):
        robot.mount_camera(MOUNT)
        robot.until_active()
        robot.show_and_wait(image_message(scene(0), START_NS))
        yield robot


class TestRunning:
    def test_parameters_answer_while_a_frame_is_in_the_network(self, running: Robot):
        """A call that is made once an image was sent comes back before that image's depth."""
        robot = running
        before = []
        for i in range(1, 13):
            stamp = START_NS + i * STEP_NS // 2
            robot.show(image_message(scene(i), stamp))
            if i % 2:
                assert robot.get_parameters('points.stride')[0].integer_value == 1
            else:
                assert robot.set_parameter('points.min_confidence', 1.0 + i / 10)[0]
            returned = time.monotonic()
            robot.until(lambda stamp=stamp: stamp in robot.arrived['depth'], 'depth')
            before.append(returned < robot.arrived['depth'][stamp])
        # a busy machine may delay one or another; a node that blocks would delay them all
        assert sum(before) >= 8
        assert robot.set_parameter('points.min_confidence', 1.1)[0]

    def test_thresholds_change_live_and_the_rest_is_refused_with_a_reason(self, running: Robot):
        robot, first = running, START_NS + 7 * STEP_NS
        stamp = robot.show_and_wait(image_message(scene(0), first))
        robot.until(lambda: stamp in robot.heard['points'], 'cloud')
        whole = robot.heard['points'][stamp][0]
        for name, value in (('points.stride', 3), ('points.min_confidence', 1e6), ('publish_tf', False)):
            assert robot.set_parameter(name, value) == (True, '')
        stamp = robot.show_and_wait(image_message(scene(1), first + STEP_NS))
        robot.until(lambda: stamp in robot.heard['points'], 'cloud')
        cloud = robot.heard['points'][stamp][0]
        assert (cloud.height, cloud.width) == (-(-whole.height // 3), -(-whole.width // 3))
        assert bytes(cloud.data[:4]) == b'\x00\x00\xc0\x7f'  # NaN: nothing is that sure
        assert stamp not in robot.heard['tf']

        for name, value, reason in (
            ('weights', 'official', 'read by configure'),
            ('cache.tokens', 99, 'read by configure'),
            ('depth.size', 'camera', 'read by configure'),
            ('points.stride', 0, 'out of range'),
            ('points.min_confidence', 0.5, 'out of range'),
        ):
            accepted, told = robot.set_parameter(name, value)
            assert not accepted and reason in told, (name, told)
        assert [value.string_value for value in robot.get_parameters('weights')] == ['random']

        descriptors = robot.describe_parameters()
        for name in ('weights', 'cache.tokens', 'points.min_confidence', 'startup_timeout'):
            assert descriptors[name].description, name
        assert descriptors['points.stride'].integer_range[0].to_value == 64
        assert 'sliding_window' in descriptors['cache.policy'].additional_constraints
        for name, value in (('points.stride', 1), ('points.min_confidence', 1.1), ('publish_tf', True)):
            assert robot.set_parameter(name, value) == (True, '')


def test_untrained_weights_do_not_move_a_robot(tmp_path: Path):
    with Robot() as robot, NodeUnderTest(tmp_path / 'node.log', parameters={**SMALL, 'publish_tf': 'auto'}) as node:
        robot.mount_camera(MOUNT)
        robot.until_active()
        stamp = robot.show_and_wait(image_message(scene(0), START_NS))
        robot.until(lambda: stamp in robot.heard['points'], 'the cloud, which comes after TF')
        assert not robot.heard['tf']
        assert 'UNTRAINED' in node.said() and 'nothing is sent to /tf: publish_tf is auto' in node.said()
        robot.until(lambda: 'the weights are untrained' in robot.statuses[-1].tf_withheld, 'the status says why')
        # a boolean decides alone, and at any time
        assert robot.set_parameter('publish_tf', True) == (True, '')
        stamp = robot.show_and_wait(image_message(scene(1), START_NS + STEP_NS))
        robot.until(lambda: stamp in robot.heard['tf'] and robot.statuses[-1].tf_withheld == '', 'TF')
        assert (
            robot.set_parameter('publish_tf', 'perhaps')[1] == "publish_tf: 'perhaps' is not one of auto, true, false"
        )


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_a_frame_ends_it_in_order(tmp_path: Path, number: int):
    with Robot() as robot, NodeUnderTest(tmp_path / 'node.log', parameters=SMALL) as node:
        robot.mount_camera(MOUNT)
        robot.until_active()
        for i in range(3):
            robot.show_and_wait(image_message(scene(i), START_NS + i * STEP_NS))
        segments = node.shared_memory()
        assert segments  # that is how images came
        robot.show(image_message(scene(3), START_NS + 3 * STEP_NS))
        time.sleep(0.03)
        code, seconds = node.end(number)
        assert code == 0 and seconds < 2.0
        assert not [path for path in segments if path.exists()]
        # a thread that lived on would keep its process alive
        assert not Path(f'/proc/{node.process.pid}/task').exists()
        assert 'Traceback' not in node.said() and 'error' not in node.said().lower()


def test_a_signal_while_it_starts_ends_it_in_order(tmp_path: Path):
    with NodeUnderTest(tmp_path / 'node.log', parameters=SMALL) as node:
        while 'random weights' not in node.said():
            assert node.process.poll() is None
            time.sleep(0.01)
        code, seconds = node.end()
        assert code == 0 and seconds < 2.0, node.said()


def test_killed_and_started_again(tmp_path: Path):
    """Nothing that a killed node leaves behind keeps the next one from working."""
    parameters = {**SMALL, 'preset': 'nano'}
    with Robot() as robot:
        robot.mount_camera(MOUNT)
        with NodeUnderTest(tmp_path / 'killed.log', parameters=parameters) as killed:
            robot.until_active()
            robot.show_and_wait(image_message(scene(0), START_NS))
            left = killed.shared_memory()
            killed.process.kill()
            killed.process.wait()
        try:
            with NodeUnderTest(tmp_path / 'again.log', parameters=parameters):
                heard, sent = len(robot.heard['odometry']), 0

                def answered() -> bool:
                    nonlocal sent
                    sent += 1  # nobody tells when the new node listens: for a while the dead one still counts as there
                    robot.show(image_message(scene(sent), START_NS + sent * STEP_NS))
                    time.sleep(0.1)
                    return len(robot.heard['odometry']) > heard + 3

                robot.until(answered, 'answers of the new node')
        finally:
            for path in left:  # what Fast DDS leaves of a killed process: `fastdds shm clean` does this on a robot
                path.unlink(missing_ok=True)
                path.with_name(f'{path.name}_el').unlink(missing_ok=True)


def test_a_hundred_transitions_in_any_order(tmp_path: Path):
    """What the state allows succeeds, the rest is refused, and no memory is lost on the way."""
    T = Transition
    allowed = {
        State.PRIMARY_STATE_UNCONFIGURED: {T.TRANSITION_CONFIGURE: State.PRIMARY_STATE_INACTIVE},
        State.PRIMARY_STATE_INACTIVE: {
            T.TRANSITION_ACTIVATE: State.PRIMARY_STATE_ACTIVE,
            T.TRANSITION_CLEANUP: State.PRIMARY_STATE_UNCONFIGURED,
        },
        State.PRIMARY_STATE_ACTIVE: {T.TRANSITION_DEACTIVATE: State.PRIMARY_STATE_INACTIVE},
    }
    asked = [T.TRANSITION_CONFIGURE, T.TRANSITION_ACTIVATE, T.TRANSITION_DEACTIVATE, T.TRANSITION_CLEANUP]
    chance = random.Random(3)
    parameters = {**SMALL, 'preset': 'nano', 'cache.tokens': 512, 'save.folder': str(tmp_path)}
    with Robot() as robot, NodeUnderTest(tmp_path / 'node.log', '--no-autostart', parameters=parameters) as node:
        robot.mount_camera(MOUNT)
        state, resident, moved, stamp = State.PRIMARY_STATE_UNCONFIGURED, [], 0, START_NS
        for _ in range(100):
            transition = chance.choice(asked + list(allowed[state]) * 3)
            success = robot.change_state(transition)
            assert success == (transition in allowed[state]), (state, transition)
            state = allowed[state].get(transition, state)
            moved += success
            if state == State.PRIMARY_STATE_ACTIVE:
                stamp += STEP_NS
                robot.show(image_message(scene(0), stamp))
            elif state == State.PRIMARY_STATE_UNCONFIGURED:
                resident.append(round(node.resident() / 2**20, 1))
        assert robot.state() == state and moved > 60
        assert 'Traceback' not in node.said()
        # the allocator needs some rounds to settle; what a round loses would show between the last two quarters
        quarter = len(resident) // 4
        assert quarter > 3
        assert np.median(resident[-quarter:]) - np.median(resident[-2 * quarter : -quarter]) < 8.0, resident


def test_weights_that_are_truncated_are_refused_and_those_in_use_may_be_replaced(tmp_path: Path):
    weights = tmp_path / 'weights.safetensors'
    save_file({key: value.contiguous() for key, value in load_network('random', 'nano').state_dict().items()}, weights)
    whole = weights.read_bytes()
    with (
        Robot() as robot,
        NodeUnderTest(
            tmp_path / 'node.log', '--no-autostart', parameters={**SMALL, 'preset': 'nano', 'weights': str(weights)}
        ) as node,
    ):
        robot.mount_camera(MOUNT)
        weights.write_bytes(whole[: len(whole) // 2])
        assert not robot.change_state(Transition.TRANSITION_CONFIGURE)
        assert 'a truncated safetensors file' in node.said() and 'Traceback' not in node.said()
        assert robot.statuses[-1].last_error
        weights.write_bytes(whole)
        assert robot.change_state(Transition.TRANSITION_CONFIGURE)
        assert robot.change_state(Transition.TRANSITION_ACTIVATE)
        robot.until_watched()
        robot.show_and_wait(image_message(scene(0), START_NS))
        weights.write_bytes(b'something else')  # in place, as a careless copy does
        for i in range(1, 5):
            robot.show_and_wait(image_message(scene(i), START_NS + i * STEP_NS))
        robot.until(lambda: robot.statuses[-1].frames_processed == 5, 'five answers')
        assert list(robot.statuses[-1].faults) == []


IMPOSSIBLE = [
    ({'weights': '/nowhere/weights.safetensors'}, 'cannot configure: weights file /nowhere/weights.safetensors'),
    ({'weights': ''}, 'cannot configure: no weights are named'),
    ({'cache.tokens': 10}, 'cannot configure: '),
    ({'device': 'abacus'}, "'abacus' is no device"),
    ({'preset': 'huge'}, "preset: 'huge' is not one of auto, official"),
    ({'points.stride': 65}, 'points.stride'),
    ({'seed': 'seven'}, 'seed'),
    ({'image_width': 100}, 'image_width'),
    ({'qos_overrides./evict3r/points.publisher.reliability': 'perhaps'}, 'topic ~/points: '),
    ({'scale.source': 'camera_height'}, 'needs camera_height over 0'),
    ({'cache.bits': '16/x'}, "cannot configure: cache bits '16/x'"),
]


@pytest.fixture(scope='module')
def impossible_starts(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str]]:
    """Return exit code and words of a node for each of IMPOSSIBLE, started as many at a time as there are cores."""
    folder = tmp_path_factory.mktemp('log')

    def start(number: int) -> tuple[int, str]:
        parameters = {**SMALL, **IMPOSSIBLE[number][0]}
        with NodeUnderTest(folder / f'{number}.log', parameters=parameters) as node:
            return node.process.wait(100), node.said()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(start, range(len(IMPOSSIBLE))))


@pytest.mark.parametrize('number', range(len(IMPOSSIBLE)), ids=[told for _, told in IMPOSSIBLE])
def test_a_start_that_cannot_work_ends_with_one_line(impossible_starts: list[tuple[int, str]], number: int):
    code, said = impossible_starts[number]
    assert code == 2
    # The middleware speaks for itself: of an override that cannot be, or of a port of shared memory that a process of
    # another domain holds at the moment.
    lines = [line for line in said.splitlines() if 'rmw_fastrtps' not in line and 'RTPS_TRANSPORT_SHM' not in line]
    assert len(lines) == 1 and IMPOSSIBLE[number][1] in lines[0], said


def test_a_plan_that_does_not_fit_is_refused_with_its_table(tmp_path: Path):
    with NodeUnderTest(tmp_path / 'node.log', parameters={**SMALL, 'cache.memory_mb': 60000.0}) as node:
        assert node.process.wait(60) == 2
        said = node.said()
        assert 'MiB are needed and the device has' in said and 'the largest cache that fits is' in said
        assert all(part in said for part in ('weights  ', 'cache  ', 'activations  ', 'total  '))
