# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read and write ROS 2 bags (mcap or sqlite3) without ROS.

Messages stay serialized (CDR) unless their content is needed.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore

from evict3r_ros.errors import UserError
from evict3r_ros.io.bag_folder import open_bag
from evict3r_ros.io.bag_storage import END_NS, StoredTopic, in_time_order
from evict3r_ros.io.bag_types import BagTypes
from evict3r_ros.io.stamps import NANOSECONDS

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
_VERSION: Literal[9] = 9
_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
_TRANSFORMS = 'tf2_msgs/msg/TFMessage'
_STAMP_END = 12
"""Bytes of CDR's own header and of a stamp."""


def header_stamp_ns(raw: bytes | memoryview) -> int:
    """Return the stamp in nanoseconds of a CDR message whose first field is a std_msgs/Header; 0 if it is cut off."""
    if len(raw) < _STAMP_END:
        return 0
    order = '<' if raw[1] & 1 else '>'
    sec, nanosec = struct.unpack_from(f'{order}iI', raw, 4)
    return int(sec) * NANOSECONDS + int(nanosec)


def quality_of_service(latched: bool) -> Qos:
    """Return the QoS profile to record for a topic: reliable, keep last 10; latched: transient local, as /tf_static."""
    # DDS writes "no deadline" as its largest duration.
    forever = QosTime(*divmod(2**63 - 1, NANOSECONDS))
    durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
    return Qos(
        QosHistory.KEEP_LAST,
        10,
        QosReliability.RELIABLE,
        durability,
        forever,
        forever,
        QosLiveliness.AUTOMATIC,
        forever,
        False,
    )


class BagWriter:
    """Writes a bag folder message by message, in bounded memory (context manager). It never overwrites a bag."""

    def __init__(self, path: str | Path, storage: str = 'mcap') -> None:
        """Create the folder. Raises UserError if it exists or the storage is unknown."""
        if storage not in STORAGES:
            raise UserError(f'bag storage {storage!r} is not one of {", ".join(STORAGES)}')
        self.path = Path(path)
        self.counts: dict[str, int] = {}
        self._connections: dict[str, Connection] = {}
        self._types = get_typestore(Stores.ROS2_KILTED)
        try:
            self._writer = Writer(self.path, version=_VERSION, storage_plugin=STORAGES[storage])
            self._writer.open()
        except (WriterError, OSError) as error:
            raise UserError(f'{self.path}: the bag cannot be made: {error}') from error

    def add_topic(self, topic: str, message_type: str, latched: bool = False, definition: str | None = None) -> None:
        """Add a topic. definition: the .msg text of a type that is not part of ROS 2.

        Raises UserError for an unknown type without a definition.
        """
        try:
            if definition is not None and message_type not in self._types.fielddefs:
                self._types.register(get_types_from_msg(definition, message_type))
            self._connections[topic] = self._writer.add_connection(
                topic, message_type, typestore=self._types, offered_qos_profiles=[quality_of_service(latched)]
            )
        except (TypesysError, KeyError) as error:
            raise UserError(f'{topic}: type {message_type} is not known and cannot be written: {error}') from error
        self.counts[topic] = 0

    def write_raw(self, topic: str, time_ns: int, raw: bytes | memoryview) -> None:
        """Write a CDR message at a time of the bag's clock in nanoseconds. Raises UserError if that fails."""
        try:
            self._writer.write(self._connections[topic], time_ns, raw)
        except OSError as error:
            raise UserError(f'{self.path}: the bag cannot be written: {error.strerror}') from error
        self.counts[topic] += 1

    def write(self, topic: str, time_ns: int, message: Any) -> None:
        """Write a message made from message_types(). Raises UserError if that fails."""
        self.write_raw(topic, time_ns, self._types.serialize_cdr(message, self._connections[topic].msgtype))

    def close(self) -> None:
        """Close the files; only then can the bag be read. Raises UserError if that fails."""
        if self._writer.storage is not None:
            try:
                self._writer.close()
            except OSError as error:
                raise UserError(f'{self.path}: the bag cannot be written: {error.strerror}') from error

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Topic:
    """A topic of a bag."""

    name: str
    message_type: str
    """As 'package/msg/Name'."""
    count: int
    """Number of messages."""
    latched: bool
    """Whether a late subscriber is to get it: published transient local, or a topic of static transforms."""
    serialization: str
    """'cdr', or what else its messages are written in, which ROS 2 cannot publish."""

    @property
    def is_static(self) -> bool:
        """Whether it holds static transforms, in whatever namespace."""
        return self.message_type == _TRANSFORMS and self.name.rpartition('/')[2] == 'tf_static'


