# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The lifecycle services: answers during a transition, refusals of what cannot be, lost answers asked for again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import GetAvailableStates, GetAvailableTransitions, GetState
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_bench import MOUNT, START_NS, STEP_NS
from ros_robot import PATIENCE_S, RELIABLE, SMALL, Robot, image_message, scene
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from evict3r_ros.ros.messages.conversions import pose_from_odometry, transform_from_pose
from evict3r_ros.ros.node import process
from evict3r_ros.ros.node.lifecycle_node import Evict3rNode
from evict3r_ros.ros.tools.node_process import wait_until_active
from evict3r_ros.ros.tools.session import Session

pytestmark = pytest.mark.ros

SOON_S = 0.2


class SlowNode(Evict3rNode):
    """A node whose transitions take as long as the test wants."""

    def __init__(self, context: Context) -> None:
        self.in_transition, self.go_on = threading.Event(), threading.Event()
        super().__init__(context=context)

    def _failure(self, what: str, action: Callable[[], None]) -> TransitionCallbackReturn | None:
        self.in_transition.set()
        assert self.go_on.wait(PATIENCE_S)
        return super()._failure(what, action)


@pytest.fixture
def served() -> Iterator[SimpleNamespace]:
    """Serve a node in this process, not yet configured, as the program serves it, beside a robot."""
    context = Context()
    rclpy.init(args=[], context=context)
    node = SlowNode(context)
    node.set_parameters([Parameter(name, value=value) for name, value in {**SMALL, 'preset': 'nano'}.items()])
    executor = MultiThreadedExecutor(num_threads=5, context=context)
    executor.add_node(node)
    end = process._End()
    spinner = threading.Thread(target=process._spin, args=(executor, node.on_callback_error, end), daemon=True)
    spinner.start()
    with Robot(points=False) as robot:
        yield SimpleNamespace(node=node, robot=robot, end=end)
        node.go_on.set()
        robot.until(lambda: robot.state() in (1, 2, 3, 4), 'a state that lasts')
        node.on_shutdown(None)
    executor.shutdown()
    spinner.join(PATIENCE_S)
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_questions_are_answered_while_configure_runs(served):
    robot, node = served.robot, served.node
    kinds = {
        'get_state': GetState,
        'get_available_states': GetAvailableStates,
        'get_available_transitions': GetAvailableTransitions,
        'get_transition_graph': GetAvailableTransitions,
    }
    clients = {name: robot.client(kind, name, kind.Request()) for name, kind in kinds.items()}
    transition = threading.Thread(target=robot.change_state, args=(Transition.TRANSITION_CONFIGURE,))
    transition.start()
    assert node.in_transition.wait(PATIENCE_S)
    for name, client in clients.items():
        took = []
        for _ in range(5):
            began = time.monotonic()
            answer = robot.ask(client, kinds[name].Request())
            took.append(time.monotonic() - began)
        assert sorted(took)[2] < SOON_S, name
        if name == 'get_state':
            assert answer.current_state.id == State.TRANSITION_STATE_CONFIGURING
    accepted, reason = robot.set_parameter('cache.tokens', 2048)
    assert not accepted and 'is read by configure' in reason
    node.go_on.set()
    transition.join(PATIENCE_S)
    assert robot.state() == State.PRIMARY_STATE_INACTIVE


def test_the_state_is_told_in_every_transition(served):
    robot, node = served.robot, served.node
    client = robot.client(GetState, 'get_state', GetState.Request())
    for request, transitional in (
        (Transition.TRANSITION_CONFIGURE, State.TRANSITION_STATE_CONFIGURING),
        (Transition.TRANSITION_ACTIVATE, State.TRANSITION_STATE_ACTIVATING),
        (Transition.TRANSITION_DEACTIVATE, State.TRANSITION_STATE_DEACTIVATING),
        (Transition.TRANSITION_CLEANUP, State.TRANSITION_STATE_CLEANINGUP),
        (Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, State.TRANSITION_STATE_SHUTTINGDOWN),
    ):
        node.go_on.clear()
        node.in_transition.clear()
        transition = threading.Thread(target=robot.change_state, args=(request,))
        transition.start()
        assert node.in_transition.wait(PATIENCE_S)
        took = []
        for _ in range(5):
            began = time.monotonic()
            assert robot.ask(client, GetState.Request()).current_state.id == transitional
            took.append(time.monotonic() - began)
        assert sorted(took)[2] < SOON_S, transitional
        node.go_on.set()
        transition.join(PATIENCE_S)
    assert robot.state() == State.PRIMARY_STATE_FINALIZED


