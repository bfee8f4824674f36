# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read and write ROS 2 bags (mcap or sqlite3) with rosbags, without ROS.

Messages stay serialized (CDR) unless their content is needed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from evict3r_ros.errors import UserError
from evict3r_ros.io.stamps import NANOSECONDS

STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
_VERSION: Literal[9] = 9


@lru_cache(maxsize=1)
def message_types() -> Typestore:
    """Return the message types of ROS 2 Kilted, as rosbags knows them."""
    return get_typestore(Stores.ROS2_KILTED)


def header_stamp_ns(raw: bytes | memoryview) -> int:
    """Return the stamp in nanoseconds of a CDR message whose first field is a std_msgs/Header."""
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
    """Whether it was published transient local."""


class BagReader:
    """Reads a bag folder in time order, lazily (context manager). All errors of the files are UserErrors."""

    def __init__(self, path: str | Path) -> None:
        """Open the bag. Raises UserError for a missing or damaged bag."""
        self.path = Path(path)
        if not self.path.exists():
            raise UserError(f'{self.path}: no such bag')
        self._reader = self._read_or_refuse(lambda: AnyReader([self.path], default_typestore=message_types()))
        self._read_or_refuse(self._reader.open)
        self.topics = {connection.topic: self._topic(connection) for connection in self._reader.connections}

    def raw(
        self, topics: Iterable[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, int, bytes]]:
        """Yield messages of some or all topics in time order: (topic, time in ns, CDR bytes).

        start_ns is included, stop_ns is not. Raises UserError for a missing topic and a damaged bag.
        """
        for connection, time_ns, raw in self._read(topics, start_ns, stop_ns):
            yield connection.topic, time_ns, raw

    def messages(self, topics: Iterable[str] | None = None) -> Iterator[tuple[str, int, Any]]:
        """Yield decoded messages of some or all topics in time order: (topic, time in ns, message)."""
        for connection, time_ns, raw in self._read(topics):
            yield connection.topic, time_ns, self.decode(connection.topic, raw)

    def decode(self, topic: str, raw: bytes) -> Any:
        """Decode a topic's CDR bytes. Raises UserError for damaged ones."""
        return self._read_or_refuse(lambda: self._reader.deserialize(raw, self.topics[topic].message_type))

    def close(self) -> None:
        """Close the files."""
        if self._reader.stack is not None:
            self._reader.close()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def start_ns(self) -> int:
        """Time of the first message; undefined for an empty bag."""
        return int(self._reader.start_time)

    @property
    def is_ros2(self) -> bool:
        """Whether this is a bag of ROS 2, with CDR messages."""
        return bool(self._reader.is2)

    def _read(
        self, topics: Iterable[str] | None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        connections = self._reader.connections
        if topics is not None:
            wanted = set(topics)
            missing = sorted(wanted - self.topics.keys())
            if missing:
                raise UserError(f'{self.path}: no topic {", ".join(missing)}; it has {", ".join(sorted(self.topics))}')
            connections = [connection for connection in connections if connection.topic in wanted]
        if not connections:
            return
        messages = self._reader.messages(connections=connections, start=start_ns, stop=stop_ns)
        while (item := self._read_or_refuse(lambda: next(messages, None))) is not None:
            yield item

    def _read_or_refuse(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except UserError:
            raise
        except Exception as error:
            # rosbags raises its own errors, and those of struct, sqlite3, zstd and YAML, from damaged or foreign files.
            reason = ' '.join(str(error).split()) or type(error).__name__
            raise UserError(f'{self.path}: not a bag that can be read: {reason}') from error

    @staticmethod
    def _topic(connection: Connection) -> Topic:
        # Connections of ROS 1 have no profiles.
        profiles = getattr(connection.ext, 'offered_qos_profiles', ())
        latched = any(profile.durability is QosDurability.TRANSIENT_LOCAL for profile in profiles)
        return Topic(connection.topic, connection.msgtype, connection.msgcount, latched)
