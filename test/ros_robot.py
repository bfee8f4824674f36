# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the node's tests have around it: the node as a process, and a robot that talks to it over DDS."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np
from evict3r_ros.msg import StreamStatus
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
from rclpy.client import Client
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from evict3r_ros.io import stamps
from evict3r_ros.ros.messages.conversions import transform_from_pose
from evict3r_ros.ros.tools.session import Session

ASK_AGAIN_S = 5.0  # an answer that takes longer is taken for lost
PATIENCE_S = 40.0  # for anything that is a matter of a second on an idle machine
SMALL = {
    'weights': 'random',
    'preset': 'small',
    'device': 'cpu',
    'cache.tokens': 1024,
    'publish_tf': True,
    'startup_timeout': 1.0,
    'save.folder': '',
    'status_period': 0.2,
}
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class NodeUnderTest:
    """`evict3r node` as a process, its output in a file; leaving the context ends it, and it has to end well."""

    def __init__(
        self,
        log: Path,
        *options: str,
        parameters: dict | None = None,
        program: tuple[str, ...] = ('-m', 'evict3r_ros.cli.main'),
    ) -> None:
        self.log = log
        words = [word for name, value in (parameters or {}).items() for word in ('-p', f'{name}:={_yaml(value)}')]
        self.there_before = set(Path('/dev/shm').iterdir())
        command = [sys.executable, *program, 'node', *options, '--ros-args', *words]
        with log.open('wb') as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def __enter__(self) -> NodeUnderTest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # Killed at once it would leave its shared-memory segments behind.
            code = self.end()[0] if self.process.poll() is None else 0
        finally:
            self.process.kill()
            self.process.wait()
            if error is not None:
                print(f'the node said:\n{self.said()}')
        if error is None:
            assert code == 0, f'exit code {code}; the node said:\n{self.said()}'

    def said(self) -> str:
        """Return all that the node has printed."""
        return self.log.read_text(errors='replace')

    def resident(self) -> int:
        """Return the bytes that the node has in memory."""
        return int(Path(f'/proc/{self.process.pid}/statm').read_text().split()[1]) * 4096

    def shared_memory(self) -> list[Path]:
        """Return the shared-memory files that are there since the node is, and that it uses."""
        lines = Path(f'/proc/{self.process.pid}/maps').read_text().splitlines()
        # before Kilted the names began with fastrtps_
        mapped = {Path(line.split(maxsplit=5)[5]) for line in lines if '/dev/shm/fast' in line}
        # ports are shared by all who listen to one, and stay as long as any of them
        return sorted(path for path in mapped - self.there_before if 'port' not in path.name)

    def end(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """Send a signal; return the exit code and how many seconds the process took to end."""
        began = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S), time.monotonic() - began


