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

from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.node import Node

from evict3r_ros.errors import UserError

_POLL_S = 0.1
# After each of these the node has this long to end by itself.
_SIGNALS = ((signal.SIGINT, 5.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0))


def wait_until_active(node: Node, name: str, timeout_s: float, check: Callable[[], None]) -> bool:
    """Wait until the lifecycle node of this name is active; return whether it is. check(): may end the wait by raising.

    node: one that is being served, through which is asked.
    """
    client = node.create_client(GetState, f'{name}/get_state')
    deadline = time.monotonic() + timeout_s
    answer = None
    try:
        while time.monotonic() < deadline:
            check()
            if answer is not None and answer.done():
                if answer.result().current_state.id == State.PRIMARY_STATE_ACTIVE:
                    return True
                answer = None
            if answer is None and client.service_is_ready():
                answer = client.call_async(GetState.Request())
            time.sleep(_POLL_S)
        return False
    finally:
        node.destroy_client(client)


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
        """The last lines of the log, indented."""
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