def test_a_save_during_cleanup_says_so(served, tmp_path):
    robot, node = served.robot, served.node
    node.go_on.set()
    node.set_parameters([Parameter('save.folder', value=str(tmp_path))])
    assert robot.change_state(Transition.TRANSITION_CONFIGURE) and robot.change_state(Transition.TRANSITION_ACTIVATE)
    robot.mount_camera(MOUNT)
    robot.until_watched()
    robot.show_and_wait(image_message(scene(0), START_NS))
    assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
    reached, closed, record = threading.Event(), threading.Event(), node._configured.record
    save = record.save

    def saved_late():
        reached.set()
        assert closed.wait(PATIENCE_S)
        return save()

    record.save = saved_late
    answer = robot.node.create_client(Trigger, '/evict3r/save').call_async(Trigger.Request())
    assert reached.wait(PATIENCE_S)
    assert robot.change_state(Transition.TRANSITION_CLEANUP)
    closed.set()
    robot.until(answer.done, 'an answer')
    assert not answer.result().success and 'the node was cleaned up' in answer.result().message
    assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED and served.end.exit_code is None
    assert list(tmp_path.iterdir()) == []


def test_messages_with_negative_stamps_end_nothing(served):
    """On every topic that the node hears; images are refused."""
    robot, node = served.robot, served.node
    node.go_on.set()
    node.set_parameters([Parameter('scale.source', value='odometry')])
    assert robot.change_state(Transition.TRANSITION_CONFIGURE) and robot.change_state(Transition.TRANSITION_ACTIVATE)
    robot.mount_camera(MOUNT)
    robot.until_watched()
    header = Header(frame_id='cam0')
    header.stamp.sec = -7
    odom_in, tf = (
        robot.node.create_publisher(kind, name, RELIABLE) for kind, name in ((Odometry, 'odom_in'), (TFMessage, '/tf'))
    )
    robot.until(lambda: odom_in.get_subscription_count() and tf.get_subscription_count() > 1, 'the node listens')
    odometry = Odometry(header=header, child_frame_id='base_link')
    odometry.pose.pose.orientation.w = 1.0
    odom_in.publish(odometry)
    tf.publish(TFMessage(transforms=[transform_from_pose(np.eye(4), header, 'wheel')]))
    image = image_message(scene(0), -7 * 10**9)
    robot.show(image, CameraInfo(header=image.header))
    robot.until_fault('bad_stamp')
    robot.show_and_wait(image_message(scene(1), START_NS))
    assert robot.fault('callback_failed') == 0 and served.end.exit_code is None


def test_a_transition_that_the_state_does_not_allow_is_refused(served):
    robot, node = served.robot, served.node
    node.go_on.set()
    assert robot.change_state(Transition.TRANSITION_CONFIGURE) and robot.change_state(Transition.TRANSITION_ACTIVATE)
    refused: list[str] = []
    node._log = lambda is_error, text: refused.append(text)
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE, 99):
        assert not robot.change_state(transition)
        assert refused.pop() == f'transition {transition} is refused: the state allows deactivate, shutdown'
    assert not robot.change_state('configure') and not robot.change_state('nonsense')
    assert robot.change_state('deactivate')
    assert robot.state() == State.PRIMARY_STATE_INACTIVE and served.end.exit_code is None


def test_an_autostart_goes_on_where_a_manager_has_begun(served):
    """What a lifecycle manager and the node itself both ask for is no failure of either."""
    robot, node = served.robot, served.node
    node.go_on.set()
    assert robot.change_state(Transition.TRANSITION_CONFIGURE)
    assert node.bring_up() and robot.state() == State.PRIMARY_STATE_ACTIVE
    assert node.bring_up()


