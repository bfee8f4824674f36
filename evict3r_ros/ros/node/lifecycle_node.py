# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node: transitions, parameters and services. What happens to a frame stands in perception."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]  # Humble has no rclpy.clock_type
from rclpy.context import Context
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.timer import Timer
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from evict3r_ros.errors import UserError
from evict3r_ros.msg import StreamStatus
from evict3r_ros.ros.node import qos
from evict3r_ros.ros.node.diagnostics import RECENT_S, diagnostics
from evict3r_ros.ros.node.lifecycle_services import answer_questions_in, refuse_impossible_transitions
from evict3r_ros.ros.node.states import Active, Configured
from evict3r_ros.ros.node.status import status_message
from evict3r_ros.ros.node.unused_parameters import UnusedParameters
from evict3r_ros.ros.perception.faults import Faults, explain
from evict3r_ros.ros.perception.other_movers import OtherMovers
from evict3r_ros.ros.perception.transforms import StaticTransforms, listen
from evict3r_ros.ros.perception.worker import Counts, Pace
from evict3r_ros.ros.settings import parameters
from evict3r_ros.ros.settings.assembly import describe

Done = TransitionCallbackReturn
_Serve = Callable[[Trigger.Request, Trigger.Response], Trigger.Response]


class Evict3rNode(LifecycleNodeMixin, Node):
    """Images in; depth, cloud, odometry, TF and status out.

    configure loads the weights and allocates all memory, activate warms up and subscribes, deactivate unsubscribes
    and waits for the frame in work, cleanup gives the memory back. device_lost(): is called when the device answers
    nothing any more in this process, which then has to end.
    """

    def __init__(
        self, name: str = 'evict3r', context: Context | None = None, device_lost: Callable[[], None] = lambda: None
    ) -> None:
        Node.__init__(self, name, context=context)
        self._device_lost = device_lost
        # Transitions take as long as weights take to load. In a group of their own, with an executor of several
        # threads, the rest is served meanwhile (LifecycleNode itself has no argument for the group).
        self.transitions = MutuallyExclusiveCallbackGroup()
        LifecycleNodeMixin.__init__(self, callback_group=self.transitions)
        answer_questions_in(self, MutuallyExclusiveCallbackGroup())
        refuse_impossible_transitions(self, lambda text: self._log(False, text))
        self._configured: Configured | None = None
        self._active: Active | None = None
        self._counts = Counts()  # of the last time that the node was active
        self._faults = Faults(self._log)
        self._static = StaticTransforms()
        self._movers = OtherMovers()
        self._timer: Timer | None = None  # parameters are judged from their declaration on
        self._listeners = listen(self, self._static, self.default_callback_group)
        self.add_on_set_parameters_callback(self._on_parameters)
        parameters.declare(self)
        self._status = qos.publish_on(self, StreamStatus, '~/status', qos.output())
        self._diagnostics = qos.publish_on(self, DiagnosticArray, '/diagnostics', qos.diagnostics())
        # What takes its time must not keep images waiting: status, with a path of thousands of poses, and saving.
        status_group, saving = MutuallyExclusiveCallbackGroup(), MutuallyExclusiveCallbackGroup()
        self._tf = self.create_subscription(
            TFMessage, '/tf', self._movers.hear, qos.transforms(), callback_group=status_group, raw=True
        )
        self._reset = self.create_service(Trigger, '~/reset', self._answering(self._on_reset))
        self._save = self.create_service(Trigger, '~/save', self._answering(self._on_save), callback_group=saving)
        self._unused = UnusedParameters(self, lambda text: self._log(False, text))
        self._unused.tell(with_topics=False)
        # Steady, because with use_sim_time a paused bag would stop the status as well.
        self._timer = self.create_timer(
            self.get_parameter('status_period').value,
            self._publish_status,
            callback_group=status_group,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    # Transitions. rclpy swallows what they raise, so each goes through _attempt.

    def on_configure(self, state: LifecycleState) -> Done:
        """Load the weights and allocate all memory."""
        return self._attempt('configure', self._configure, undo=self._release)

    def on_activate(self, state: LifecycleState) -> Done:
        """Warm up and subscribe."""
        return self._attempt('activate', self._activate, undo=self._stop_listening)

    def on_deactivate(self, state: LifecycleState) -> Done:
        """Unsubscribe and wait for the frame in work."""
        return self._attempt('deactivate', self._stop_listening)

    def on_cleanup(self, state: LifecycleState) -> Done:
        """Give the memory back."""
        return self._attempt('clean up', self._release)

    def on_shutdown(self, state: LifecycleState) -> Done:
        """Give everything back, for good."""
        return self._attempt('shut down', self._release)

    def on_error(self, state: LifecycleState) -> Done:
        """Give everything back, to begin anew with configure."""
        return self._attempt('recover', self._release)

    def bring_up(self) -> bool:
        """Configure and activate, as far as nobody has done so already; return whether the node is active.

        To be called in the callback group `transitions`.
        """
        for label, trigger in (('unconfigured', self.trigger_configure), ('inactive', self.trigger_activate)):
            if self._state_label() == label and trigger() != Done.SUCCESS:
                return False
        return self._state_label() == 'active'

    def _attempt(self, what: str, action: Callable[[], None], undo: Callable[[], None] = lambda: None) -> Done:
        failure = self._failure(what, action)
        # Not where the exception was caught: until that is over, its traceback keeps the network in memory.
        if failure is not None:
            undo()
        self._publish_status()
        return Done.SUCCESS if failure is None else failure

    def _failure(self, what: str, action: Callable[[], None]) -> Done | None:
        """Return what became of an action, None if all went well."""
        try:
            action()
        except Exception as error:
            # What a user can mend, and a card that is too small, is one line; anything else is ours to find.
            kind, text = explain(error)
            known = isinstance(error, UserError) or kind == 'out_of_memory'
            self.get_logger().error(
                f'cannot {what}: {text}' if known else f'cannot {what}: {traceback.format_exc().rstrip()}'
            )
            self._faults.last = text
            if kind == 'device_lost':
                self._give_up(text)
            return Done.FAILURE if known else Done.ERROR
        return None

    def _configure(self) -> None:
        self._counts = Counts()
        self._faults.clear()
        self._configured = configured = Configured(self, self._static, self._movers, self._faults, self._log)
        log = self.get_logger()
        log.info(describe(configured.settings, configured.network, configured.stream))
        if configured.network.untrained:
            log.warning('UNTRAINED: these weights are random, what the node answers means nothing')

    def _activate(self) -> None:
        if self._configured is None:
            raise UserError('the node is not configured')
        self._active = Active(self, self._configured, self._static, self._faults, self._on_frame_error, self._counts)
        self._unused.tell(with_topics=True)

    def _stop_listening(self) -> None:
        """Unsubscribe, and wait for the frame in work; its answer is not published."""
        active = self._active
        if active is not None:
            self._counts = active.close()
            self._active = None

    def _release(self) -> None:
        """Give back everything that configure took."""
        self._stop_listening()
        configured, self._configured = self._configured, None
        if configured is not None:
            configured.close()
        del configured
        # What the worker called knows the network: without this it would stay until Python looks for that.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _state_label(self) -> str:
        """Return the lifecycle state: 'unconfigured', 'configuring', 'inactive', and so on."""
        return str(self._state_machine.current_state[1])

    def destroy_node(self) -> None:
        """Destroy the node and, with it, its DDS participant."""
        super().destroy_node()
        # rclpy leaves this to the garbage collector. While it is there the participant lives on, and a process that
        # ends first leaves its shared memory behind: 70 MB in /dev/shm with our profile.
        del self._state_machine

    def halt(self, timeout_s: float) -> bool:
        """Publish no more answers; return False if a frame is still in the network after `timeout_s`."""
        active = self._active
        return active is None or active.worker.stop(timeout_s)

    def on_callback_error(self, error: Exception) -> None:
        """Count and log an exception that a callback did not handle; from any thread."""
        trace = ''.join(traceback.format_exception(error)).rstrip()
        self._faults.count('callback_failed', f'a callback failed: {error!r}', f'\n{trace}')
        kind, text = explain(error)
        if kind == 'device_lost':
            self._give_up(text)

    def _on_frame_error(self, error: Exception) -> None:
        kind, text = explain(error)
        trace = ''
        if kind == 'network_failed':
            trace = f'\n{"".join(traceback.format_exception(error)).rstrip()}'
        self._faults.count(kind, f'frame not answered: {text}', trace)
        if kind == 'device_lost':
            self._give_up(text)

    def _give_up(self, reason: str) -> None:
        """Tell that the device is lost, in the log and in the last status, and have the process ended."""
        self.get_logger().fatal(
            f'the device answers nothing any more in this process, which ends; start it anew: {reason}'
        )
        active = self._active
        if active is not None:
            active.worker.stopping.set()  # each further image would only fail again
        try:
            self._publish_status()
        finally:
            self._device_lost()

    # Everything else, on the executor's threads

    def _log(self, is_error: bool, text: str) -> None:
        if is_error:
            self.get_logger().error(text)
        else:
            self.get_logger().warning(text)

    def _on_parameters(self, changed: list[RosParameter[Any]]) -> SetParametersResult:
        try:
            return self._judge_and_take(changed)
        except Exception as error:  # raised here, it would leave whoever set them without an answer
            self.on_callback_error(error)
            return SetParametersResult(successful=False, reason=f'failed: {error!r}')

    def _judge_and_take(self, changed: list[RosParameter[Any]]) -> SetParametersResult:
        verdict = parameters.judge(changed, configured=self._state_label() != 'unconfigured')
        if not verdict.successful:
            return verdict
        configured = self._configured
        if configured is not None:
            configured.perception.settings = parameters.read(self, changed)
        for parameter in changed:
            if parameter.name == 'status_period' and self._timer is not None:
                self._timer.timer_period_ns = int(parameter.value * 1e9)
        return verdict

    def _answering(self, serve: _Serve) -> _Serve:
        """Let a service answer, with the reason, where it raises: who called it would wait for ever."""

        def served(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            try:
                return serve(request, response)
            except Exception as error:
                self.on_callback_error(error)
                return Trigger.Response(success=False, message=f'failed: {error!r}')

        return served

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        configured = self._configured
        if configured is None or self._active is None:
            response.message = 'the node is not active'
            return response
        configured.perception.ask_for_reset()
        configured.forget_movers()
        response.success = True
        response.message = 'the next image begins a stream; the odometry goes on from the last pose'
        return response

    def _on_save(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        configured = self._configured
        record = configured.record if configured is not None else None
        if record is None:
            kept = configured is None or configured.settings.save_folder
            response.message = (
                'nothing is kept: the node is not configured, or save.folder cannot be written'
                if kept
                else 'nothing is kept: save.folder is empty'
            )
            return response
        try:
            saved = record.save()
        except OSError as error:
            response.message = f'not saved: {error}'
            self._faults.count('not_saved', response.message)
            return response
        except ValueError as error:  # nothing to save yet, or a cleanup closed the record meanwhile
            response.message = f'not saved: {error if self._configured is configured else "the node was cleaned up"}'
            return response
        response.success = True
        response.message = f'{saved.folder}: {saved.points} points, {saved.poses} poses'
        self.get_logger().info(f'saved to {response.message}')
        return response

    def _publish_status(self) -> None:
        """Publish status, diagnostics and path."""
        configured, active = self._configured, self._active
        conditions: list[str] = []
        if active is not None:
            active.inputs.follow_latched()
            conditions = active.inputs.conditions()
        if configured is not None:
            configured.gate.tell()
            conditions += self._conditions(configured)
        message = status_message(
            active.worker.counts() if active is not None else self._counts,
            active.worker.pace() if active is not None else Pace(),
            self._faults,
            configured.network if configured is not None else None,
            configured.perception if configured is not None else None,
            configured.gate if configured is not None else None,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(message)
        state = 'unconfigured' if configured is None else 'inactive' if active is None else 'active'
        self._diagnostics.publish(
            diagnostics(message, self.get_fully_qualified_name(), state, self._faults.recent(RECENT_S), conditions)
        )
        if configured is not None and active is not None:
            odometry, settings = configured.perception.odometry, configured.settings
            if odometry is not None and settings.publish_path:
                configured.outputs.publish_path(odometry, settings.frames_odom)

    def _conditions(self, configured: Configured) -> list[str]:
        """Return what is wrong as long as it lasts, in words."""
        perception, wrong = configured.perception, []
        mount = perception.mount
        if configured.network.untrained:
            wrong.append('UNTRAINED weights: the answers mean nothing')
        if perception.frozen:
            wrong.append('the images do not change')
        elif self._active is not None and perception.tracking_state == StreamStatus.COASTING:
            wrong.append('no usable image: the odometry says the last pose again')
        wrong += [problem for problem in (mount.problem if mount is not None else '', perception.axes_doubt) if problem]
        return wrong + configured.gate.conditions()
