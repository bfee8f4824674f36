# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bags as crashes, other programs and other distributions leave them: what is whole is read, or a way out is named."""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.interfaces import Qos
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from evict3r_ros.errors import UserError
from evict3r_ros.io.bag import STORAGES, BagReader, BagWriter, quality_of_service
from evict3r_ros.io.bag_topics import choose_topics
from evict3r_ros.io.bag_types import message_types
from evict3r_ros.io.mcap_file import MAGIC

WORD = 'std_msgs/msg/String'
COUNT = 60


def word(text: str) -> bytes:
    return bytes(message_types().serialize_cdr(message_types().types[WORD](data=text), WORD))


def write(path: Path, storage: str = 'mcap', count: int = COUNT, text_of=lambda index: f'{index} ' * 400) -> Path:
    """Words on /word, and two latched ones on /map."""
    with BagWriter(path, storage) as bag:
        bag.add_topic('/map', WORD, latched=True)
        bag.add_topic('/word', WORD)
        for index in range(count):
            if index in (0, 7):
                bag.write_raw('/map', index, word(f'map {index}'))
            bag.write_raw('/word', index, word(text_of(index)))
    return path


def write_chunks(path: Path, compressed: bool) -> Path:
    """Write an mcap bag of several chunks: words that cannot be compressed."""
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    if compressed:
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    random = np.random.default_rng(0)
    with writer:
        line = writer.add_connection('/word', WORD, typestore=get_typestore(Stores.ROS2_KILTED))
        for index in range(COUNT):
            writer.write(line, index, word(random.integers(33, 123, 100_000, dtype=np.uint8).tobytes().decode()))
    return path


def storage_file(path: Path) -> Path:
    (file,) = [file for file in path.iterdir() if file.name[0] != '.' and file.suffix in ('.mcap', '.db3')]
    return file


def times(path: Path, topic: str = '/word') -> list[int]:
    with BagReader(path) as bag:
        found = [time_ns for _, time_ns, _ in bag.raw([topic])]
        assert len(found) == bag.topics[topic].count
        return found


def edit(path: Path, change) -> None:
    content = yaml.safe_load((path / 'metadata.yaml').read_text())
    change(content['rosbag2_bagfile_information'])
    (path / 'metadata.yaml').write_text(yaml.safe_dump(content))


def forget_quality(content: dict) -> None:
    for topic in content['topics_with_message_count']:
        topic['topic_metadata']['offered_qos_profiles'] = []


def invent_topics(content: dict) -> None:
    content['topics_with_message_count'] = content['topics_with_message_count'][:1] * 3


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize(
    'change',
    [
        forget_quality,
        invent_topics,
        lambda content: content.update(storage_identifier=''),
        lambda content: content.update(storage_identifier='tape', version=99, duration=None, message_count='many'),
        lambda content: content.update(topics_with_message_count=None, compression_mode='FILE'),
        dict.clear,
    ],
)
def test_what_metadata_says_of_the_messages_is_not_needed(tmp_path, storage, change):
    bag = write(tmp_path / 'bag', storage)
    edit(bag, change)
    assert times(bag) == list(range(COUNT))
    with BagReader(bag) as reader:
        assert {name: topic.latched for name, topic in reader.topics.items()} == {'/map': True, '/word': False}


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('content', [None, b'', b'rosbag2_bagfile_information: [1, 2', b'\xff\xfe', b'- 1'])
def test_without_metadata_the_files_of_the_folder_are_the_bag(tmp_path, storage, content):
    bag = write(tmp_path / 'bag', storage)
    (bag / 'metadata.yaml').unlink()
    if content is not None:
        (bag / 'metadata.yaml').write_bytes(content)
    (bag / f'._{storage_file(bag).name}').write_bytes(b'\0\5\x16\7')
    assert times(bag) == list(range(COUNT)) == times(storage_file(bag))
    with BagReader(bag) as reader:
        assert any('ros2 bag reindex' in note for note in reader.notes)


@pytest.mark.parametrize('storage', STORAGES)
def test_a_quality_that_only_metadata_knows_counts_too(tmp_path, storage):
    with Writer(tmp_path / 'bag', version=9, storage_plugin=STORAGES[storage]) as writer:
        line = writer.add_connection('/map', WORD, typestore=get_typestore(Stores.ROS2_KILTED))
        writer.write(line, 3, word('map'))

    def offer(content: dict) -> None:
        (topic,) = content['topics_with_message_count']
        topic['topic_metadata']['offered_qos_profiles'] = '- durability: 1\n'

    edit(tmp_path / 'bag', offer)
    with BagReader(tmp_path / 'bag') as reader:
        assert reader.topics['/map'].latched


