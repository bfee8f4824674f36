# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""TUM trajectories: nanoseconds kept exactly, poses round-tripped, broken files refused with the line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evict3r_ros.errors import UserError
from evict3r_ros.io.tum import Trajectory, TumWriter, format_stamp, parse_stamp, read_tum, write_tum


@given(st.integers(0, 2**63 - 1))
def test_stamps_survive_to_the_nanosecond(stamp):
    assert parse_stamp(format_stamp(stamp)) == stamp


@pytest.mark.parametrize(
    'text, stamp',
    [
        ('1403638538.577829376', 1403638538577829376),
        ('0.5', 500_000_000),
        ('12', 12_000_000_000),
        ('1.403638538577829361e+09', 1403638538577829361),
    ],
)
def test_stamps_of_other_writers_are_read(text, stamp):
    assert parse_stamp(text) == stamp


@pytest.mark.parametrize('text', ['nan', 'inf', '-1', 'abc', '', '1e999999999', '99999999999999999999'])
def test_what_is_no_stamp_is_refused(text):
    with pytest.raises(ValueError, match='not a time'):
        parse_stamp(text)


def test_a_stamp_before_the_epoch_is_refused():
    with pytest.raises(ValueError, match='before the epoch'):
        format_stamp(-1)


def test_trajectory_round_trip(tmp_path):
    random = np.random.default_rng(0)
    quaternions = random.normal(size=(50, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    stamps = 1403638538577829376 + np.cumsum(random.integers(1, 10**9, 50))
    written = Trajectory(stamps, random.normal(scale=100, size=(50, 3)), quaternions)
    write_tum(tmp_path / 'path.tum', written)
    read = read_tum(tmp_path / 'path.tum')
    assert np.array_equal(read.stamps_ns, written.stamps_ns)
    assert np.abs(read.positions - written.positions).max() <= 0.5e-9 + 1e-13
    assert np.abs(read.quaternions - written.quaternions).max() < 2e-9


def test_what_is_written_can_be_read_before_the_end(tmp_path):
    path = tmp_path / 'path.tum'
    with TumWriter(path) as writer:
        writer.write(1, np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
        assert len(read_tum(path)) == 1
        with pytest.raises(ValueError, match='finite'):
            writer.write(2, np.array([0.0, np.nan, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]))
    assert writer.count == len(read_tum(path)) == 1


@pytest.mark.parametrize(
    'line, said',
    [
        ('1.0 1 2 3 0 0 0', '8 fields'),
        ('1.0 1 2 x 0 0 0 1', 'could not convert'),
        ('x 1 2 3 0 0 0 1', 'not a time'),
        ('1.0 1 2 inf 0 0 0 1', 'finite'),
        ('1.0 1 2 3 0 0 0 0', 'not a rotation'),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, said):
    path = tmp_path / 'path.tum'
    path.write_text(f'# comment\n0.5 0 0 0 0 0 0 1\n{line}\n')
    with pytest.raises(UserError, match=said) as refusal:
        read_tum(path)
    assert f'{path}:3' in str(refusal.value)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(UserError, match='cannot be read'):
        read_tum(tmp_path / 'none.tum')
    (tmp_path / 'binary.tum').write_bytes(b'\xff\xfe\x00\x81')
    with pytest.raises(UserError, match='not text'):
        read_tum(tmp_path / 'binary.tum')
