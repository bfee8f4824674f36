# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command line itself: quick help, version, errors in one line, and what is said where there is no ROS."""

from __future__ import annotations

import subprocess
import sys

import pytest

from evict3r_ros import __version__
from evict3r_ros.cache import CacheConfig
from evict3r_ros.cli.demo import command as demo
from evict3r_ros.cli.main import main
from evict3r_ros.errors import UserError

pytestmark = pytest.mark.timeout(60)


def run_python(code):
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=50)


def test_help_names_the_commands_and_imports_nothing_heavy():
    code = (
        'import sys, contextlib\n'
        'from evict3r_ros.cli.main import main\n'
        "with contextlib.suppress(SystemExit):\n    main(['--help'])\n"
        "print('heavy:', sorted({'torch', 'rclpy', 'cv2', 'numpy'} & sys.modules.keys()))"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert 'node' in done.stdout and 'demo' in done.stdout
    assert 'heavy: []' in done.stdout


def test_commands_and_core_have_one_default_policy(capsys):
    with pytest.raises(SystemExit):
        main(['plan', '--help'])
    assert f'(default: {CacheConfig().policy})' in ' '.join(capsys.readouterr().out.split())


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(['--version'])
    assert end.value.code == 0 and __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    'arguments', [[], ['dance'], ['demo', '--frames', '0'], ['demo', '--rate', '-1'], ['demo', '--timeout', 'nan']]
)
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and 'evict3r' in capsys.readouterr().err


def test_a_user_error_is_one_line_and_exit_code_2(monkeypatch, capsys):
    def fail(args):
        raise UserError('there is no such camera')

    monkeypatch.setattr(demo, 'run', fail)
    assert main(['demo']) == 2
    assert capsys.readouterr().err == 'evict3r: error: there is no such camera\n'


def test_other_errors_are_not_hidden(monkeypatch):
    monkeypatch.setattr(demo, 'run', lambda args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(['demo'])


def test_ctrl_c_ends_quietly(monkeypatch, capsys):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, 'run', interrupt)
    assert main(['demo']) == 130
    assert capsys.readouterr().err == 'evict3r: interrupted\n'


@pytest.mark.parametrize('missing', ['rclpy', 'tf2_msgs', 'evict3r_ros.msg'])
def test_a_missing_ros_is_told_with_the_cure(missing):
    code = (
        'import sys\n'
        'class Nothing:\n'
        '    def find_spec(self, name, path=None, target=None):\n'
        f'        if name == {missing!r}:\n'
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        'sys.meta_path.insert(0, Nothing())\n'
        'from evict3r_ros.cli.main import main\n'
        "sys.exit(main(['node', '--ros-args', '-p', 'weights:=random']))"
    )
    done = run_python(code)
    assert done.returncode == 2, done.stderr
    assert f'{missing} cannot be imported' in done.stderr and 'make setup' in done.stderr
    assert 'Traceback' not in done.stderr