def test_static_transforms_are_latched_however_they_were_recorded(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for name in ('/tf_static', '/robot1/tf_static', '/tf'):
            bag.add_topic(name, 'tf2_msgs/msg/TFMessage', latched=False)
            bag.write(name, 1, message_types().types['tf2_msgs/msg/TFMessage'](transforms=[]))
    with BagReader(tmp_path / 'bag') as reader:
        assert [reader.topics[name].latched for name in ('/tf_static', '/robot1/tf_static', '/tf')] == [
            True,
            True,
            False,
        ]


def test_what_a_late_subscriber_is_given(tmp_path):
    bag = write(tmp_path / 'bag')
    with BagReader(bag) as reader:
        assert reader.latched(reader.topics, 0) == []
        assert reader.latched(['/map', '/word'], 5) == [('/map', word('map 0'))]
        assert reader.latched(['/map', '/word'], 8) == [('/map', word('map 7'))]


@pytest.mark.parametrize('compressed', [False, True])
@pytest.mark.parametrize('keep', [0.3, 0.6, 0.9, 0.999])
def test_an_mcap_file_that_is_cut_off_is_read_as_far_as_it_is_whole(tmp_path, keep, compressed):
    path = write_chunks(tmp_path / 'bag', compressed)
    file = storage_file(path)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep * len(whole))])
    found = times(path)
    assert found == list(range(len(found))) and len(found) >= int((keep - 0.15) * COUNT)
    with BagReader(path) as reader:
        (note,) = reader.notes
    assert 'cut off' in note and f'mcap recover {file.name}' in note


@pytest.mark.parametrize(('storage', 'way_out'), [('mcap', 'mcap recover'), ('sqlite3', '.recover')])
@pytest.mark.parametrize('keep', [0, 100, 0.5, 0.98])
def test_files_of_which_nothing_is_whole_name_the_way_out(tmp_path, storage, way_out, keep):
    bag = write(tmp_path / 'bag', storage)
    file = storage_file(bag)
    content = file.read_bytes()
    if storage == 'mcap' and isinstance(keep, float):
        content = content[:60] + b'x' * (len(content) - 60)
    file.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(UserError, match='not a bag that can be read') as refusal:
        BagReader(bag)
    assert 'is empty' in str(refusal.value) if keep == 0 else way_out in str(refusal.value)


def test_a_database_that_was_not_closed_is_completed_in_a_copy(tmp_path):
    """The writer of a write-ahead log is killed: the messages are in the file beside."""
    bag = write(tmp_path / 'bag', 'sqlite3', 10)
    file = storage_file(bag)
    database = sqlite3.connect(file, isolation_level=None)
    database.execute('PRAGMA journal_mode = WAL')
    database.execute('PRAGMA wal_autocheckpoint = 0')
    number = database.execute("SELECT id FROM topics WHERE name = '/word'").fetchone()[0]
    for index in range(10, 15):
        database.execute(
            'INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)', (number, index, word('late'))
        )
    killed = tmp_path / 'killed'
    killed.mkdir()
    for part in bag.iterdir():
        if part.suffix != '.yaml':
            (killed / part.name).write_bytes(part.read_bytes())
    database.close()
    before = {part.name: part.read_bytes() for part in killed.iterdir()}
    assert f'{file.name}-wal' in before and times(killed) == list(range(15))
    assert {part.name: part.read_bytes() for part in killed.iterdir()} == before
    with BagReader(killed) as reader:
        assert any('not closed' in note for note in reader.notes)


def record(kind: int, content: bytes) -> bytes:
    return struct.pack('<BQ', kind, len(content)) + content


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack('<I', len(data)) + data


def plain_mcap(
    order: list[int], encoding: str = 'ros2msg', definition: str = 'string data\n', footer: bool = True
) -> bytes:
    """Messages outside chunks and no index, as rosbag2's preset `fastwrite` and foreign recorders write it."""
    head = record(1, text('') + text('someone'))
    schema = record(3, struct.pack('<H', 1) + text(WORD) + text(encoding) + text(definition))
    channel = record(4, struct.pack('<HH', 1, 1) + text('/word') + text('cdr') + text(b''))
    messages = [record(5, struct.pack('<HIQQ', 1, time, time, time) + word(str(time))) for time in order]
    tail = record(15, bytes(4)) + record(2, bytes(20)) + MAGIC if footer else b''
    return MAGIC + head + schema + channel + b''.join(messages) + tail


