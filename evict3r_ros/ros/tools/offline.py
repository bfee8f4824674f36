# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A bag through the network without DDS: each image is answered, however long that takes, and nothing is dropped."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from tf2_msgs.msg import TFMessage

from evict3r_ros.errors import UserError
from evict3r_ros.io.answer import AnswerTopics
from evict3r_ros.io.bag import BagReader, BagWriter
from evict3r_ros.io.bag_topics import TF, TF_STATIC, InputTopics, copy_static_transforms
from evict3r_ros.io.stamps import NANOSECONDS, nanoseconds
from evict3r_ros.ros.messages.message_types import message_class
from evict3r_ros.ros.messages.path import PathMessages
from evict3r_ros.ros.node.status import status_message
from evict3r_ros.ros.perception.faults import Faults, explain
from evict3r_ros.ros.perception.other_movers import OtherMovers
from evict3r_ros.ros.perception.perception import Answer, Perception
from evict3r_ros.ros.perception.scale_inputs import ScaleInputs
from evict3r_ros.ros.perception.transform_gate import TransformGate
from evict3r_ros.ros.perception.transforms import StaticTransforms
from evict3r_ros.ros.perception.worker import WINDOW, Counts, Pace
from evict3r_ros.ros.settings.assembly import describe, open_stream
from evict3r_ros.ros.settings.parameters import Settings
from evict3r_ros.ros.tools.recorder import add_live_topic

# An image waits this long, on the bag's clock, for depth and odometry of its time: they are often recorded after it.
_LOOK_AHEAD_NS = 100_000_000


@dataclass
class Span:
    """The part of a bag that is replayed."""

    start_s: float = 0.0
    """Seconds after the bag's start."""
    duration_s: float | None = None
    """Seconds; None for the rest of the bag."""
    images: int | None = None
    """The most images; None for all."""

    def begin_ns(self, bag: BagReader) -> int:
        """Return where it begins, on the bag's clock."""
        return bag.start_ns + round(self.start_s * NANOSECONDS)

    def read(self, bag: BagReader, topics: list[str], image: str) -> Iterator[tuple[str, int, bytes]]:
        """Yield the messages of the topics within it, in time order."""
        start_ns = self.begin_ns(bag)
        stop_ns = None if self.duration_s is None else start_ns + round(self.duration_s * NANOSECONDS)
        left = self.images
        for topic, time_ns, raw in bag.raw(topics, start_ns, stop_ns):
            if topic == image and left is not None:
                if left == 0:
                    return
                left -= 1
            yield topic, time_ns, raw

    def count(self, bag: BagReader, topic: str) -> int:
        """Return the number of messages of a topic within it."""
        if not self.start_s and self.duration_s is None:
            total = bag.topics[topic].count
        else:
            total = sum(1 for _ in self.read(bag, [topic], ''))
        return total if self.images is None else min(total, self.images)


@dataclass
class OfflineResult:
    """What became of the images: read = answered + failed."""

    read: int = 0
    answered: int = 0
    failed: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    """How often each kind of fault came."""
    last_error: str = ''
    """The last fault in words."""
    median_s: float = float('nan')
    """Seconds for one image."""
    scale: float = 1.0
    is_metric: bool = False
    untrained: bool = False
    tf_withheld: str = ''
    """Why nothing was sent to /tf at the end, '' if it was."""


