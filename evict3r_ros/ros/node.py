# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node: topics, parameters and transitions. What happens to a frame stands in perception.py."""

from __future__ import annotations

from collections.abc import Callable
import os
import traceback

from nav_msgs.msg import Odometry
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage
import torch

from evict3r_ros.cache import POLICIES, CacheConfig, parse_bits
from evict3r_ros.errors import UserError
from evict3r_ros.msg import StreamStatus
from evict3r_ros.network import PRESETS, StreamVGGT, load_network, preset_of
from evict3r_ros.planning import free_memory, plan, refuse_unless_fits
from evict3r_ros.ros import parameters
from evict3r_ros.ros.inference import Counts, Pace, Worker
from evict3r_ros.ros.parameters import Settings
from evict3r_ros.ros.perception import Answer, Perception
from evict3r_ros.ros.status import status_message
from evict3r_ros.ros.transforms import StaticTransforms, listen
from evict3r_ros.stream import Stream

# Best effort hears every publisher. Deeper than one, though only the latest image is of use: what DDS overwrites
# while this process is busy nobody counts, what the mailbox overwrites is counted.
SENSOR = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
# Reliable is heard by every subscriber; rviz2 asks for it and would show nothing of a best-effort publisher.
OUTPUT = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
TF = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
STATUS_PERIOD_S = 1.0
THROTTLE_S = 5.0

Done = TransitionCallbackReturn


