# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r soak`, for seconds: everything is counted, and the figures are there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

from evict3r_ros.cli.main import main


@pytest.mark.ros
@pytest.mark.timeout(180)
def test_a_few_seconds_of_camera(tmp_path: Path):
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'evict3r_ros.cli.main',
            'soak',
            '--minutes',
            '0.07',
            '--rate',
            '10',
            '--json',
            '--plot',
            str(tmp_path / 'soak.png'),
        ],
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told['counts_agree'] and 0 < told['images_received'] <= told['images_published']
    assert told['answered'] + told['dropped'] == told['images_received'] and told['failed'] == 0
    assert told['answers_heard'] == told['answered']
    assert 0.0 < told['stamp_to_answer_p50_ms'] <= told['stamp_to_answer_p99_ms']
    assert 100.0 < told['resident_mib_first'] <= told['resident_mib_most']
    assert (tmp_path / 'soak.png').read_bytes()[:4] == b'\x89PNG'


@pytest.mark.parametrize('words', [['--minutes', '0'], ['--rate', '0'], ['--minutes', 'nan']])
def test_a_run_that_cannot_be_is_refused(words, capsys):
    assert main(['soak', *words]) == 2
    assert '--minutes must be' in capsys.readouterr().err