@pytest.mark.parametrize('footer', [True, False])
def test_messages_outside_chunks_without_an_index_come_in_order(tmp_path, footer):
    path = tmp_path / 'plain.mcap'
    path.write_bytes(plain_mcap([3, 1, 2, 0, 4], footer=footer))
    with BagReader(path) as reader:
        assert [message.data for _, _, message in reader.messages()] == ['0', '1', '2', '3', '4']
        assert bool(reader.notes) != footer


@pytest.mark.parametrize(
    ('encoding', 'definition'), [('unknown', ''), ('', ''), ('jsonschema', '{}'), ('ros2msg', 'no !! definition\n')]
)
def test_a_definition_that_cannot_be_read_costs_nothing_where_ros_knows_the_type(tmp_path, encoding, definition):
    path = tmp_path / 'odd.mcap'
    path.write_bytes(plain_mcap([0, 1], encoding, definition))
    with BagReader(path) as reader:
        assert [message.data for _, _, message in reader.messages()] == ['0', '1']


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('broken', [b'unknown', b'ros2msg'])
def test_one_topic_of_a_type_that_nobody_knows_does_not_cost_the_bag(tmp_path, storage, broken):
    """rosbag2 writes the encoding `unknown` where it has not found a definition."""
    with BagWriter(tmp_path / 'bag', storage) as bag:
        bag.add_topic('/word', WORD)
        bag.add_topic('/other', 'other_msgs/msg/Other', definition='uint8[] uvwxyz\n')
        bag.write_raw('/word', 1, word('here'))
        bag.write_raw('/other', 2, b'\0\1\0\0\1\0\0\0\7')
    file = storage_file(tmp_path / 'bag')
    content = file.read_bytes()
    name = b'other_msgs/msg/Other'
    start = content.index(name)
    while start >= 0:  # in the data and in the summary
        end = start + 200
        part = content[start:end].replace(b'ros2msg', broken, 1).replace(b'uvwxyz', b'!!!!!!')
        content = content[:start] + part + content[end:]
        start = content.find(name, start + 1)
    file.write_bytes(content)
    with BagReader(tmp_path / 'bag') as reader:
        assert {name: topic.count for name, topic in reader.topics.items()} == {'/word': 1, '/other': 1}
        assert [message.data for _, _, message in reader.messages(['/word'])] == ['here']
        assert [raw[-1] for _, _, raw in reader.raw(['/other'])] == [7]
        with pytest.raises(UserError, match=r'/other cannot be read: type other_msgs/msg/Other has no definition'):
            list(reader.messages(['/other']))


@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE, CompressionMode.STORAGE])
@pytest.mark.parametrize('metadata', [True, False])
def test_compressed_bags_are_read_by_what_they_are(tmp_path, mode, metadata):
    plugin = StoragePlugin.MCAP if mode is CompressionMode.STORAGE else StoragePlugin.SQLITE3
    writer = Writer(tmp_path / 'bag', version=9, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        line = writer.add_connection('/word', WORD, typestore=get_typestore(Stores.ROS2_KILTED))
        for index in range(5):
            writer.write(line, index, word(f'{index}'))
    if not metadata:
        (tmp_path / 'bag' / 'metadata.yaml').unlink()
    with BagReader(tmp_path / 'bag') as reader:
        assert [message.data for _, _, message in reader.messages()] == list('01234')


def test_parts_of_a_bag_that_was_split_overlap_and_one_is_missing(tmp_path):
    """By time the second file begins inside the first; the names say nothing of it."""
    bag = tmp_path / 'bag'
    bag.mkdir()
    for number, order in enumerate(([0, 2, 4], [1, 3, 5], [6])):
        (bag / f'bag_{number}.mcap').write_bytes(plain_mcap(order))
    names = [f'bag_{number}.mcap' for number in range(4)]
    content = {'rosbag2_bagfile_information': {'relative_file_paths': names}}
    (bag / 'metadata.yaml').write_text(yaml.safe_dump(content))
    (bag / 'bag_2.mcap').write_bytes(b'')
    assert times(bag) == list(range(6))
    with BagReader(bag) as reader:
        assert 'bag_3.mcap, which is missing' in reader.notes[0] and 'bag_2.mcap is empty' in reader.notes[1]


def test_a_damaged_chunk_costs_its_own_messages(tmp_path):
    path = write_chunks(tmp_path / 'bag', compressed=True)
    file = storage_file(path)
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300_000] = b'\xff' * 300_000
    file.write_bytes(content)
    with BagReader(path) as reader:
        found = [time for _, time, _ in reader.raw(['/word'])]
        assert found == sorted(found) and 0 in found and COUNT - 1 in found and COUNT // 2 < len(found) < COUNT
        assert any('is damaged' in note for note in reader.notes)