class Evict3rNode(LifecycleNodeMixin, Node):
    """Images in; depth, cloud, odometry, TF and status out.

    configure loads the weights and allocates all memory, activate warms up and subscribes, deactivate unsubscribes
    and waits for the frame in work, cleanup gives the memory back.
    """

    def __init__(self, name: str = 'evict3r') -> None:
        Node.__init__(self, name)
        # Transitions take as long as weights take to load. In a group of their own, with an executor of two threads,
        # parameters and status are served meanwhile (LifecycleNode itself has no argument for the group).
        self.transitions = MutuallyExclusiveCallbackGroup()
        LifecycleNodeMixin.__init__(self, callback_group=self.transitions)
        self._settings: Settings | None = None  # None while unconfigured
        self._network: StreamVGGT | None = None
        self._stream: Stream | None = None
        self._perception: Perception | None = None
        self._worker: Worker | None = None
        self._counts = Counts()
        self._last_error = ''
        self._outputs: dict[str, object] = {}
        self._inputs: list[object] = []
        self._static = StaticTransforms()
        self._listener = listen(self, self._static, self.default_callback_group)
        self.add_on_set_parameters_callback(self._on_parameters)
        parameters.declare(self)
        self._status = self.create_publisher(StreamStatus, '~/status', OUTPUT)
        # Steady, because with use_sim_time a paused bag would stop the status as well.
        self._timer = self.create_timer(STATUS_PERIOD_S, self._publish_status,
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))

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
            self.get_logger().error(f'cannot {what}: {text}' if known else
                                    f'cannot {what}: {traceback.format_exc().rstrip()}')
            self._last_error = text
            undo()
            self._publish_status()
            return Done.FAILURE if known else Done.ERROR
        self._publish_status()
        return Done.SUCCESS

    def _configure(self) -> None:
        self._settings = settings = parameters.read(self)
        self._counts, self._last_error = Counts(), ''
        device = _device(settings.device)
        dtype = settings.dtype if settings.dtype != 'auto' else 'bfloat16' if device.type == 'cuda' else 'float32'
        cache = CacheConfig(
            settings.cache_policy, settings.cache_tokens, memory_mb=settings.cache_memory_mb or None,
            bits=parse_bits(str(settings.cache_bits)), scores=settings.cache_scores, budget=settings.cache_budget,
            camera_frames=settings.cache_camera_frames)
        self._check_memory(device, dtype, cache)
        if device.type == 'cpu':
            # One core is left to DDS, the camera and the rest of the robot: OpenMP's threads spin while they wait for
            # each other, and where another process wants their core a frame takes many times as long.
            torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
        self._network = load_network(settings.weights, settings.preset, device, dtype, settings.seed)
        self._stream = Stream(self._network, cache, image_width=settings.image_width or None)
        self._outputs = {
            'tf': self.create_publisher(TFMessage, '/tf', TF),
            'depth': self.create_publisher(Image, '~/depth/image_rect', OUTPUT),
            'confidence': self.create_publisher(Image, '~/depth/confidence', OUTPUT),
            'info': self.create_publisher(CameraInfo, '~/depth/camera_info', OUTPUT),
            'odometry': self.create_publisher(Odometry, '~/odometry', OUTPUT),
            'points': self.create_publisher(PointCloud2, '~/points', OUTPUT)}
        self._perception = Perception(
            self._stream, settings, self._static, self._tell, lambda: self._outputs['points'].get_subscription_count(),
            lambda: self.count_publishers(self.resolve_topic_name('camera_info')))
        log = self.get_logger()
        log.info(f'{self._network.source}, preset {self._network.preset.name}, {dtype} on {device}; cache: '
                 f'{settings.cache_policy}, {self._stream.config.tokens} tokens a layer, {settings.cache_bits} bits, '
                 f'{self._perception.stats.cache_bytes / 2**20:.1f} MiB')
        if self._network.untrained:
            log.warning('UNTRAINED: these weights are random, what the node answers means nothing'
                        + ('' if settings.allow_untrained_tf else '; nothing is sent to /tf'))

    def _check_memory(self, device: torch.device, dtype: str, cache: CacheConfig) -> None:
        """Refuse, before anything is loaded, what does not fit the device; the log then has the whole plan."""
        settings = self._settings
        if POLICIES[settings.cache_policy].grows:
            self.get_logger().warning(f'policy {settings.cache_policy} takes more memory with every frame: it is for '
                                      'comparison, not for robots')
            return
        preset = preset_of(settings.weights, settings.preset)
        width = settings.image_width or PRESETS[preset].image_width
        planned = plan(preset, cache, (width, width), dtype, cuda=device.type == 'cuda')
        try:
            refuse_unless_fits(planned, free_memory(device))
        except UserError:
            self.get_logger().error(f'the plan:\n{planned.table()}')
            raise

    def _activate(self) -> None:
        perception = self._perception
        perception.warm_up()
        perception.begin()
        worker = Worker(lambda message: perception.process(message, worker.stopping), self._publish,
                        self._on_frame_error, self._counts)
        self._worker = worker
        worker.start()
        compressed = self._settings.image_transport == 'compressed'
        self._inputs = [
            self.create_subscription(CameraInfo, 'camera_info', perception.hear_info, SENSOR),
            self.create_subscription(CompressedImage if compressed else Image,
                                     'image/compressed' if compressed else 'image', worker.offer, SENSOR)]

    def _silence(self) -> None:
        """Unsubscribe, and wait for the frame in work; its answer is not published."""
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        if self._worker is not None:
            self._worker.stop()
            self._counts, self._worker = self._worker.counts(), None

    def _free(self) -> None:
        """Give back everything that configure took."""
        self._silence()
        for publisher in self._outputs.values():
            self.destroy_publisher(publisher)
        self._outputs, self._perception, self._settings = {}, None, None
        if self._stream is not None:
            self._stream.close()
        self._stream = self._network = None
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
        outputs = self._outputs
        if self._perception.settings.publish_tf and self._moves_robot():
            # Before the rest: who gets the cloud can then already place it.
            outputs['tf'].publish(TFMessage(transforms=[answer.transform]))
        outputs['depth'].publish(answer.depth)
        outputs['confidence'].publish(answer.confidence)
        outputs['info'].publish(answer.info)
        outputs['odometry'].publish(answer.odometry)
        if answer.points is not None:
            outputs['points'].publish(answer.points)

    def _moves_robot(self) -> bool:
        return not self._network.untrained or self._perception.settings.allow_untrained_tf

    def _on_frame_error(self, error: Exception) -> None:
        self._last_error = str(error) or type(error).__name__
        if isinstance(error, ValueError):
            self.get_logger().warning(f'image not used: {error}', throttle_duration_sec=THROTTLE_S)
        else:
            trace = ''.join(traceback.format_exception(error)).rstrip()
            self.get_logger().error(f'frame failed: {trace}', throttle_duration_sec=THROTTLE_S)

    def _tell(self, text: str) -> None:
        self._last_error = text
        self.get_logger().warning(text)
        self._publish_status()

    # Parameters and status, on the executor's threads

    def _on_parameters(self, changed: list[RosParameter]) -> SetParametersResult:
        verdict = parameters.judge(changed, configured=self._settings is not None)
        perception = self._perception
        if verdict.successful and perception is not None:
            perception.settings = parameters.read(self, changed)
        return verdict

    def _publish_status(self) -> None:
        worker = self._worker
        message = status_message(self._settings, self._network, self._perception,
                                 worker.counts() if worker else self._counts, worker.pace() if worker else Pace())
        message.header.stamp = self.get_clock().now().to_msg()
        message.last_error = self._last_error
        self._status.publish(message)


def _device(name: str) -> torch.device:
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"parameter device: {name!r} is no device; 'auto', 'cpu', 'cuda' and 'cuda:1' are") from error
    cards = torch.cuda.device_count()
    if device.type == 'cuda' and (device.index or 0) >= cards:
        raise UserError(f'parameter device: {name!r} is asked for, and torch sees {cards} CUDA devices here')
    return device
