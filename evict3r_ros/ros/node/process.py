# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The process around the node: executor, signals, the way to active, and an exit code that tells the truth."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NoReturn

import rclpy
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import Executor, InvalidHandle, MultiThreadedExecutor  # type: ignore[attr-defined]  # InvalidHandle's own home differs by distribution
from rclpy.signals import SignalHandlerOptions

from evict3r_ros.errors import UserError
from evict3r_ros.ros.node.lifecycle_node import Evict3rNode

DEVICE_LOST = 3  # exit code
STOP_S = 0.8  # for the frame in the network
EXIT_S = 1.5  # for everything, so that a signal ends the process within two seconds
# How soon a thread that wants Python gets it from one that computes: its own 5 ms, several times an image, cost images.
SWITCH_S = 5e-4
# More failures than a callback could make in this time end the process.
MOST_FAILURES, FAILURES_S = 1000, 1.0
_TOLD = 'evict3r_told'


def spin(ros_arguments: list[str], autostart: bool) -> NoReturn:
    """Run the node until SIGINT or SIGTERM (exit code 0), or until it fails.

    Ends the process. Exit code 2: it cannot start by itself; DEVICE_LOST: a CUDA error after which every call fails;
    1: rclpy fails. Raises UserError, before that, for arguments and parameters that cannot be.
    ros_arguments: what stands on the command line from --ros-args on. autostart: whether the node configures and
    activates itself. Has to be called from the main thread, where Python delivers signals.
    """
    # rclpy's own handlers would shut the context down first, and nothing could be tidied up after that.
    try:
        rclpy.init(args=['evict3r', *ros_arguments], signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # what rcl says of arguments that it cannot parse
        raise UserError(str(error).splitlines()[0]) from error
    sys.setswitchinterval(SWITCH_S)
    # Planning the memory needs it. To import it takes seconds in which other threads get little of the interpreter: so
    # before there is a node that anybody could ask for its state, and nothing yet that a signal would have to tidy up.
    _on_signal(lambda: _leave(0))
    importlib.import_module('torch._dynamo')
    end = _End()
    _on_signal(lambda: end.request(0))
    try:
        node = Evict3rNode(device_lost=lambda: end.request(DEVICE_LOST))
    except (InvalidParameterTypeException, InvalidParameterValueException, UserError) as error:
        rclpy.shutdown()
        raise UserError(str(error)) from error
    # One thread a callback group: transitions, saving, status, questions for the state, what is said between answers,
    # and the rest.
    executor = MultiThreadedExecutor(num_threads=6)
    executor.add_node(node)
    if autostart:

        def start() -> None:
            timer.cancel()
            if not node.bring_up():
                end.request(2)

        timer = node.create_timer(0.0, start, callback_group=node.transitions)
    spinner = threading.Thread(target=_spin, args=(executor, node.on_callback_error, end), name='executor', daemon=True)
    spinner.start()
    while end.exit_code is None:
        time.sleep(0.1)
    # Loading weights or a slow frame cannot be interrupted: then the process ends without them.
    watchdog = threading.Timer(EXIT_S, _leave, (end.exit_code,))
    watchdog.daemon = True
    watchdog.start()
    node.halt(STOP_S)
    executor.shutdown(timeout_sec=0.1)
    spinner.join()
    node.destroy_node()
    rclpy.shutdown()
    _leave(end.exit_code)


def _on_signal(action: Callable[[], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: action())


class _End:
    """Whether the process is to end, and with which exit code.

    No threading.Event: a handler that sets one deadlocks if it interrupts the main thread inside its wait(), and a
    signal that the system hands to another thread does not end that wait at all.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None

    def request(self, exit_code: int) -> None:
        """End the process; the first to say so decides about the exit code."""
        if self.exit_code is None:
            self.exit_code = exit_code


def _spin(executor: Executor, failed: Callable[[Exception], None], end: _End) -> None:
    """Serve callbacks until the executor is shut down. One that raises costs itself: failed(error) is told of it."""
    recent: deque[float] = deque(maxlen=MOST_FAILURES)
    while True:
        try:
            executor.spin()
            return
        except InvalidHandle:
            # A transition destroyed a publisher just while this thread put its events on the list of what to wait for;
            # rclpy takes that for a subscription, but not for these. Nothing is lost by beginning that list anew.
            continue
        except Exception as error:
            # rclpy raises here what a callback raised, after everything around it was tidied up.
            recent.append(time.monotonic())
            if len(recent) == MOST_FAILURES and recent[-1] - recent[0] < FAILURES_S:
                end.request(1)  # not a callback, but the waiting for them: nothing is served any more
                raise
            # A callback that was on the list twice before a thread took it up raises its exception twice.
            if not hasattr(error, _TOLD):
                setattr(error, _TOLD, True)
                failed(error)


def _leave(exit_code: int) -> NoReturn:
    """End the process at once.

    All that others can see has been tidied up by now. Python's own way out would take another half a second to take
    torch apart, and does not survive a thread that is still in the network.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
