# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: replaced when it is ours, and never at the cost of anybody else's file."""

from __future__ import annotations

import pytest

from evict3r_ros.errors import UserError
from evict3r_ros.io.run_folder import MARKER, RunFolder

NAMES = ('answer', 'cloud.ply')


def folder_at(path):
    return RunFolder(path, 'evict3r demo', NAMES)


def test_a_second_run_replaces_the_first_and_leaves_the_rest(tmp_path):
    folder = folder_at(tmp_path / 'a' / 'out')
    folder.prepare()
    folder.file('cloud.ply').write_bytes(b'12345')
    folder.file('answer').mkdir()
    (folder.file('answer') / 'metadata.yaml').write_text('x')
    (folder.file('answer') / 'answer.mcap').write_text('yy')
    (folder.path / 'notes.txt').write_text('mine')
    assert folder.sizes() == {'answer': 3, 'cloud.ply': 5}
    folder.prepare()
    assert sorted(path.name for path in folder.path.iterdir()) == [MARKER, 'notes.txt']
    assert folder.sizes() == {}


def test_an_empty_folder_is_taken(tmp_path):
    folder_at(tmp_path).prepare()
    assert (tmp_path / MARKER).read_text() == 'evict3r demo\n'


@pytest.mark.parametrize('marker', [None, 'another command'])
def test_a_folder_of_somebody_else_is_refused_untouched(tmp_path, marker):
    (tmp_path / 'cloud.ply').write_text('mine')
    if marker:
        (tmp_path / MARKER).write_text(marker)
    with pytest.raises(UserError, match='not made by `evict3r demo`'):
        folder_at(tmp_path).prepare()
    assert (tmp_path / 'cloud.ply').read_text() == 'mine'


def test_a_foreign_file_in_a_bag_stops_it_before_anything_is_removed(tmp_path):
    folder = folder_at(tmp_path / 'out')
    folder.prepare()
    folder.file('cloud.ply').write_text('old')
    folder.file('answer').mkdir()
    (folder.file('answer') / 'thesis.tex').write_text('mine')
    with pytest.raises(UserError, match=r'thesis\.tex, which is not part of it'):
        folder.prepare()
    assert folder.file('cloud.ply').exists() and (folder.file('answer') / 'thesis.tex').exists()


def test_a_link_is_removed_and_what_it_names_is_not(tmp_path):
    folder = folder_at(tmp_path / 'out')
    folder.prepare()
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere' / 'metadata.yaml').write_text('mine')
    folder.file('answer').symlink_to(tmp_path / 'elsewhere')
    folder.prepare()
    assert not folder.file('answer').is_symlink() and (tmp_path / 'elsewhere' / 'metadata.yaml').exists()


def test_what_cannot_be_a_folder_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='is not a folder'):
        folder_at(tmp_path / 'file').prepare()
    with pytest.raises(UserError, match='cannot be written'):
        folder_at(tmp_path / 'file' / 'below').prepare()
    with pytest.raises(ValueError, match='not one of'):
        folder_at(tmp_path).file('thesis.tex')
