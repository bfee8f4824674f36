# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The lifecycle services: answers during a transition, refusals of what cannot be, lost answers asked for again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import GetAvailableStates, GetAvailableTransitions, GetState
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor
from rclpy.parameter import Parameter
from ros_robot import PATIENCE_S, SMALL, Robot
from std_srvs.srv import Trigger

from evict3r_ros.ros.node import process
from evict3r_ros.ros.node.lifecycle_node import Evict3rNode
from evict3r_ros.ros.tools.node_process import wait_until_active
from evict3r_ros.ros.tools.session import Session

pytestmark = pytest.mark.ros

SOON_S = 0.2


class SlowNode(Evict3rNode):
    """A node whose configure takes as long as the test wants."""

    def __init__(self, context: Context) -> None:
        self.configuring, self.go_on = threading.Event(), threading.Event()
        super().__init__(context=context)

    def _configure(self) -> None:
        self.configuring.set()
        assert self.go_on.wait(PATIENCE_S)
        super()._configure()


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
    assert node.configuring.wait(PATIENCE_S)
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