def test_a_callback_that_raises_costs_itself(served):
    robot, node = served.robot, served.node

    def fail(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        raise ZeroDivisionError('on purpose')

    node.create_service(Trigger, '~/fail', fail)
    client = robot.node.create_client(Trigger, '/evict3r/fail')
    assert client.wait_for_service(PATIENCE_S)
    for count in (1, 2):
        client.call_async(Trigger.Request())
        robot.until_fault('callback_failed', count)
        assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert "ZeroDivisionError('on purpose')" in robot.statuses[-1].last_error
    assert served.end.exit_code is None


def test_whoever_calls_a_service_that_fails_is_answered(served, monkeypatch):
    robot = served.robot

    def fail(*_: object) -> None:
        raise ZeroDivisionError('on purpose')

    # What the services look at first; the robot asks again where an answer is lost, so that counts are lower bounds.
    monkeypatch.setattr(Evict3rNode, '_configured', property(fail, lambda *_: None), raising=False)
    for service in ('reset', 'save'):
        response = robot.call(Trigger, service, Trigger.Request())
        assert not response.success and response.message == "failed: ZeroDivisionError('on purpose')"
    accepted, reason = robot.set_parameter('points.stride', 2)
    assert not accepted and 'on purpose' in reason
    monkeypatch.undo()
    robot.until(lambda: robot.fault('callback_failed') >= 3, 'failures that are counted')
    assert robot.set_parameter('points.stride', 2)[0] and served.end.exit_code is None


def test_an_executor_that_cannot_wait_ends_the_process():
    """Callbacks cannot fail a thousand times a second: then it is rclpy itself that fails, and nothing is served."""

    class Broken:
        def spin(self) -> None:
            raise RuntimeError('the context is gone')

    failures: list[Exception] = []
    end = process._End()
    with pytest.raises(RuntimeError, match='the context is gone'):
        process._spin(Broken(), failures.append, end)
    assert end.exit_code == 1 and len(failures) == process.MOST_FAILURES - 1


def test_a_lost_answer_is_asked_for_again():
    """The middleware drops an answer to a client that the node has not discovered yet."""
    with Session('node') as served, Session('tool') as tool:
        lost: list[object] = []

        def answer(request: GetState.Request, response: GetState.Response) -> GetState.Response:
            response.current_state.id = State.PRIMARY_STATE_ACTIVE
            return response

        service = served.node.create_service(GetState, '/evict3r/get_state', answer)
        send = service.send_response
        service.send_response = lambda response, header: send(response, header) if lost else lost.append(response)
        began = time.monotonic()
        assert wait_until_active(tool.node, '/evict3r', PATIENCE_S, tool.check)
        assert lost and time.monotonic() - began < 10.0


def test_a_node_that_never_answers_is_given_up():
    with Session('tool') as tool:
        began = time.monotonic()
        assert not wait_until_active(tool.node, '/evict3r', 1.0, tool.check)
        assert time.monotonic() - began < 5.0


def test_a_clock_topic_that_goes_back_is_believed_at_once(served):
    robot, node = served.robot, served.node
    node.go_on.set()
    node.set_parameters([Parameter('use_sim_time', value=True)])
    clock = robot.node.create_publisher(Clock, '/clock', RELIABLE)
    assert robot.change_state(Transition.TRANSITION_CONFIGURE) and robot.change_state(Transition.TRANSITION_ACTIVATE)
    robot.mount_camera(MOUNT)
    robot.until_watched()

    def at(seconds: int) -> None:
        """Let the simulation's time be that for the node."""

        def told() -> bool:
            message = Clock()
            message.clock.sec = seconds
            clock.publish(message)
            return node.get_clock().now().nanoseconds == seconds * 10**9

        robot.until(told, 'the time')

    at(100)
    for i in range(3):
        robot.show_and_wait(image_message(scene(i), 100 * 10**9 + i * STEP_NS))
    at(10)
    again = robot.show_and_wait(image_message(scene(0), 10 * 10**9))
    np.testing.assert_allclose(pose_from_odometry(robot.heard['odometry'][again][0]), np.eye(4), atol=1e-9)
    robot.until_fault('clock_set_back')
    assert robot.fault('bad_stamp') == 0