class BagReader:
    """Reads a bag in time order, lazily (context manager). All errors of the files are UserErrors."""

    def __init__(self, path: str | Path) -> None:
        """Open a folder, or a single file of one. Raises UserError if nothing of it can be read."""
        self.path = Path(path)
        self._stack = contextlib.ExitStack()
        with self._refusing(), contextlib.ExitStack() as stack:
            self._folder = open_bag(self.path, stack)
            self._stack = stack.pop_all()
        stored = [topic for storage in self._folder.storages for topic in storage.topics]
        self.topics = {name: _joined([topic for topic in stored if topic.name == name]) for name in _names(stored)}
        self._types = BagTypes(stored)

    @property
    def notes(self) -> list[str]:
        """What a user should know of the bag, a sentence each; reading it may find more."""
        return self._folder.notes + [storage.damage for storage in self._folder.storages if storage.damage]

    def raw(
        self, topics: Iterable[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, int, bytes]]:
        """Yield messages of some or all topics in time order: (topic, time in ns, CDR bytes).

        start_ns is included, stop_ns is not. Raises UserError for a missing topic and a damaged bag.
        """
        wanted = set(self.topics if topics is None else topics)
        missing = sorted(wanted - self.topics.keys())
        if missing:
            raise UserError(f'{self.path}: no topic {", ".join(missing)}; it has {", ".join(sorted(self.topics))}')
        begin, end = 0 if start_ns is None else start_ns, END_NS if stop_ns is None else stop_ns
        messages = in_time_order(
            (storage.start_ns, partial(storage.messages, wanted, begin, end)) for storage in self._folder.storages
        )
        while True:
            with self._refusing():
                item = next(messages, None)
                if item is None:
                    return
                topic, time_ns, data = item
                # rosbag2 may pack each message by itself; CDR begins with a zero.
                raw = zstd.decompress(data) if data[:4] == _ZSTD_MAGIC else data
            yield topic, time_ns, raw

    def latched(self, topics: Iterable[str], stop_ns: int) -> list[tuple[str, bytes]]:
        """Return what somebody who subscribes at that time is still given: (topic, CDR bytes) in time order.

        Of a topic that is latched the last message before stop_ns, of static transforms all.
        """
        found: list[tuple[str, bytes]] = []
        wanted = [name for name in topics if self.topics[name].latched]
        for topic, _, raw in self.raw(wanted, stop_ns=stop_ns) if wanted else ():
            if not self.topics[topic].is_static:
                found = [entry for entry in found if entry[0] != topic]
            found.append((topic, raw))
        return found

    def messages(self, topics: Iterable[str] | None = None) -> Iterator[tuple[str, int, Any]]:
        """Yield decoded messages of some or all topics in time order: (topic, time in ns, message)."""
        for topic, time_ns, raw in self.raw(topics):
            yield topic, time_ns, self.decode(topic, raw)

    def decode(self, topic: str, raw: bytes) -> Any:
        """Decode a topic's CDR bytes. Raises UserError for damaged ones."""
        try:
            return self._types.decode(self.topics[topic].message_type, raw)
        except UserError as error:
            raise UserError(f'{self.path}: {topic} cannot be read: {error}') from error

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def start_ns(self) -> int:
        """Time of the first message; undefined for an empty bag."""
        return min(storage.start_ns for storage in self._folder.storages)

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn what damaged and foreign files make the libraries raise into a UserError."""
        try:
            yield
        except (OSError, sqlite3.Error, zstd.ZstdError, struct.error, ValueError) as error:
            if isinstance(error, UserError):
                raise
            reason = ' '.join(str(error).split()) or type(error).__name__
            raise UserError(f'{self.path}: not a bag that can be read: {reason}') from error


def _names(topics: list[StoredTopic]) -> list[str]:
    return list(dict.fromkeys(topic.name for topic in topics))


def _joined(same: list[StoredTopic]) -> Topic:
    """Return what several files, or several publishers, say of one topic."""
    first = max(same, key=lambda topic: topic.count)
    latched, count = any(topic.latched for topic in same), sum(topic.count for topic in same)
    found = Topic(first.name, first.message_type, count, latched, first.serialization)
    return replace(found, latched=latched or found.is_static)