@pytest.mark.parametrize('where', ['old.bag', 'folder', 'old.mcap'])
def test_a_bag_of_ros_1_gets_the_line_that_was_written_for_it(tmp_path, where):
    """By its content: recorders leave `.bag.active`, and people rename."""
    path = tmp_path / where
    file = path / 'old.bag' if where == 'folder' else path
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b'#ROSBAG V2.0\n' + bytes(4000))
    with pytest.raises(UserError, match=r'is a bag of ROS 1: `rosbags-convert --src .*old.* --dst .*old`'):
        BagReader(path)


def test_qualities_are_written_as_they_are_read(tmp_path):
    assert isinstance(quality_of_service(True), Qos)
    bag = write(tmp_path / 'bag', 'sqlite3', 1)
    assert 'transient_local' in (bag / 'metadata.yaml').read_text()


def test_a_folder_with_a_converted_copy_is_read_once(tmp_path):
    bag = write(tmp_path / 'bag', 'sqlite3')
    copy = write(tmp_path / 'copy', 'mcap')
    (bag / 'bag.mcap').write_bytes(storage_file(copy).read_bytes())
    assert times(bag) == list(range(COUNT))
    (bag / 'metadata.yaml').unlink()
    assert times(bag) == list(range(COUNT))


def summarised(channels: bool, counts: bool, schemas: bool) -> bytes:
    """Return an mcap file of one chunk, whose summary leaves something out, as the format allows."""
    schema = record(3, struct.pack('<H', 1) + text(WORD) + text('ros2msg') + text('string data\n'))
    channel = record(4, struct.pack('<HH', 1, 1) + text('/word') + text('cdr') + text(b''))
    messages = b''.join(record(5, struct.pack('<HIQQ', 1, time, time, time) + word(str(time))) for time in range(3))
    inside = schema + channel + messages
    chunk = record(6, struct.pack('<QQQI', 0, 2, len(inside), 0) + text('') + struct.pack('<Q', len(inside)) + inside)
    head = MAGIC + record(1, text('') + text('someone'))
    data = head + chunk + record(15, bytes(4))
    index = struct.pack('<QQQQ', 0, 2, len(head), len(chunk)) + text(b'') + struct.pack('<Q', 0) + text('')
    index = record(8, index + struct.pack('<QQ', len(inside), len(inside)))
    count = struct.pack('<HQ', 1, 3) if counts else b''
    statistics = record(11, struct.pack('<QHIIIIQQ', 3, 1, 1, 0, 0, 1, 0, 2) + text(count))
    summary = (schema if schemas else b'') + (channel if channels else b'') + index + statistics
    return data + summary + record(2, struct.pack('<QQI', len(data), 0, 0)) + MAGIC


@pytest.mark.parametrize(
    'parts', [(True, True, True), (False, True, True), (True, False, True), (True, True, False), (False, False, False)]
)
def test_what_a_summary_leaves_out_is_read_from_the_messages(tmp_path, parts):
    path = tmp_path / 'bag.mcap'
    path.write_bytes(summarised(*parts))
    with BagReader(path) as reader:
        assert reader.topics['/word'].count == 3 and reader.topics['/word'].message_type == WORD
        assert [message.data for _, _, message in reader.messages()] == ['0', '1', '2'] and reader.notes == []


@pytest.mark.parametrize('storage', STORAGES)
def test_files_that_metadata_does_not_name_yet_are_of_the_bag(tmp_path, storage):
    """A recorder that splits was killed: metadata.yaml is that of the first files."""
    bag = write(tmp_path / 'bag', storage, 3)
    later = BagWriter(tmp_path / 'later', storage)
    with later:
        later.add_topic('/word', WORD)
        later.write_raw('/word', 100, word('late'))
    first, second = storage_file(bag), storage_file(tmp_path / 'later')
    moved = bag / f'bag_0{first.suffix}', bag / f'bag_1{first.suffix}'
    first.rename(moved[0])
    second.rename(moved[1])
    moved[1].with_name(f'other{first.suffix}').write_bytes(moved[1].read_bytes())
    edit(bag, lambda content: content.update(relative_file_paths=[moved[0].name]))
    assert times(bag) == [0, 1, 2, 100]
    with BagReader(bag) as reader:
        assert reader.notes == [f'metadata.yaml does not name {moved[1].name}: read as well']


def test_messages_that_are_not_of_ros_2_are_told_by_name(tmp_path):
    path = tmp_path / 'one.mcap'
    path.write_bytes(plain_mcap([0]).replace(text('cdr'), text('xdr')))
    with BagReader(path) as reader, pytest.raises(UserError, match="written as 'xdr', and those of ROS 2 are CDR"):
        choose_topics(reader)
