# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read an MCAP file (https://mcap.dev/spec), by its index or, where a crash left none, as far as it is whole.

rosbags' own reader refuses a file for one definition that it does not know and for a missing index, and recorders
leave both. Messages stay as they are; chunks are unpacked one at a time.
"""

from __future__ import annotations

import struct
import sys
from binascii import crc32
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]  # it has no types

from evict3r_ros.io.bag_storage import END_NS, Message, StoredTopic, in_time_order, is_latched

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor
else:
    from backports.zstd import ZstdDecompressor

MAGIC = b'\x89MCAP0\r\n'
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _CHUNK_INDEX, _STATISTICS = 2, 3, 4, 5, 6, 8, 11
_RECORD = struct.Struct('<BQ')
_MESSAGE_HEAD = struct.Struct('<HIQQ')
_CHUNK_HEAD = struct.Struct('<16xQI')  # size and checksum of its records, behind two times
_STATISTICS_HEAD = struct.Struct('<Q2xI8xI16xI')  # messages, channels, chunks, bytes of the counts that follow
_RUN_BYTES = 4_000_000
"""Messages outside chunks are read in runs of about this size."""


class _Damaged(ValueError):
    """A part of the file is not what it should be; the message says how."""


@dataclass(frozen=True)
class _Part:
    """Messages that are read together: a chunk, or a run of messages outside chunks."""

    start_ns: int
    offset: int
    """Of its first record in the file."""
    length: int
    channels: frozenset[int] = frozenset()
    """The channels that it has messages of, if that is known."""


@dataclass
class _Contents:
    """What the records of a file tell."""

    schemas: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    """Number to name, encoding and text."""
    channels: dict[int, tuple[int, str, str, bool]] = field(default_factory=dict)
    """Number to schema's number, topic, serialization, and whether it is latched."""
    counts: Counter[int] = field(default_factory=Counter)
    """Messages of each channel."""
    parts: list[_Part] = field(default_factory=list)

    def take(self, kind: int, content: memoryview) -> None:
        """Take a schema or a channel."""
        fields = _Fields(content)
        if kind == _SCHEMA:
            number = fields.number('<H')
            self.schemas[number] = fields.text(), fields.text(), fields.text()
        elif kind == _CHANNEL:
            number, schema = fields.number('<H'), fields.number('<H')
            topic, serialization = fields.text(), fields.text()
            metadata = _Fields(fields.block())
            latched = False
            while metadata:
                latched |= (metadata.text() == 'offered_qos_profiles') & is_latched(metadata.text())
            self.channels[number] = schema, topic, serialization, latched

    def topics(self) -> list[StoredTopic]:
        """Return the channels as topics; a topic may have several."""
        found = []
        for number, (schema, topic, serialization, latched) in self.channels.items():
            name, encoding, text = self.schemas.get(schema, ('', '', ''))
            found.append(StoredTopic(topic, name, serialization, encoding, text, self.counts[number], latched))
        return found


class _Fields:
    """Reads the fields of a record one after the other. Raises _Damaged where it ends too soon."""

    def __init__(self, content: memoryview) -> None:
        self.rest = content

    def __bool__(self) -> bool:
        return bool(self.rest)

    def number(self, kind: str) -> int:
        size = struct.calcsize(kind)
        return int(struct.unpack(kind, self._take(size))[0])

    def text(self) -> str:
        return bytes(self.block()).decode('utf-8', 'replace')

    def block(self, kind: str = '<I') -> memoryview:
        return self._take(self.number(kind))

    def _take(self, size: int) -> memoryview:
        if len(self.rest) < size:
            raise _Damaged('a record is shorter than its fields')
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken


class McapFile:
    """A file, open for reading; see ``bag_storage.Storage``."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises ValueError for what is no MCAP file, and OSError."""
        self._path, self.damage = path, ''
        self._file: BinaryIO = path.open('rb')
        try:
            self._size = path.stat().st_size
            if self._file.read(len(MAGIC)) != MAGIC:
                raise ValueError(f'{path.name} is no MCAP file')
            try:
                self._contents = self._by_index()
            except _Damaged:
                self._contents = self._by_scan()
            if self.damage and not self._contents.counts.total():
                raise ValueError(f'{self.damage} (no message is whole)')
        except BaseException:
            self._file.close()
            raise
        self.topics = self._contents.topics()
        self.start_ns = min((part.start_ns for part in self._contents.parts), default=END_NS)

    def messages(self, topics: set[str], start_ns: int, stop_ns: int) -> Iterator[Message]:
        """See Storage."""
        wanted = {number: channel[1] for number, channel in self._contents.channels.items() if channel[1] in topics}
        parts = [
            (part.start_ns, partial(self._messages_of, part, wanted, start_ns, stop_ns))
            for part in self._contents.parts
            if part.start_ns < stop_ns and (not part.channels or not part.channels.isdisjoint(wanted))
        ]
        yield from in_time_order(parts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _by_index(self) -> _Contents:
        """Return what the summary at the end of the file tells. Raises _Damaged unless it is complete."""
        tail = _RECORD.size + 20 + len(MAGIC)
        self._file.seek(max(0, self._size - tail))
        content = self._file.read(tail)
        if len(content) < tail or not content.endswith(MAGIC) or content[0] != _FOOTER:
            raise _Damaged('not closed')
        start = struct.unpack_from('<Q', content, _RECORD.size)[0]
        if not len(MAGIC) <= start < self._size:
            raise _Damaged('no summary')
        found, channels, messages, chunks = _Contents(), -1, 0, 0
        self._file.seek(start)
        for _, kind, record in _records(memoryview(self._file.read(self._size - start - tail))):
            if kind in (_SCHEMA, _CHANNEL):
                found.take(kind, record)
            elif kind == _CHUNK_INDEX:
                fields = _Fields(record)
                first, _, offset, length = (fields.number('<Q') for _ in range(4))
                if offset + length > self._size:
                    raise _Damaged('a chunk lies outside the file')
                entries = fields.block()
                channels_of = frozenset(channel for channel, _ in struct.iter_unpack('<HQ', _whole(entries, 10)))
                found.parts.append(_Part(first, offset, length, channels_of))
            elif kind == _STATISTICS:
                if len(record) < _STATISTICS_HEAD.size:
                    raise _Damaged('a record is shorter than its fields')
                messages, channels, chunks, size = _STATISTICS_HEAD.unpack_from(record)
                entries = _whole(record[_STATISTICS_HEAD.size :][:size], 10)
                found.counts.update(dict(struct.iter_unpack('<HQ', entries)))
        # Writers may leave any of it out, the counts of channels and the schemas included.
        unnamed = {channel[0] for channel in found.channels.values()} - found.schemas.keys() - {0}
        whole = channels == len(found.channels) and chunks == len(found.parts) and messages == found.counts.total()
        if unnamed or not whole or (messages and not found.parts):
            raise _Damaged('the summary does not tell all')
        return found

    def _by_scan(self) -> _Contents:
        """Return what the records themselves tell, from front to back, until they are no longer whole."""
        found, offset, broken = _Contents(), len(MAGIC), 0
        run: list[int] = []  # offset, end and first time of the messages outside chunks so far

        def end_run() -> None:
            if run:
                found.parts.append(_Part(run[2], run[0], run[1] - run[0]))
                run.clear()

        closed = False
        while self._size - offset >= _RECORD.size:
            self._file.seek(offset)
            kind, length = _RECORD.unpack(self._file.read(_RECORD.size))
            end = offset + _RECORD.size + length
            # Recorders that were killed leave zeros, or the beginning of a record.
            if kind in (0, _FOOTER) or (end > self._size and kind != _CHUNK):
                closed = kind == _FOOTER and end <= self._size
                break
            if kind in (_SCHEMA, _CHANNEL):
                try:
                    found.take(kind, memoryview(self._file.read(length)))
                except _Damaged:
                    broken += 1
            elif kind == _MESSAGE and length >= _MESSAGE_HEAD.size:
                channel, _, time_ns, _ = _MESSAGE_HEAD.unpack(self._file.read(_MESSAGE_HEAD.size))
                found.counts[channel] += 1
                run[:] = [run[0] if run else offset, end, min(run[2], time_ns) if run else time_ns]
                if end - run[0] > _RUN_BYTES:
                    end_run()
            elif kind == _CHUNK:
                end_run()
                part = _Part(0, offset, min(end, self._size) - offset)
                times = self._scan_chunk(part, found)
                broken += times is None
                if times:
                    found.parts.append(_Part(min(times), part.offset, part.length))
            offset = end
        end_run()
        if broken or not closed:
            what = 'is damaged' if broken else 'is cut off, or was not closed'
            self.damage = (
                f'{self._path.name} {what}: what is whole of it is read; '
                f'`mcap recover {self._path.name} -o NEW.mcap` mends the file'
            )
        return found

    def _scan_chunk(self, part: _Part, found: _Contents) -> list[int] | None:
        """Take what a chunk tells, and return the times of its messages; None if it cannot be unpacked."""
        times = []
        try:
            for _, kind, record in _records(self._records_of(part)):
                if kind == _MESSAGE and len(record) >= _MESSAGE_HEAD.size:
                    channel, _, time_ns, _ = _MESSAGE_HEAD.unpack_from(record)
                    found.counts[channel] += 1
                    times.append(time_ns)
                else:
                    found.take(kind, record)
        except _Damaged:
            return times or None
        return times

    def _messages_of(self, part: _Part, wanted: dict[int, str], start_ns: int, stop_ns: int) -> Iterator[Message]:
        """Yield the messages of a part in time order; those of one that is damaged as far as it is whole."""
        found: list[Message] = []
        try:
            for _, kind, record in _records(self._records_of(part)):
                if kind != _MESSAGE or len(record) < _MESSAGE_HEAD.size:
                    continue
                channel, _, time_ns, _ = _MESSAGE_HEAD.unpack_from(record)
                if start_ns <= time_ns < stop_ns and channel in wanted:
                    found.append((wanted[channel], time_ns, bytes(record[_MESSAGE_HEAD.size :])))
        except _Damaged as error:
            self.damage = self.damage or f'{self._path.name} is damaged: {error}; what is whole of it is read'
        yield from sorted(found, key=lambda message: message[1])

    def _records_of(self, part: _Part) -> memoryview:
        """Return the records of a part, unpacked. Raises _Damaged for a chunk of which nothing can be unpacked."""
        self._file.seek(part.offset)
        content = memoryview(self._file.read(part.length))
        if not content or content[0] != _CHUNK:
            return content
        if len(content) < _RECORD.size + _CHUNK_HEAD.size:
            raise _Damaged('a chunk has only begun')
        size, checksum = _CHUNK_HEAD.unpack_from(content, _RECORD.size)
        fields = _Fields(content[_RECORD.size + _CHUNK_HEAD.size :])
        compression, stored = fields.text(), fields.number('<Q')
        packed = fields.rest
        whole = len(packed) >= stored
        unpacked = _unpack(bytes(packed[:stored]), compression)
        if whole and (len(unpacked) != size or (checksum and crc32(unpacked) != checksum)):
            raise _Damaged('the checksum of a chunk is wrong')
        return memoryview(unpacked)


_DECOMPRESSORS: dict[str, Callable[[], ZstdDecompressor | LZ4FrameDecompressor]] = {
    'zstd': ZstdDecompressor,
    'lz4': LZ4FrameDecompressor,
}


def _unpack(packed: bytes, compression: str) -> bytes:
    """Unpack as much as there is. Raises _Damaged for an unknown kind, and where nothing can be unpacked."""
    if not compression:
        return packed
    if compression not in _DECOMPRESSORS:
        raise _Damaged(f'a chunk is compressed by {compression!r}, which is not known')
    found = b''
    try:
        while packed:  # a frame after the other; most writers make one
            decompressor = _DECOMPRESSORS[compression]()
            found += decompressor.decompress(packed)
            packed = decompressor.unused_data or b'' if decompressor.eof else b''
        return found
    except Exception as error:  # each of the two libraries has its own errors
        raise _Damaged(f'a chunk cannot be unpacked: {error}') from error


def _whole(entries: memoryview, size: int) -> memoryview:
    """Return as much as entries of a size fill."""
    return entries[: len(entries) // size * size]


def _records(content: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield offset, kind and content of each whole record."""
    offset = 0
    while len(content) - offset >= _RECORD.size:
        kind, length = _RECORD.unpack_from(content, offset)
        begin, end = offset + _RECORD.size, offset + _RECORD.size + length
        if end > len(content):
            return
        yield offset, kind, content[begin:end]
        offset = end
