# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A bag played in real time, over DDS, to whoever listens, and the node's answers recorded if that is wished."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection

from evict3r_ros.errors import UserError
from evict3r_ros.io.answer import AnswerTopics
from evict3r_ros.io.bag import BagReader, BagWriter, header_stamp_ns
from evict3r_ros.ros.messages.message_types import message_class
from evict3r_ros.ros.tools.answer_timer import AnswerTimer
from evict3r_ros.ros.tools.offline import Span
from evict3r_ros.ros.tools.player import Player
from evict3r_ros.ros.tools.recorder import Recorder
from evict3r_ros.ros.tools.replay import LAST_STATUS_S, Replay
from evict3r_ros.ros.tools.session import Session
from evict3r_ros.ros.tools.waiting import wait_for_connections, wait_until

# What a running system says of itself: played, it would speak for nodes that are not there.
_NOT_PLAYED = ('/rosout', '/parameter_events')
_LAST_ANSWER_S = 5.0


def playable(bag: BagReader) -> tuple[list[str], list[str]]:
    """Return the topics that can be played, and why others cannot."""
    topics, reasons = [], []
    for name, topic in bag.topics.items():
        if name in _NOT_PLAYED or not topic.count:
            continue
        try:
            message_class(topic.message_type)
        except UserError as error:
            reasons.append(f'{name} is not played: {error}')
            continue
        if topic.serialization == 'cdr':
            topics.append(name)
        else:
            reasons.append(f'{name} is not played: its messages are {topic.serialization!r}, not CDR')
    return topics, reasons


class LiveReplay:
    """Play a bag's topics. check(): called often, may end it by raising, if a node that it needs has ended.

    output: bag for the answers, or None to record nothing. best_effort: answers that are published so.
    """

    def __init__(
        self,
        session: Session,
        bag: BagReader,
        topics: list[str],
        image: str,
        answers: AnswerTopics,
        output: BagWriter | None,
        check: Callable[[], None],
        best_effort: Collection[str] = (),
    ) -> None:
        self._session, self._bag, self._image, self._answers = session, bag, image, answers
        self._output, self._check, self._best_effort = output, check, best_effort
        self._player = Player(session.node, bag, topics)

    def run(
        self,
        span: Span,
        rate: float,
        timeout_s: float,
        progress: Callable[[], object],
        stopped: Callable[[], bool],
        loop: bool = False,
    ) -> Replay:
        """Play a span, again and again with `loop`. progress(): called after each image. stopped(): ends it soon.

        timeout_s: how long to wait for somebody who listens to the image. Raises UserError if nobody comes.
        """
        timer = AnswerTimer({self._answers.depth_info})
        count = stamp = 0
        with contextlib.ExitStack() as stack:
            recorder = None

            def received(topic: str, raw: bytes) -> None:
                timer.received(topic, raw, time.monotonic())

            if self._output is not None:
                recorder = stack.enter_context(
                    Recorder(
                        self._session.node,
                        self._output,
                        self._answers.types(),
                        clock=lambda: self._player.time_ns,
                        received=received,
                        best_effort=self._best_effort,
                    )
                )
            else:
                self._listen(received)
            self._connect(recorder, timeout_s, stopped)
            begin_ns = span.begin_ns(self._bag)
            latched = self._bag.latched(self._player.topics, begin_ns)
            again = True
            while again and not stopped():
                for topic, raw in latched:
                    self._player.publish(topic, begin_ns, raw)
                messages = span.read(self._bag, self._player.topics, self._image)
                for topic, time_ns, raw in self._player.due(rate, messages, stopped):
                    if topic == self._image:
                        stamp = header_stamp_ns(raw)
                        timer.sent(stamp, time.monotonic())
                        count += 1
                        progress()
                    self._player.publish(topic, time_ns, raw)
                    self._check()
                again = loop
            if count and (recorder is not None or not stopped()):
                self._wait_for_answer(timer, stamp)
        return Replay(count, len(timer.latencies_s), tuple(timer.latencies_s))

    def _listen(self, received: Callable[[str, bytes], None]) -> None:
        """Hear answers that nobody records."""
        topic = self._answers.depth_info
        self._session.node.create_subscription(
            message_class(self._answers.types()[topic]), topic, lambda raw: received(topic, raw), 100, raw=True
        )

    def _connect(self, recorder: Recorder | None, timeout_s: float, stopped: Callable[[], bool]) -> None:
        def connected() -> bool:
            return self._player.has_listener(self._image) and (recorder is None or recorder.hears_all())

        if not wait_for_connections(connected, timeout_s, self._check, stopped) and not stopped():
            raise UserError(
                f"nobody listens to {self._image} after {timeout_s:g} s: is the node's input remapped "
                'to it, and are both in one ROS domain?'
            )

    def _wait_for_answer(self, timer: AnswerTimer, stamp_ns: int) -> None:
        """Give the last image its time, and the status that counts it; an image that is not answered is no error."""
        wait_until(lambda: timer.wait(stamp_ns, 0.1), _LAST_ANSWER_S, self._check, period_s=0.0)
        time.sleep(LAST_STATUS_S)
