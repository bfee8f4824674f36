# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node: transitions, parameters and services. What happens to a frame stands in perception."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.context import Context
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.timer import Timer
from std_srvs.srv import Trigger

from evict3r_ros.errors import UserError
from evict3r_ros.io.scene_record import SceneRecord
from evict3r_ros.io.stamps import nanoseconds
from evict3r_ros.msg import StreamStatus
from evict3r_ros.network import StreamVGGT
from evict3r_ros.ros.node import qos
from evict3r_ros.ros.node.diagnostics import RECENT_S, diagnostics
from evict3r_ros.ros.node.inputs import Inputs
from evict3r_ros.ros.node.outputs import Outputs
from evict3r_ros.ros.node.status import status_message
from evict3r_ros.ros.node.tf_watch import ParentWatch
from evict3r_ros.ros.perception.faults import Faults, FrameRefused, explain
from evict3r_ros.ros.perception.perception import Answer, Perception
from evict3r_ros.ros.perception.transforms import StaticTransforms, listen
from evict3r_ros.ros.perception.worker import Counts, Pace, Worker
from evict3r_ros.ros.settings import parameters
from evict3r_ros.ros.settings.assembly import describe, open_stream
from evict3r_ros.ros.settings.parameters import Settings
from evict3r_ros.stream import Stream

Done = TransitionCallbackReturn


