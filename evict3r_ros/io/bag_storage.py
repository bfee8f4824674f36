# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What every storage of a bag says of itself, and messages of several sources merged in the order of time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import yaml

Message = tuple[str, int, bytes]
"""Topic, time in nanoseconds, CDR bytes."""
END_NS = 2**63 - 1
"""Later than any message."""


@dataclass(frozen=True)
class StoredTopic:
    """A topic as a storage describes it."""

    name: str
    message_type: str
    """As 'package/msg/Name'."""
    serialization: str
    """'cdr' for messages of ROS 2."""
    encoding: str
    """Of the definition: 'ros2msg', 'ros2idl', or another, which nobody here can read."""
    definition: str
    count: int
    """Number of messages."""
    latched: bool
    """Whether it was offered transient local."""


class Storage(Protocol):
    """One file of a bag, open for reading."""

    topics: list[StoredTopic]
    start_ns: int
    """Time of the first message; END_NS without any."""
    damage: str
    """What is wrong with the file, though it can be read in part; empty if nothing is known to be."""

    def messages(self, topics: set[str], start_ns: int, stop_ns: int) -> Iterator[Message]:
        """Yield the messages of these topics in time order, from start_ns on and before stop_ns."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def is_latched(profiles: Any) -> bool:
    """Return whether quality-of-service profiles, as text or as their content, offer transient local.

    What cannot be read offers nothing: distributions write them in different ways, by name and by number.
    """
    try:
        content = yaml.safe_load(profiles) if isinstance(profiles, str) else profiles
    except yaml.YAMLError:
        return False
    entries = content if isinstance(content, list) else []
    return any(
        isinstance(entry, dict) and str(entry.get('durability')).lower() in ('1', 'transient_local')
        for entry in entries
    )


def in_time_order(parts: Iterable[tuple[int, Callable[[], Iterator[Message]]]]) -> Iterator[Message]:
    """Merge parts, each in time order, and begin none before its time: (time of the first message, reader)."""
    waiting: list[tuple[int, int, Message | None]] = []
    readers: dict[int, Iterator[Message]] = {}
    openers = {}
    for number, (start_ns, opener) in enumerate(parts):
        openers[number] = opener
        waiting.append((start_ns, number, None))
    heapq.heapify(waiting)
    while waiting:
        _, number, message = heapq.heappop(waiting)
        if message is None:
            readers[number] = openers.pop(number)()
        else:
            yield message
        following = next(readers[number], None)
        if following is None:
            del readers[number]
        else:
            heapq.heappush(waiting, (following[1], number, following))