class Robot:
    """A participant of its own: a camera, its static transform, and readers of all that the node answers.

    heard[topic][stamp_ns] is the list of messages with that stamp. Topics: depth, depth_best_effort, confidence,
    info, points, odometry, tf, and coasting: odometry of stamps that no image had that was shown; statuses is the list
    of all status messages.
    """

    def __init__(self, compressed: bool = False, points: bool = True, image: str = 'image') -> None:
        self.session = Session('robot')
        node = self.node = self.session.node
        self.heard: dict[str, dict[int, list]] = defaultdict(lambda: defaultdict(list))
        self.arrived: dict[str, dict[int, float]] = defaultdict(dict)
        self.statuses: list[StreamStatus] = []
        self.order: list[tuple[str, int]] = []
        self.shown: set[int] = set()
        self._transitions: Client | None = None
        kind, topic = (CompressedImage, f'{image}/compressed') if compressed else (Image, image)
        self.image = node.create_publisher(kind, topic, BEST_EFFORT)
        self.info = node.create_publisher(CameraInfo, 'camera_info', BEST_EFFORT)
        self.tf_static = node.create_publisher(TFMessage, '/tf_static', LATCHED)
        readers = [
            ('depth', Image, '/evict3r/depth/image_rect', RELIABLE),
            ('depth_best_effort', Image, '/evict3r/depth/image_rect', BEST_EFFORT),
            ('confidence', Image, '/evict3r/depth/confidence', RELIABLE),
            ('info', CameraInfo, '/evict3r/depth/camera_info', RELIABLE),
            ('odometry', Odometry, '/evict3r/odometry', RELIABLE),
        ]
        readers += [('points', PointCloud2, '/evict3r/points', RELIABLE)] if points else []
        for reader in readers:
            self.listen(*reader)
        node.create_subscription(TFMessage, '/tf', self._hear_tf, RELIABLE)
        node.create_subscription(StreamStatus, '/evict3r/status', self.statuses.append, RELIABLE)

    def listen(self, name: str, kind: type, topic: str, quality: QoSProfile = RELIABLE) -> None:
        """Hear one more topic, of messages with a header."""
        self.node.create_subscription(kind, topic, lambda m: self._hear(name, m.header, m), quality)

    def __enter__(self) -> Robot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()

    def _hear(self, name: str, header: Header, message: object) -> None:
        stamp = nanoseconds(header)
        if name == 'odometry' and stamp not in self.shown:
            name = 'coasting'
        self.arrived[name][stamp] = time.monotonic()
        self.order.append((name, stamp))
        self.heard[name][stamp].append(message)

    def _hear_tf(self, message: TFMessage) -> None:
        for transform in message.transforms:
            self._hear('tf', transform.header, transform)

    def mount_camera(self, base_from_camera: np.ndarray, camera: str = 'cam0', base: str = 'base_link') -> None:
        """Tell where the camera sits, once and for all."""
        self.tf_static.publish(
            TFMessage(transforms=[transform_from_pose(base_from_camera, Header(frame_id=base), camera)])
        )

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait for a condition, and fail with `what` if it does not come about."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f'not within {timeout_s} s: {what}'
            assert self.session.failure is None, self.session.failure
            time.sleep(0.005)

    def show(self, message: Image | CompressedImage, info: CameraInfo | None = None) -> None:
        """Publish an image, and its camera_info just before."""
        if info is not None:
            self.info.publish(info)
        self.shown.add(nanoseconds(message.header))
        self.image.publish(message)

    def show_and_wait(self, message: Image | CompressedImage, info: CameraInfo | None = None) -> int:
        """Publish an image and wait for its odometry and depth; returns the stamp in nanoseconds."""
        self.show(message, info)
        stamp = nanoseconds(message.header)
        self.until(lambda: stamp in self.heard['odometry'] and stamp in self.heard['depth'], f'answer to {stamp}')
        return stamp

    def until_watched(self) -> None:
        """Wait until the node listens to the camera: until it is active."""
        self.until(
            lambda: (
                self.image.get_subscription_count() > 0
                and self.info.get_subscription_count() > 0
                and self.node.count_publishers('/evict3r/depth/image_rect') > 0
            ),
            'the node subscribes',
        )
        self.until(lambda: bool(self.statuses), 'a status')

    def fault(self, kind: str) -> int:
        """Return how often a kind of fault was counted, by the last status; 0 before the first."""
        if not self.statuses:
            return 0
        status = self.statuses[-1]
        return dict(zip(status.faults, status.fault_counts, strict=True)).get(kind, 0)

    def until_fault(self, kind: str, count: int = 1) -> StreamStatus:
        """Wait until a kind of fault was counted so often, and no more; return that status."""
        self.until(lambda: self.fault(kind) >= count, f'{count} of {kind}')
        assert self.fault(kind) == count, (kind, self.fault(kind))
        return self.statuses[-1]

    def until_counted(self, received: int) -> StreamStatus:
        """Wait for a status in which so many images have come to an end; return it."""

        def done() -> bool:
            if not self.statuses:
                return False
            s = self.statuses[-1]
            return s.frames_processed + s.frames_dropped + s.frames_failed >= received

        self.until(done, f'a status that accounts for {received} images')
        return self.statuses[-1]

    def call(self, kind: type, name: str, request: object) -> object:
        """Call one of the node's services and return its response; only for what may as well be asked twice.

        The middleware drops an answer to a client that the node has not discovered yet: then it is asked for again.
        """
        client = self.node.create_client(kind, f'/evict3r/{name}')
        try:
            assert client.wait_for_service(PATIENCE_S), name
            return self.ask(client, request)
        finally:
            self.node.destroy_client(client)

    def client(self, kind: type, name: str, harmless: object) -> Client:
        """Return a client that the node knows, as its answer to a harmless request has shown: it loses no answer."""
        client = self.node.create_client(kind, f'/evict3r/{name}')
        assert client.wait_for_service(PATIENCE_S), name
        self.ask(client, harmless)
        return client

    def ask(self, client: Client, request: object) -> object:
        """Send a request, again and again until there is an answer; return that."""
        deadline, answered = time.monotonic() + PATIENCE_S, threading.Event()
        futures: list[Future] = []
        while not answered.wait(ASK_AGAIN_S if futures else 0.0):
            assert time.monotonic() < deadline, f'no answer from {client.srv_name}'
            assert self.session.failure is None, self.session.failure
            futures.append(client.call_async(request))
            futures[-1].add_done_callback(lambda _: answered.set())
        return next(future.result() for future in futures if future.done())

    def change_state(self, transition: int | str) -> bool:
        """Request a lifecycle transition by its id or label; return whether it succeeded."""
        if self._transitions is None:
            self._transitions = self.client(ChangeState, 'change_state', transition_request('always refused'))
        future = self._transitions.call_async(transition_request(transition))
        self.until(future.done, f'an answer to transition {transition}')
        return future.result().success

    def state(self) -> int:
        """Return the id of the lifecycle state."""
        return self.call(GetState, 'get_state', GetState.Request()).current_state.id

    def until_active(self) -> None:
        """Wait until the lifecycle state is active, and the topics have found each other."""
        self.until(lambda: self.state() == State.PRIMARY_STATE_ACTIVE, 'active')
        self.until_watched()

    def set_parameter(self, name: str, value: object) -> tuple[bool, str]:
        """Set one parameter; return whether that was accepted, and the reason."""
        request = SetParameters.Request(parameters=[Parameter(name=name, value=parameter_value(value))])
        result = self.call(SetParameters, 'set_parameters', request).results[0]
        return result.successful, result.reason

    def get_parameters(self, *names: str) -> list[ParameterValue]:
        """Return the values of parameters."""
        return self.call(GetParameters, 'get_parameters', GetParameters.Request(names=list(names))).values

    def describe_parameters(self) -> dict[str, object]:
        """Return the descriptors of all parameters, by name."""
        names = self.call(ListParameters, 'list_parameters', ListParameters.Request()).result.names
        response = self.call(DescribeParameters, 'describe_parameters', DescribeParameters.Request(names=names))
        return dict(zip(names, response.descriptors, strict=True))


