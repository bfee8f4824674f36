# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Faults counted and told without flooding the log, and what diagnostics make of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

import torch
from diagnostic_msgs.msg import DiagnosticStatus
from evict3r_ros.msg import StreamStatus

from evict3r_ros.errors import UserError
from evict3r_ros.kernels.device_errors import is_device_lost
from evict3r_ros.ros.node.diagnostics import diagnostics
from evict3r_ros.ros.perception.faults import KINDS, THROTTLE_S, Faults, FrameRefused, explain

TESTS = Path(__file__).parent
DOCS = TESTS.parent / 'docs' / 'faults.md'


def test_a_storm_is_counted_whole_and_logged_seldom():
    now, lines = [100.0], []
    faults = Faults(lambda is_error, text: lines.append((is_error, text)), clock=lambda: now[0])
    for i in range(1000):
        faults.count('broken_image', f'number {i}')
        now[0] += THROTTLE_S / 400
    assert faults.counts() == {'broken_image': 1000}
    assert [text.split(' (')[0] for _, text in lines] == ['number 0', 'number 400', 'number 800']
    assert '399 more' in lines[1][1] and not lines[0][0]
    faults.count('not_finite', 'another kind has a line of its own', details='\ntrace')
    assert lines[-1] == (True, 'another kind has a line of its own\ntrace')
    assert faults.last == 'another kind has a line of its own'
    assert faults.recent(1.0) == ['broken_image', 'not_finite']
    now[0] += 10.0
    assert faults.recent(5.0) == []
    faults.clear()
    assert faults.counts() == {} and faults.last == ''


@pytest.mark.parametrize(
    ('error', 'kind'),
    [
        (FrameRefused('blank_image', 'x'), 'blank_image'),
        (ValueError('x'), 'broken_image'),
        (UserError('x'), 'network_failed'),
        (RuntimeError('x'), 'network_failed'),
        (torch.cuda.OutOfMemoryError('x'), 'out_of_memory'),
        (torch.AcceleratorError('CUDA error: out of memory'), 'out_of_memory'),
        (torch.AcceleratorError('CUDA error: device-side assert triggered\nCompile with'), 'device_lost'),
        (RuntimeError('CUDA error: an illegal memory access was encountered'), 'device_lost'),
        (RuntimeError('Triton Error [CUDA]: misaligned address'), 'device_lost'),
        (torch.AcceleratorError('CUDA error: invalid configuration argument'), 'network_failed'),
        (RuntimeError('a mask of CUDA errors'), 'network_failed'),
        (ValueError('CUDA error: x'), 'broken_image'),
    ],
)
def test_an_exception_has_a_kind(error, kind):
    assert explain(error) == (kind, str(error).splitlines()[0])


@pytest.mark.parametrize('broken', [(), (0,), (1,)])
def test_a_device_in_use_is_asked_whether_it_is_lost(monkeypatch, broken):
    """A stand-in for two cards: words do not decide where there is somebody to ask."""

    def synchronize(index: int) -> None:
        if index in broken:
            raise torch.AcceleratorError('CUDA error: device-side assert triggered')

    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'memory_reserved', lambda index: index)  # the second alone is in use
    monkeypatch.setattr(torch.cuda, 'synchronize', synchronize)
    for words in ('CUDA error: an illegal memory access was encountered', 'cuBLAS', 'shapes differ'):
        assert is_device_lost(RuntimeError(words)) is (1 in broken)
    assert not is_device_lost(ValueError('a broken image'))
    assert not is_device_lost(torch.cuda.OutOfMemoryError('CUDA out of memory'))


def test_an_exception_without_words_has_a_name():
    assert explain(RuntimeError())[1] == 'RuntimeError'


def test_diagnostics_follow_what_went_wrong_lately():
    status = StreamStatus(faults=['bad_stamp'], fault_counts=[3], rate_hz=12.0)
    status.header.frame_id = 'cam0'

    def entry(**given) -> DiagnosticStatus:
        options = {'state': 'active', 'recent': [], 'conditions': [], **given}
        return diagnostics(status, '/robot/evict3r', **options).status[0]

    assert (entry().level, entry().message, entry().name) == (
        DiagnosticStatus.OK,
        '12.0 frames a second',
        'robot/evict3r: stream',
    )
    assert entry().hardware_id == 'cam0'
    assert {value.key: value.value for value in entry().values}['fault: bad_stamp'] == '3'
    assert entry(recent=['bad_stamp']).level == DiagnosticStatus.WARN
    assert entry(recent=['bad_stamp', 'not_finite']).level == DiagnosticStatus.ERROR
    for state, word in ((StreamStatus.INITIALISING, 'initialising'), (StreamStatus.COASTING, 'coasting')):
        status.tracking_state = state
        assert {value.key: value.value for value in entry().values}['tracking'] == word
    silent = entry(conditions=['no image for 4 s'])
    assert (silent.level, silent.message) == (DiagnosticStatus.WARN, 'no image for 4 s')
    assert entry(state='inactive').message == 'inactive'
    status.last_error = 'weights file x does not exist'
    failed = entry(state='unconfigured')
    assert (failed.level, failed.message) == (DiagnosticStatus.ERROR, 'weights file x does not exist')


def test_the_table_has_every_kind_and_a_test_for_each_row():
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith('| ') and line.count('|') == 6][1:]
    kinds = set(re.findall(r'`([a-z_]+)`', ' '.join(row.split('|')[2] for row in rows)))
    assert kinds == set(KINDS)
    errors = {kind for row in rows if '**E**' in row for kind in re.findall(r'`([a-z_]+)`', row.split('|')[2])}
    assert errors == {kind for kind, (is_error, _) in KINDS.items() if is_error}
    written = set(re.findall(r'^def (test_\w+)', ''.join(path.read_text() for path in TESTS.glob('test_*.py')), re.M))
    named = re.findall(r'`(test_\w+)`', DOCS.read_text())
    assert set(named) <= written and len(named) == len(set(named))
    assert all(re.search(r'`test_\w+`|the same', row.split('|')[5]) for row in rows)
