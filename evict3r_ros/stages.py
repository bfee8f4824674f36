# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Stages of a frame's work: kernels, network, cache and stream mark them, and a profiler may listen.

Without a listener a stage costs the call of a function. A stage may lie inside another one, and its work may run on a
side stream. Stages may be marked while a CUDA graph is recorded, but not inside functions that ``torch.compile`` takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

StageListener = Callable[[str], AbstractContextManager[None]]
"""Takes the name of a stage; the context that it returns is entered where the stage begins and left where it ends."""

_SILENCE = nullcontext()
_listener: StageListener | None = None


def stage(name: str) -> AbstractContextManager[None]:
    """Mark the work inside the returned context as a stage."""
    return _SILENCE if _listener is None else _listener(name)


@contextmanager
def on_stage(listener: StageListener) -> Iterator[None]:
    """Let a listener hear of all stages in this process while the context is open.

    A CUDA graph that is recorded meanwhile keeps what the listener put into it. Raises RuntimeError if there is a
    listener already.
    """
    global _listener
    if _listener is not None:
        raise RuntimeError('somebody listens to the stages already')
    _listener = listener
    try:
        yield
    finally:
        _listener = None