class Evict3rNode(LifecycleNodeMixin, Node):
    """Images in; depth, cloud, odometry, TF and status out.

    configure loads the weights and allocates all memory, activate warms up and subscribes, deactivate unsubscribes
    and waits for the frame in work, cleanup gives the memory back.
    """

    def __init__(self, name: str = 'evict3r', context: Context | None = None) -> None:
        Node.__init__(self, name, context=context)
        # Transitions take as long as weights take to load. In a group of their own, with an executor of several
        # threads, parameters and status are served meanwhile (LifecycleNode itself has no argument for the group).
        self.transitions = MutuallyExclusiveCallbackGroup()
        LifecycleNodeMixin.__init__(self, callback_group=self.transitions)
        self._settings: Settings | None = None  # None while unconfigured
        self._network: StreamVGGT | None = None
        self._stream: Stream | None = None
        self._perception: Perception | None = None
        self._record: SceneRecord | None = None
        self._worker: Worker | None = None
        self._counts = Counts()
        self._faults = Faults(self._log)
        self._outputs: Outputs | None = None
        self._inputs: Inputs | None = None
        self._timer: Timer | None = None
        self._static = StaticTransforms()
        self._listener = listen(self, self._static, self.default_callback_group)
        self.add_on_set_parameters_callback(self._on_parameters)
        parameters.declare(self)
        self._status = qos.publish_on(self, StreamStatus, '~/status', qos.output())
        self._diagnostics = qos.publish_on(self, DiagnosticArray, '/diagnostics', qos.diagnostics())
        # What takes its time must not keep images waiting: telling, with a path of thousands of poses, and saving.
        telling, saving = MutuallyExclusiveCallbackGroup(), MutuallyExclusiveCallbackGroup()
        self._watch = ParentWatch(self, self._on_other_parent, telling)
        self._reset = self.create_service(Trigger, '~/reset', self._on_reset)
        self._save = self.create_service(Trigger, '~/save', self._on_save, callback_group=saving)
        # Steady, because with use_sim_time a paused bag would stop the status as well.
        self._timer = self.create_timer(
            self.get_parameter('status_period').value,
            self._tell,
            callback_group=telling,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    # Transitions. rclpy swallows what they raise, so each goes through _attempt.

    def on_configure(self, state: LifecycleState) -> Done:
        return self._attempt('configure', self._configure, undo=self._free)

    def on_activate(self, state: LifecycleState) -> Done:
        return self._attempt('activate', self._activate, undo=self._silence)

    def on_deactivate(self, state: LifecycleState) -> Done:
        return self._attempt('deactivate', self._silence)

    def on_cleanup(self, state: LifecycleState) -> Done:
        return self._attempt('clean up', self._free)

    def on_shutdown(self, state: LifecycleState) -> Done:
        return self._attempt('shut down', self._free)

    def on_error(self, state: LifecycleState) -> Done:
        return self._attempt('recover', self._free)

    def _attempt(self, what: str, action: Callable[[], None], undo: Callable[[], None] = lambda: None) -> Done:
        try:
            action()
        except Exception as error:
            # What a user can mend, and a card that is too small, is one line; anything else is ours to find.
            known = isinstance(error, (UserError, torch.cuda.OutOfMemoryError))
            text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            self.get_logger().error(
                f'cannot {what}: {text}' if known else f'cannot {what}: {traceback.format_exc().rstrip()}'
            )
            self._faults.last = text
            undo()
            self._tell()
            return Done.FAILURE if known else Done.ERROR
        self._tell()
        return Done.SUCCESS

    def _configure(self) -> None:
        self._settings = settings = parameters.read(self)
        self._counts = Counts()
        self._faults.clear()
        self._network, self._stream = open_stream(settings, self._log)
        self._outputs = Outputs(self, self._watch)
        self._record = self._open_record()
        self._perception = Perception(
            self._stream,
            settings,
            self._static,
            self._faults,
            self._outputs.wanted,
            lambda: self.count_publishers(self.resolve_topic_name('camera_info')) > 0,
            self._record,
        )
        log = self.get_logger()
        log.info(describe(settings, self._network, self._stream))
        if self._network.untrained:
            log.warning(
                'UNTRAINED: these weights are random, what the node answers means nothing'
                + ('' if settings.allow_untrained_tf else '; nothing is sent to /tf')
            )

    def _open_record(self) -> SceneRecord | None:
        """Return what ~/save writes, or None: a disk that cannot be written must not keep a robot from seeing."""
        if not self._settings.save_folder:
            return None
        folder = Path(self._settings.save_folder).expanduser()
        try:
            return SceneRecord(folder, self._settings.save_max_points)
        except OSError as error:
            self._faults.count('not_saved', f'nothing is kept for ~/save: save.folder {folder}: {error.strerror}')
            return None

    def _activate(self) -> None:
        perception = self._perception
        perception.warm_up()
        perception.begin()
        worker = Worker(
            lambda message: perception.process(message, worker.stopping),
            self._publish,
            self._on_frame_error,
            self._counts,
        )
        self._worker = worker
        worker.start()
        self._inputs = Inputs(self, self._settings, perception, self._static, self._faults, worker.offer)

    def _silence(self) -> None:
        """Unsubscribe, and wait for the frame in work; its answer is not published."""
        inputs, self._inputs = self._inputs, None
        if inputs is not None:
            inputs.close()
        if self._worker is not None:
            self._worker.stop()
            self._counts, self._worker = self._worker.counts(), None
        self._watch.watch('')

    def _free(self) -> None:
        """Give back everything that configure took."""
        self._silence()
        outputs, record, self._outputs, self._record = self._outputs, self._record, None, None
        self._perception = self._settings = None
        if outputs is not None:
            outputs.close()
        if record is not None:
            record.close()
        if self._stream is not None:
            self._stream.close()
        self._stream = self._network = None
        # The worker and what it calls know each other: without this the network would stay until Python looks for that.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def destroy_node(self) -> None:
        """Destroy the node and, with it, its DDS participant."""
        super().destroy_node()
        # rclpy leaves this to the garbage collector. While it is there the participant lives on, and a process that
        # ends first leaves its shared memory behind: 70 MB in /dev/shm with our profile.
        self._state_machine = None

    def halt(self, timeout_s: float) -> bool:
        """Publish no more answers; return False if a frame is still in the network after `timeout_s`."""
        worker = self._worker
        return worker is None or worker.stop(timeout_s)

    # A frame's way out, on the worker's thread

    def _publish(self, answer: Answer) -> None:
        inputs, perception = self._inputs, self._perception
        if inputs is not None and inputs.overtook(nanoseconds(answer.depth.header.stamp)):
            raise FrameRefused('bad_stamp', 'an answer was withheld: the clock was set back while it was worked on')
        settings = perception.settings
        with_tf = settings.publish_tf and (not self._network.untrained or settings.allow_untrained_tf)
        self._watch.watch(perception.mount.child if with_tf else '')
        self._outputs.publish(answer, with_tf)
        answer.keep()

    def _on_frame_error(self, error: Exception) -> None:
        kind, text = explain(error)
        trace = ''
        if kind == 'network_failed':
            trace = f'\n{"".join(traceback.format_exception(error)).rstrip()}'
        self._faults.count(kind, f'frame not answered: {text}', trace)

    # Everything else, on the executor's threads

    def _log(self, is_error: bool, text: str) -> None:
        if is_error:
            self.get_logger().error(text)
        else:
            self.get_logger().warning(text)

    def _on_other_parent(self, parent: str) -> None:
        perception = self._perception
        if perception is not None and perception.mount is not None:
            child = perception.mount.child
            self._faults.count(
                'second_parent',
                f'somebody else publishes {parent} -> {child} in /tf: this node holds '
                'its own back, because a frame has one parent (publish_tf: false if that is meant)',
            )

    def _on_parameters(self, changed: list[RosParameter]) -> SetParametersResult:
        verdict = parameters.judge(changed, configured=self._settings is not None)
        perception = self._perception
        if not verdict.successful:
            return verdict
        if perception is not None:
            perception.settings = parameters.read(self, changed)
        for parameter in changed:
            if parameter.name == 'status_period' and self._timer is not None:
                self._timer.timer_period_ns = int(parameter.value * 1e9)
        return verdict

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        perception = self._perception
        response.success = perception is not None and self._worker is not None
        response.message = 'the node is not active'
        if response.success:
            perception.ask_for_reset()
            response.message = 'the next image begins a stream; the odometry goes on from the last pose'
        return response

    def _on_save(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        record = self._record
        if record is None:
            kept = self._settings is None or self._settings.save_folder
            response.message = (
                'nothing is kept: the node is not configured, or save.folder cannot be written'
                if kept
                else 'nothing is kept: save.folder is empty'
            )
            return response
        try:
            saved = record.save()
        except (OSError, UserError) as error:
            response.message = f'not saved: {error}'
            if isinstance(error, OSError):
                self._faults.count('not_saved', response.message)
            return response
        response.success = True
        response.message = f'{saved.folder}: {saved.points} points, {saved.poses} poses'
        self.get_logger().info(f'saved to {response.message}')
        return response

    def _tell(self) -> None:
        """Publish status, diagnostics and path."""
        worker, perception, inputs, outputs = self._worker, self._perception, self._inputs, self._outputs
        conditions = inputs.conditions() if inputs is not None else []
        if perception is not None:
            conditions += self._conditions(perception)
        message = status_message(
            self._settings,
            self._network,
            perception,
            worker.counts() if worker else self._counts,
            worker.pace() if worker else Pace(),
            self._faults,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(message)
        state = 'unconfigured' if self._settings is None else 'inactive' if inputs is None else 'active'
        self._diagnostics.publish(
            diagnostics(message, self.get_fully_qualified_name(), state, self._faults.recent(RECENT_S), conditions)
        )
        if inputs is not None and perception.trajectory is not None and perception.settings.publish_path:
            outputs.publish_path(perception.trajectory, perception.settings.frames_odom)

    def _conditions(self, perception: Perception) -> list[str]:
        """Return what is wrong as long as it lasts, in words."""
        wrong = []
        if self._network is not None and self._network.untrained:
            wrong.append('UNTRAINED weights: the answers mean nothing')
        if perception.frozen:
            wrong.append('the images do not change')
        if perception.mount is not None and perception.mount.problem:
            wrong.append(perception.mount.problem)
        if (parent := self._watch.other_parent()) and perception.mount is not None:
            wrong.append(f'somebody else publishes {parent} -> {perception.mount.child}')
        return wrong
