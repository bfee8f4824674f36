# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ROS 2 bags (mcap or sqlite3), written and read through rosbags: no ROS needed.

Messages are passed on as they are on the wire (raw CDR) wherever nobody has to look inside.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from evict3r_ros.errors import UserError
from evict3r_ros.io.stamps import NANOSECONDS

STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
_VERSION = 9


@lru_cache(maxsize=1)
def message_types() -> Typestore:
    """The message types of ROS 2 Kilted, as rosbags knows them."""
    return get_typestore(Stores.ROS2_KILTED)


def header_stamp_ns(raw: bytes | memoryview) -> int:
    """Stamp in nanoseconds of a message in CDR whose first field is a std_msgs/Header."""
    order = '<' if raw[1] & 1 else '>'
    sec, nanosec = struct.unpack_from(f'{order}iI', raw, 4)
    return sec * NANOSECONDS + nanosec


def quality_of_service(latched: bool) -> Qos:
    """What a bag says about a topic's publisher: reliable, keep last 10; latched: transient local, as /tf_static is."""
    # Deadlines and lifespans that never end are the largest time DDS can say.
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
    """Writes a bag folder, message by message, in bounded memory (context manager). A bag is never overwritten."""

    def __init__(self, path: str | Path, storage: str = 'mcap') -> None:
        """Create the folder. Raises UserError when it exists already or the storage is unknown."""
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
        """Add a topic. definition: the .msg text of a type that is not one of ROS 2's own. Raises UserError for those
        without one.
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
        """Write a message in CDR at a time on the bag's clock, nanoseconds. Raises UserError when the disk won't."""
        try:
            self._writer.write(self._connections[topic], time_ns, raw)
        except OSError as error:
            raise UserError(f'{self.path}: the bag cannot be written: {error.strerror}') from error
        self.counts[topic] += 1

    def write(self, topic: str, time_ns: int, message: Any) -> None:
        """Write a message made from message_types()."""
        self.write_raw(topic, time_ns, self._types.serialize_cdr(message, self._connections[topic].msgtype))

    def close(self) -> None:
        """Close the files; only then can the bag be read. Raises UserError when the disk won't take the rest."""
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
    """A topic of a bag: type as 'package/msg/Name', number of messages, whether it was transient local."""

    name: str
    message_type: str
    count: int
    latched: bool


class BagReader:
    """Reads a bag folder in time order, lazily (context manager). Whatever is wrong with the files is a UserError."""

    def __init__(self, path: str | Path) -> None:
        """Open the bag. Raises UserError for a folder that is no bag, or a damaged one."""
        self.path = Path(path)
        if not self.path.exists():
            raise UserError(f'{self.path}: no such bag')
        self._reader = self._refuse_nicely(lambda: AnyReader([self.path], default_typestore=message_types()))
        self._refuse_nicely(self._reader.open)
        self.topics = {connection.topic: self._topic(connection) for connection in self._reader.connections}

    def raw(
        self, topics: Iterable[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, int, bytes]]:
        """Messages of some or all topics in time order: (topic, time in ns, CDR bytes), from a time on and before one.

        Raises UserError where damaged or where a topic isn't there.
        """
        for connection, time_ns, raw in self._read(topics, start_ns, stop_ns):
            yield connection.topic, time_ns, raw

    def messages(self, topics: Iterable[str] | None = None) -> Iterator[tuple[str, int, Any]]:
        """The same with messages decoded: (topic, time in ns, message)."""
        for connection, time_ns, raw in self._read(topics):
            yield connection.topic, time_ns, self.decode(connection.topic, raw)

    def decode(self, topic: str, raw: bytes) -> Any:
        """The message that a topic's CDR bytes hold. Raises UserError when they don't."""
        return self._refuse_nicely(lambda: self._reader.deserialize(raw, self.topics[topic].message_type))

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
        """Time of the first message; nonsense for a bag without any."""
        return self._reader.start_time

    @property
    def is_ros2(self) -> bool:
        """Whether its messages are CDR, as ROS 2 has them."""
        return self._reader.is2

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
        while (item := self._refuse_nicely(lambda: next(messages, None))) is not None:
            yield item

    def _refuse_nicely(self, read: Callable[[], Any]) -> Any:
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
        profiles = connection.ext.offered_qos_profiles
        latched = any(profile.durability is QosDurability.TRANSIENT_LOCAL for profile in profiles)
        return Topic(connection.topic, connection.msgtype, connection.msgcount, latched)