class OfflineReplay:
    """Answer a bag into another bag, with the bag's times (context manager: leaving it frees the network's memory).

    answers: names of the topics to write. log(is_error, text): what a user should know while it runs. Raises UserError
    for settings that cannot work.
    """

    def __init__(
        self,
        bag: BagReader,
        topics: InputTopics,
        settings: Settings,
        answers: AnswerTopics,
        log: Callable[[bool, str], None],
    ) -> None:
        self._bag, self._topics, self._settings, self._answers = bag, topics, settings, answers
        self._network, self._stream = open_stream(settings, log)
        log(False, describe(settings, self._network, self._stream))
        self._faults = Faults(log)
        self._static = StaticTransforms()
        self._perception = Perception(
            self._stream,
            settings,
            self._static,
            self._faults,
            lambda output: True,
            lambda: False,
            image_topic=topics.image,
        )
        scale = ScaleInputs(self._perception.scale, self._static, settings.frames_base, self._faults)
        self._on: dict[str | None, Callable[[Any], None]] = {
            topics.camera_info: self._perception.camera.on_camera_info,
            topics.odometry: scale.on_odometry,
            topics.depth: scale.on_depth,
        }
        self._time_s = -math.inf  # the bag's
        self._movers = OtherMovers(lambda: self._time_s)
        self._gate = TransformGate(self._perception, self._network, self._movers, self._faults, log)
        self._paths = PathMessages()
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._status_ns: int | None = None
        self.result = OfflineResult(untrained=self._network.untrained)

    def run(
        self, output: BagWriter, span: Span, progress: Callable[[], object], stopped: Callable[[], bool]
    ) -> OfflineResult:
        """Answer all images of a span. progress(): called after each. stopped(): asked before each; if so, it ends."""
        for topic, name in self._answers.types().items():
            add_live_topic(output, topic, name)
        self._take_static_transforms(output)
        self._take_first_info(span)
        self._listen_ahead(span)
        self._perception.warm_up()
        self._perception.begin()

        def image(time_ns: int, raw: bytes) -> None:
            self._image(output, time_ns, raw)
            progress()

        waiting: deque[tuple[int, bytes]] = deque()
        time_ns = 0
        tf = [TF] if TF in self._bag.topics else []
        for topic, time_ns, raw in span.read(self._bag, [*self._topics.names(), *tf], self._topics.image):
            self._time_s = time_ns / NANOSECONDS
            while waiting and waiting[0][0] + _LOOK_AHEAD_NS <= time_ns and not stopped():
                image(*waiting.popleft())
            if stopped():
                break
            if topic == self._topics.image:
                waiting.append((time_ns, raw))
            elif topic == TF:
                self._hear(raw)
            else:
                self._other(topic, raw)
        while waiting and not stopped():
            image(*waiting.popleft())
        self._write_status(output, time_ns)
        return self.result

    def close(self) -> None:
        """Free the network's memory."""
        self._stream.close()

    def __enter__(self) -> OfflineReplay:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _take_static_transforms(self, output: BagWriter) -> None:
        """Know all of the bag's static transforms from the start, and pass them on."""
        for raw in copy_static_transforms(self._bag, output):
            message = self._decode(TF_STATIC, raw, 'no_transform')
            for reason in self._static.update(message.transforms) if message is not None else ():
                self._faults.count('no_transform', reason)

    def _take_first_info(self, span: Span) -> None:
        """Know the calibration before the first image, as the node does by waiting."""
        topic = self._topics.camera_info
        if topic is None:
            return
        begin_ns = span.begin_ns(self._bag)
        before = [raw for _, raw in self._bag.latched([topic], begin_ns)]
        later = itertools.chain(self._bag.raw([topic], begin_ns), self._bag.raw([topic]))
        for raw in itertools.chain(before, (raw for _, _, raw in later)):
            self._other(topic, raw)
            return

    def _listen_ahead(self, span: Span) -> None:
        """Know who moves frames in the first seconds of a span, as the node does by listening before it begins."""
        self._movers.start()
        seconds = self._settings.startup_timeout
        if TF in self._bag.topics and seconds > 0.0:
            for _, _, raw in Span(span.start_s, seconds).read(self._bag, [TF], ''):
                self._hear(raw)

    def _hear(self, raw: bytes) -> None:
        try:
            self._movers.hear(raw)
        except RuntimeError as error:
            self._faults.count('broken_input', f'{TF}: a message of {len(raw)} bytes cannot be read: {error}')

    def _other(self, topic: str, raw: bytes) -> None:
        message = self._decode(topic, raw, 'broken_input')
        if message is not None:
            self._on[topic](message)

    def _image(self, output: BagWriter, time_ns: int, raw: bytes) -> None:
        result = self.result
        result.read += 1
        message = self._decode(self._topics.image, raw, 'broken_image')
        began = time.monotonic()
        try:
            answer = None if message is None else self._answer(output, message, time_ns)
        except Exception as error:  # as in the node: a frame that fails costs itself and is counted
            kind, text = explain(error)
            if kind == 'device_lost':
                raise UserError(
                    f'{self._network.device} answers nothing any more in this process, start it anew: {text}'
                ) from error
            self._faults.count(kind, text)
            answer = None
        if answer is None:
            result.failed += 1
        else:
            self._seconds.append(time.monotonic() - began)
            result.answered += 1
            self._write(output, answer, time_ns)
        if self._status_ns is None or not 0 <= time_ns - self._status_ns < self._settings.status_period * NANOSECONDS:
            self._write_status(output, time_ns)

    def _answer(self, output: BagWriter, message: Any, time_ns: int) -> Answer:
        """Return the answer to an image, or write the last pose once more and raise why there is none."""
        perception = self._perception
        moment = perception.stamps.admit(nanoseconds(message.header.stamp), time_ns)
        try:
            return perception.process(message, threading.Event(), moment)
        except Exception:
            odometry = perception.coast(moment)
            if odometry is not None:
                output.write_raw(self._answers.odometry, time_ns, serialize_message(odometry))
            raise

    def _decode(self, topic: str, raw: bytes, fault: str) -> Any | None:
        try:
            return deserialize_message(raw, message_class(self._bag.topics[topic].message_type))
        except RuntimeError as error:
            self._faults.count(fault, f'{topic}: a message of {len(raw)} bytes cannot be read: {error}')
            return None

    def _write(self, output: BagWriter, answer: Answer, time_ns: int) -> None:
        topics = self._answers
        transform = TFMessage(transforms=[answer.transform]) if self._gate.admits(answer.transform) else None
        for topic, message in (
            (topics.tf, transform),
            (topics.depth, answer.depth),
            (topics.depth_info, answer.info),
            (topics.confidence, answer.confidence),
            (topics.odometry, answer.odometry),
            (topics.rgb, answer.rgb),
            (topics.rgb_info, answer.rgb_info),
            (topics.points, answer.points),
        ):
            if message is not None:
                output.write_raw(topic, time_ns, serialize_message(message))

    def _write_status(self, output: BagWriter, time_ns: int) -> None:
        """Write status and path, and bring the result up to date."""
        result, perception = self.result, self._perception
        self._status_ns = time_ns
        median, p99 = np.percentile(self._seconds, (50, 99)) if self._seconds else (np.nan, np.nan)
        result.median_s, result.faults, result.last_error = float(median), self._faults.counts(), self._faults.last
        result.scale, result.is_metric = perception.scale.state.scale, perception.scale.state.is_metric
        result.tf_withheld = self._gate.withheld()
        perception.stats = self._stream.stats()
        status = status_message(
            Counts(result.read, result.answered, 0, result.failed),
            Pace(0.0 if np.isnan(median) else 1.0 / float(median), 1e3 * float(median), 1e3 * float(p99)),
            self._faults,
            self._network,
            perception,
            self._gate,
        )
        status.header.stamp.sec, status.header.stamp.nanosec = divmod(time_ns, NANOSECONDS)
        output.write_raw(self._answers.status, time_ns, serialize_message(status))
        if perception.odometry is not None and self._settings.publish_path:
            path = self._paths.of(list(perception.odometry.path), self._settings.frames_odom)
            output.write_raw(self._answers.path, time_ns, serialize_message(path))
