# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Find and open the storage files of a bag. What they hold is believed, what metadata.yaml says of it is not.

metadata.yaml is written when a recorder ends in order, and by hand after that: it may be missing, cut off, or
disagree. It decides which files of a folder are the bag, and adds the quality of service that a storage lacks.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

import yaml

from evict3r_ros.errors import UserError
from evict3r_ros.io import mcap_file, sqlite_file
from evict3r_ros.io.bag_storage import Storage, is_latched
from evict3r_ros.io.mcap_file import McapFile
from evict3r_ros.io.sqlite_file import SqliteFile

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

METADATA = 'metadata.yaml'
ROS1_MAGIC = b'#ROSBAG'
_PACKED = '.zstd'
_SUFFIXES = ('.mcap', '.mcap' + _PACKED, '.db3', '.db3' + _PACKED)
_READERS: dict[bytes, Callable[[Path], Storage]] = {mcap_file.MAGIC: McapFile, sqlite_file.MAGIC: SqliteFile}


@dataclass
class BagFolder:
    """The open files of a bag."""

    storages: list[Storage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a user should know of it, a sentence each."""


def open_bag(path: Path, stack: contextlib.ExitStack) -> BagFolder:
    """Open a folder, or a single file of one. stack: closes the files. Raises UserError if nothing can be read."""
    if not path.exists():
        raise UserError(f'{path}: no such bag')
    bag = BagFolder()
    if path.name == METADATA:
        path = path.parent
    files, latched = ([path], set[str]()) if path.is_file() else _files_of(path, bag.notes)
    reasons = []
    for file in files:
        _refuse_ros1(file)
        try:
            storage = _open_file(file, stack)
        except (ValueError, OSError) as error:
            reasons.append(' '.join(str(error).split()) or type(error).__name__)
            continue
        stack.callback(storage.close)
        storage.topics = [replace(topic, latched=topic.latched or topic.name in latched) for topic in storage.topics]
        bag.storages.append(storage)
    if not bag.storages:
        raise UserError(f'{path}: not a bag that can be read: {"; ".join(reasons)}')
    bag.notes += [f'{reason}; the other files of the bag are read' for reason in reasons]
    return bag


def _files_of(folder: Path, notes: list[str]) -> tuple[list[Path], set[str]]:
    """Return a folder's storage files, and the topics that its metadata.yaml calls transient local."""
    there = sorted(file for file in folder.iterdir() if file.name.endswith(_SUFFIXES) and not file.name.startswith('.'))
    if not there:
        for file in sorted(folder.glob('*.bag')):
            _refuse_ros1(file)
        raise UserError(f'{folder}: not a bag that can be read: there is no .mcap or .db3 file in it')
    # Where both lie there, one was converted from the other.
    there = [file for file in there if file.name.endswith(_SUFFIXES[:2])] or there
    content = _read_metadata(folder / METADATA)
    if not content:
        notes.append(f'{folder.name} has no {METADATA} that can be read; `ros2 bag reindex` makes one, for other tools')
        return there, set()
    names = [PurePath(str(name)).name for name in _list(content, 'relative_file_paths')]
    named = [folder / name for name in names if (folder / name).is_file()]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        notes.append(f'{METADATA} names {", ".join(missing)}, which {"is" if len(missing) == 1 else "are"} missing')
    # A recorder that splits and is killed has written metadata.yaml before its last files.
    series = {_series(file) for file in named}
    more = [file for file in there if file not in named and _series(file) in series]
    if more:
        notes.append(f'{METADATA} does not name {", ".join(file.name for file in more)}: read as well')
    latched = set()
    for entry in _list(content, 'topics_with_message_count'):
        topic = entry.get('topic_metadata') if isinstance(entry, dict) else None
        if isinstance(topic, dict) and is_latched(topic.get('offered_qos_profiles')):
            latched.add(str(topic.get('name')))
    return named + more or there, latched


def _series(file: Path) -> tuple[str, str]:
    """Return what the files of one recording share: NAME_0.mcap, NAME_1.mcap."""
    stem, _, suffixes = file.name.partition('.')
    return re.sub(r'_\d+$', '', stem), suffixes


def _read_metadata(path: Path) -> dict[str, Any]:
    """Return what metadata.yaml says; nothing if it is missing, cut off, or says something else."""
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    found = content.get('rosbag2_bagfile_information') if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}


def _list(content: dict[str, Any], key: str) -> list[Any]:
    value = content.get(key)
    return value if isinstance(value, list) else []


def _open_file(path: Path, stack: contextlib.ExitStack) -> Storage:
    """Open a file by what it is, whatever its name says. Raises ValueError for another kind."""
    if path.name.endswith(_PACKED):
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='evict3r-bag-')))
        unpacked = folder / path.name.removesuffix(_PACKED)
        try:
            with zstd.open(path, 'rb') as source, unpacked.open('wb') as target:
                shutil.copyfileobj(source, target)
        except (zstd.ZstdError, EOFError) as error:
            raise ValueError(f'{path.name} cannot be unpacked: {error}') from error
        path = unpacked
    with path.open('rb') as file:
        head = file.read(max(map(len, _READERS)))
    if not head:
        raise ValueError(f'{path.name} is empty')
    for magic, reader in _READERS.items():
        if head.startswith(magic):
            return reader(path)
    raise ValueError(f'{path.name} is neither MCAP nor SQLite')


def _refuse_ros1(path: Path) -> None:
    with path.open('rb') as file:
        if file.read(len(ROS1_MAGIC)) == ROS1_MAGIC:
            raise UserError(
                f'{path} is a bag of ROS 1: `rosbags-convert --src {path} --dst {path.with_suffix("").name}` makes one '
                'of ROS 2 of it'
            )
