# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A ROS context of our own for tools: a node in a chosen domain, served by a thread, quiet about signals."""

from __future__ import annotations

import threading
from types import TracebackType

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions


class Session:
    """A context, a node and the thread that serves its callbacks (context manager). Ctrl-C is left to the program."""

    def __init__(self, name: str, domain: int | None = None) -> None:
        """Join a domain, ROS_DOMAIN_ID's when none is given."""
        self.failure: BaseException | None = None
        self._context = Context()
        rclpy.init(args=[], context=self._context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node(name, context=self._context, use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the thread, if a callback raised."""
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """End the thread, then the node and the context."""
        self._executor.shutdown(timeout_sec=5.0)
        self._thread.join(timeout=5.0)
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return  # close() was called
        except Exception as error:
            self.failure = error
