# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The benchmark of messages runs and tells what it measured. How fast it is, is not for a test to say."""

from __future__ import annotations

import json

import pytest

pytest.importorskip('sensor_msgs.msg', reason='ROS 2 is not installed here')

from evict3r_ros.cli.main import main
from evict3r_ros.ros.tools.message_benchmark import SIZES


def test_it_measures_each_conversion_at_each_size(capsys):
    assert main(['bench', '--messages', '--frames', '2', '--json']) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row['height'], row['width']) for row in rows} == set(SIZES)
    for size in SIZES:
        names = {row['what'] for row in rows if (row['height'], row['width']) == size}
        assert {'image in, rgb8', 'image in, jpeg', 'depth in, 16UC1', 'depth out, 32FC1', 'cloud out'} <= names
    assert all(0 < row['median_ms'] <= row['p99_ms'] for row in rows)
    cloud = next(row for row in rows if row['what'] == 'cloud out' and row['width'] == 1280)
    assert cloud['bytes'] == 1280 * 720 * 16


def test_the_table_is_markdown(capsys):
    assert main(['bench', '--messages', '--frames', '1']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('| conversion |') and all(line.count('|') == 6 for line in lines)


def test_no_frames_are_refused(capsys):
    assert main(['bench', '--messages', '--frames', '0']) == 2
    assert '--frames 0 must be at least 1' in capsys.readouterr().err
