# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read a .db3 file of rosbag2, also one whose recorder was killed. The file itself is never written to."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from evict3r_ros.io.bag_storage import END_NS, Message, StoredTopic, is_latched

MAGIC = b'SQLite format 3\0'
_LEFT_BEHIND = ('-wal', '-journal')
"""Files beside a database that was not closed: what they hold belongs to it."""


class SqliteFile:
    """A file, open for reading; see ``bag_storage.Storage``."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises ValueError for what is no bag, and OSError."""
        self._stack, self.damage = contextlib.ExitStack(), ''
        try:
            self._database = self._open(path)
            try:
                self._read_tables()
            except sqlite3.DatabaseError as error:
                raise ValueError(f'{path.name} is damaged ({error}): {_way_out(path)}') from error
        except BaseException:
            self._stack.close()
            raise

    def messages(self, topics: set[str], start_ns: int, stop_ns: int) -> Iterator[Message]:
        """See Storage."""
        wanted = {number: name for number, name in self._names.items() if name in topics}
        marks = ','.join('?' * len(wanted))
        query = (
            f'SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({marks}) '
            'AND timestamp >= ? AND timestamp < ? ORDER BY timestamp'
        )
        for number, time_ns, data in self._database.execute(query, (*wanted, start_ns, stop_ns)):
            yield wanted[number], time_ns, data

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def _open(self, path: Path) -> sqlite3.Connection:
        if path.stat().st_size < _size_by_header(path):
            # SQLite would take the missing pages for empty ones: rows without times, images with black stripes.
            raise ValueError(f'{path.name} is cut off: {_way_out(path)}')
        if any((beside := path.with_name(path.name + end)).is_file() and beside.stat().st_size for end in _LEFT_BEHIND):
            # SQLite completes it from these files when it opens it, and would write into the user's: into a copy.
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix='evict3r-bag-')))
            for end in ('', *_LEFT_BEHIND):
                if (source := path.with_name(path.name + end)).is_file():
                    shutil.copyfile(source, folder / source.name)
            where, self.damage = f'file:{quote(str(folder / path.name))}', f'{path.name} was not closed: a copy is read'
        else:
            where = f'file:{quote(str(path))}?immutable=1'
        # The node's thread may read what the main thread has opened, one at a time.
        database = sqlite3.connect(where, uri=True, check_same_thread=False)
        self._stack.callback(database.close)
        return database

    def _read_tables(self) -> None:
        database = self._database
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {'topics', 'messages'} <= tables:
            raise ValueError('a database without the tables of a bag (was the recorder ended at once?)')
        definitions: dict[str, tuple[str, str]] = {}
        if 'message_definitions' in tables:
            rows = database.execute('SELECT topic_type, encoding, encoded_message_definition FROM message_definitions')
            definitions = {kind: (encoding, text) for kind, encoding, text in rows}
        columns = {row[1] for row in database.execute('PRAGMA table_info(topics)')}
        offered = 'offered_qos_profiles' if 'offered_qos_profiles' in columns else "''"
        found = database.execute('SELECT topic_id, COUNT(*), MIN(timestamp) FROM messages GROUP BY topic_id').fetchall()
        counts = {number: count for number, count, _ in found}
        self.start_ns = min((first for _, _, first in found), default=END_NS)
        self.topics, self._names = [], dict[int, str]()
        rows = database.execute(f'SELECT id, name, type, serialization_format, {offered} FROM topics ORDER BY id')
        for number, name, kind, serialization, profiles in rows:
            self._names[number] = name
            self.topics.append(
                StoredTopic(
                    name,
                    kind,
                    serialization,
                    *definitions.get(kind, ('', '')),
                    counts.get(number, 0),
                    is_latched(profiles),
                )
            )


def _size_by_header(path: Path) -> int:
    """Return how many bytes a database says that it has; 0 if it does not (https://sqlite.org/fileformat2.html)."""
    with path.open('rb') as file:
        head = file.read(100)
    if len(head) < 100:
        return 100
    (page,), changes, pages, valid_for = struct.unpack_from('>H', head, 16), head[24:28], head[28:32], head[92:96]
    return (65536 if page == 1 else page) * int.from_bytes(pages, 'big') if changes == valid_for else 0


def _way_out(path: Path) -> str:
    return (
        f'`sqlite3 {path.name} .recover | sqlite3 NEW.db3` saves what is left, and `ros2 bag reindex` makes a bag of it'
    )
