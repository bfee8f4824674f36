# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Play a bag into a live node and record what it answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from evict3r_ros.errors import UserError
from evict3r_ros.io.answer import AnswerTopics
from evict3r_ros.io.bag import BagReader, BagWriter, header_stamp_ns
from evict3r_ros.ros.tools.answer_timer import AnswerTimer
from evict3r_ros.ros.tools.node_process import NodeProcess
from evict3r_ros.ros.tools.player import Player
from evict3r_ros.ros.tools.recorder import Recorder
from evict3r_ros.ros.tools.session import Session
from evict3r_ros.ros.tools.waiting import wait_for_connections, wait_until

# A node that leaves this many frames in a row without an answer is taken for stuck.
_MOST_SILENT = 2
# The node tells its status at least once a second; this much longer, and the last one is in the bag.
LAST_STATUS_S = 1.2
_CONNECT_S = 30.0
_LOOK_S = 0.1  # how often a wait for an answer looks after the node


@dataclass(frozen=True)
class Replay:
    """What became of the images that were played."""

    played: int
    answered: int
    latencies_s: tuple[float, ...]
    """Of each answered one, the seconds from its publishing to the last part of its answer."""


def replay(
    session: Session,
    process: NodeProcess,
    played: BagReader,
    image_topic: str,
    topics: AnswerTopics,
    output: BagWriter,
    rate: float | None,
    timeout_s: float,
    progress: Callable[[], object],
) -> Replay:
    """Play all of a bag into an active node and record its answers, on the bag's clock.

    rate: None to publish each image when the one before was answered, so that none is dropped however slow the node
    is; a number for that many bag seconds a second, come what may. timeout_s: how long an answer may take.
    progress(): called after each image. Raises UserError when the node ends or falls silent.
    """
    timer = AnswerTimer(topics.of_every_frame())

    def check() -> None:
        session.check()
        process.check()

    def answered(stamp_ns: int) -> bool:
        return wait_until(lambda: timer.wait(stamp_ns, _LOOK_S), timeout_s, check, period_s=0.0)

    player = Player(session.node, played)
    with Recorder(
        session.node,
        output,
        topics.types(),
        clock=lambda: player.time_ns,
        received=lambda topic, raw: timer.received(topic, raw, time.monotonic()),
    ) as recorder:
        _connect(lambda: player.has_listener(image_topic) and recorder.hears_all(), process, check)
        count = silent = 0
        stamp = 0
        for topic, time_ns, raw in player.due(rate):
            if topic != image_topic:
                player.publish(topic, time_ns, raw)
                continue
            stamp = header_stamp_ns(raw)
            timer.sent(stamp, time.monotonic())
            player.publish(topic, time_ns, raw)
            count += 1
            if rate is None:
                silent = 0 if answered(stamp) else silent + 1
                if silent == _MOST_SILENT:
                    raise UserError(
                        f'the node left {silent} images in a row without an answer for {timeout_s:g} s'
                        f' each; its last words:\n{process.tail()}'
                    )
            check()
            progress()
        # At a fixed rate the last image is never dropped: when it is answered, all that will be are.
        if count and not silent and not answered(stamp):
            raise UserError(
                f'the node did not answer the last image within {timeout_s:g} s; its last words:\n{process.tail()}'
            )
        time.sleep(LAST_STATUS_S)
        session.check()
    return Replay(count, len(timer.latencies_s), tuple(timer.latencies_s))


def _connect(connected: Callable[[], bool], process: NodeProcess, check: Callable[[], None]) -> None:
    if not wait_for_connections(connected, _CONNECT_S, check):
        raise UserError(
            f'the node and this program did not find each other in {_CONNECT_S:g} s; its last words:\n{process.tail()}'
        )
