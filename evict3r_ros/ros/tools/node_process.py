# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r node` as a child process: started, waited for until it is active, and always ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future

from evict3r_ros.errors import UserError
from evict3r_ros.ros.tools.waiting import wait_until

_ASK_AGAIN_S = 1.0  # an answer takes milliseconds, on a busy machine tenths of a second
# After each of these the node has this long to end by itself.
_SIGNALS = ((signal.SIGINT, 5.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0))


class _StateQuestion:
    """Ask a lifecycle node for its state, and ask again when no answer comes.

    A request or an answer may be lost: the middleware drops an answer to a client that the node has not discovered yet,
    and a node that ends takes the request with it.
    """

    def __init__(self, node: Node, name: str) -> None:
        self._node = node
        self._client: Client[Any, Any] = node.create_client(GetState, f'{name}/get_state')
        self._answers: list[Future[Any]] = []
        self._asked = float('-inf')

    def is_active(self) -> bool:
        """Return whether an answer says that the node is active; never waits."""
        for answer in [answer for answer in self._answers if answer.done()]:
            self._answers.remove(answer)
            response = answer.result()
            if response is not None and response.current_state.id == State.PRIMARY_STATE_ACTIVE:
                return True
        # A late answer is as good as a timely one: it is not given up when the next question goes out.
        overdue = time.monotonic() - self._asked > _ASK_AGAIN_S
        if (not self._answers or overdue) and self._client.service_is_ready():
            self._answers.append(self._client.call_async(GetState.Request()))
            self._asked = time.monotonic()
        return False

    def close(self) -> None:
        """Withdraw the client."""
        self._node.destroy_client(self._client)


def wait_until_active(node: Node, name: str, timeout_s: float, check: Callable[[], None]) -> bool:
    """Wait until the lifecycle node of this name is active; return whether it is. check(): may end the wait by raising.

    node: one that is being served, through which is asked.
    """
    question = _StateQuestion(node, name)
    try:
        return wait_until(question.is_active, timeout_s, check)
    finally:
        question.close()


class NodeProcess:
    """The node, its output in a log file (context manager: leaving it ends the node)."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        """Start `evict3r node` with these arguments, in this process's environment as it is now."""
        self.log = log
        command = [sys.executable, '-m', 'evict3r_ros.cli.main', 'node', *arguments]
        with log.open('wb') as output:
            # A session of its own: Ctrl-C in the terminal reaches us alone, and we end the node in order.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def wait_until_active(self, node: Node, name: str, timeout_s: float) -> None:
        """Wait until the lifecycle node of this name is active, asking through a node that is being served.

        Raises UserError with the end of the log when it ends first or takes longer.
        """
        if not wait_until_active(node, name, timeout_s, self.check):
            raise UserError(f'the node was not active after {timeout_s:.0f} s; its last words:\n{self.tail()}')

    def check(self) -> None:
        """Raise UserError, with the end of the log, if the node has ended."""
        code = self._process.poll()
        if code is not None:
            raise UserError(f'the node ended by itself (exit code {code}); its last words:\n{self.tail()}')

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log, indented."""
        text = self.log.read_text(encoding='utf-8', errors='replace').splitlines()
        return '\n'.join(f'    {line}' for line in text[-lines:]) or '    (it said nothing)'

    def stop(self) -> int:
        """End the node, gently at first; returns its exit code (negative: the signal that it took)."""
        for number, patience_s in _SIGNALS:
            if self._process.poll() is None:
                self._process.send_signal(number)
            try:
                return self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue
        raise UserError(f'the node (process {self.pid}) does not end, not even when killed')

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
