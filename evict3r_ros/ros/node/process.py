# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The process around the node: executor, signals, the way to active, and an exit code that tells the truth."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import NoReturn

import rclpy
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import InvalidHandle, MultiThreadedExecutor  # the former has another home in each distribution
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from evict3r_ros.errors import UserError
from evict3r_ros.ros.node.lifecycle_node import Evict3rNode

STOP_S = 0.8  # for the frame in the network
EXIT_S = 1.5  # for everything, so that a signal ends the process within two seconds
# How soon a thread that wants Python gets it from one that computes: its own 5 ms, several times an image, cost images.
SWITCH_S = 5e-4


def spin(ros_arguments: list[str], autostart: bool) -> NoReturn:
    """Run the node until SIGINT or SIGTERM (exit code 0), or until it fails to start by itself (exit code 2).

    Ends the process. Raises UserError, before that, for arguments and parameters that cannot be.
    ros_arguments: what stands on the command line from --ros-args on. autostart: whether the node configures and
    activates itself. Has to be called from the main thread, where Python delivers signals.
    """
    # rclpy's own handlers would shut the context down first, and nothing could be tidied up after that.
    try:
        rclpy.init(args=['evict3r', *ros_arguments], signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # what rcl says of arguments that it cannot parse
        raise UserError(str(error).splitlines()[0]) from error
    sys.setswitchinterval(SWITCH_S)
    end = _End()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: end.request(0))
    try:
        node = Evict3rNode()
    except (InvalidParameterTypeException, InvalidParameterValueException, UserError) as error:
        rclpy.shutdown()
        raise UserError(str(error)) from error
    # One thread may be deep in a transition, one in saving; the others serve images, parameters and status.
    executor = MultiThreadedExecutor(num_threads=4)
    executor.add_node(node)
    if autostart:

        def start() -> None:
            timer.cancel()
            if not _activate(node):
                end.request(2)

        timer = node.create_timer(0.0, start, callback_group=node.transitions)
    spinner = threading.Thread(target=_spin, args=(executor, end), name='executor', daemon=True)
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


def _activate(node: Evict3rNode) -> bool:
    success = TransitionCallbackReturn.SUCCESS
    return node.trigger_configure() == success and node.trigger_activate() == success


def _spin(executor: MultiThreadedExecutor, end: _End) -> None:
    while True:
        try:
            executor.spin()
            return
        except InvalidHandle:
            # A transition destroyed a publisher just while this thread put its events on the list of what to wait for;
            # rclpy takes that for a subscription, but not for these. Nothing is lost by beginning that list anew.
            continue
        except Exception:
            end.request(1)
            raise


def _leave(exit_code: int) -> NoReturn:
    """End the process at once.

    All that others can see has been tidied up by now. Python's own way out would take another half a second to take
    torch apart, and does not survive a thread that is still in the network.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