def nanoseconds(header: Header) -> int:
    """Return a stamp as nanoseconds."""
    return stamps.nanoseconds(header.stamp)


def transition_request(transition: int | str) -> ChangeState.Request:
    """Return the request for a transition by its id or label."""
    request = ChangeState.Request()
    if isinstance(transition, str):
        request.transition.label = transition
    else:
        request.transition.id = transition
    return request


def image_message(pixels: np.ndarray, stamp_ns: int, frame: str = 'cam0') -> Image:
    """Return (h, w) as mono8 or (h, w, 3) RGB as rgb8."""
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding='mono8' if pixels.ndim == 2 else 'rgb8')
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, stamps.NANOSECONDS)
    message.header.frame_id = frame
    message.step = pixels.nbytes // pixels.shape[0]
    message.data.frombytes(pixels.tobytes())
    return message


def scene(index: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    """Return a colourful (h, w, 3) image that drifts with `index`."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    waves = [np.sin((x + 3 * index) / 11), np.cos((y + index) / 7), np.sin((x - y + 2 * index) / 17)]
    return (127 + 100 * np.stack(waves, 2)).astype(np.uint8)


def map_of(message: Image) -> np.ndarray:
    """Return a 32FC1 image as (h, w) float32."""
    assert message.encoding == '32FC1' and message.step == 4 * message.width and not message.is_bigendian
    return np.frombuffer(message.data, '<f4').reshape(message.height, message.width)


def rgb_of(message: Image) -> np.ndarray:
    """Return an rgb8 image as (h, w, 3) uint8."""
    assert message.encoding == 'rgb8' and message.step == 3 * message.width
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)


def points_of(message: PointCloud2) -> tuple[np.ndarray, np.ndarray]:
    """Return an organised cloud as (h, w, 3) float32 points and (h, w, 3) uint8 RGB."""
    values = np.frombuffer(message.data, '<f4').reshape(message.height, message.width, 4)
    packed = np.frombuffer(message.data, '<u4').reshape(message.height, message.width, 4)[..., 3]
    return values[..., :3], np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], 2).astype(np.uint8)


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def parameter_value(value: object) -> ParameterValue:
    """Return a value as the parameter services take it."""
    if isinstance(value, bool):
        return ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=value)
    if isinstance(value, int):
        return ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=value)
    if isinstance(value, float):
        return ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
    return ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=str(value))
