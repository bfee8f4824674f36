# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM, alike: as a wish that long work sees between two steps, or as an end at once, with files closed."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType, TracebackType


class Stopping:
    """While entered, the first signal sets `requested` and says so; the second one raises KeyboardInterrupt at once."""

    def __init__(self, what: str) -> None:
        """what: is being finished first, for the user to read."""
        self.requested = False
        self._what = what
        self._before: dict[int, object] = {}

    def __bool__(self) -> bool:
        return self.requested

    def __enter__(self) -> Stopping:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print(f'\nevict3r: stopping after {self._what} (once more: at once)', file=sys.stderr, flush=True)


@contextlib.contextmanager
def sigterm_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM unwind as Ctrl-C does, so that processes are ended and files are closed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
