# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""make setup: what it asks of the machine, what it does again and what not, what an interruption leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import build_interfaces
import check_prerequisites
import pytest
import setup_environment

ROOT = Path(__file__).resolve().parent.parent
DONE = {'environment': 'a', 'packages': 'b', 'interfaces': 'c'}

needs_make = pytest.mark.skipif(shutil.which('make') is None, reason='no make here')
OURS = {Path(setup_environment.Setup(distro).venv): distro for distro in setup_environment.DISTROS}
DISTRO = OURS.get(Path(sys.prefix), setup_environment.NEWEST)
needs_venv = pytest.mark.skipif(
    Path(sys.prefix) not in OURS or not setup_environment.Setup(DISTRO).stamps.is_dir(),
    reason='about the environment that make setup makes',
)


def plain_environment(path: str) -> dict[str, str]:
    """Return the variables of a bare login."""
    return {'PATH': path, 'HOME': os.environ['HOME']}


def path_with(tmp_path: Path, *programs: str) -> str:
    """Make a PATH on which there are these programs alone."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for program in programs:
        (folder / program).symlink_to(shutil.which(program))
    (folder / 'python3').symlink_to(sys._base_executable)
    return str(folder)


# Prerequisites


def test_this_machine_has_everything():
    assert check_prerequisites.missing() == []


def make_setup(path: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run make setup in this tree, as a stranger with this PATH would."""
    return subprocess.run(
        ['make', 'setup', *arguments], cwd=ROOT, env=plain_environment(path), text=True, capture_output=True, timeout=60
    )


@needs_make
def test_missing_programs_are_named_one_a_line(tmp_path):
    done = make_setup(path_with(tmp_path, 'make', 'sh'), 'PYTHON=python3')
    lines = [line for line in done.stderr.splitlines() if line.startswith('evict3r setup: ')]
    assert done.returncode != 0
    assert len(lines) == 2
    assert 'g++' in lines[0] and lines[0].endswith('apt-get install g++')
    assert lines[1].endswith('apt-get install git')
    assert '[1/' not in done.stdout


@needs_make
def test_missing_python_is_named(tmp_path):
    done = make_setup(path_with(tmp_path, 'make', 'sh'), 'PYTHON=python3.99')
    assert done.returncode != 0
    assert 'no python3.99: apt-get install python3' in done.stderr


@pytest.mark.parametrize(('version', 'word'), [((3, 9, 2), 'too old'), ((3, 15, 0), 'newer than the ROS')])
def test_wrong_python(monkeypatch, version, word):
    monkeypatch.setattr(sys, 'version_info', version)
    (line,) = check_prerequisites.missing()
    assert line.startswith(f'Python 3.{version[1]} is') and word in line and 'make setup PYTHON=' in line


def test_other_processor(monkeypatch):
    monkeypatch.setattr('platform.machine', lambda: 'aarch64')
    (line,) = check_prerequisites.missing()
    assert 'x86-64' in line and 'aarch64' in line and 'colcon' in line


@pytest.mark.parametrize('libc', [('glibc', '2.27'), ('', '')])
def test_other_c_library(monkeypatch, libc):
    monkeypatch.setattr('platform.libc_ver', lambda: libc)
    (line,) = check_prerequisites.missing()
    assert 'glibc 2.28' in line


def test_no_python_header(monkeypatch, tmp_path):
    monkeypatch.setattr('sysconfig.get_paths', lambda: {'include': str(tmp_path)})
    (line,) = check_prerequisites.missing()
    assert 'Python.h' in line and line.endswith('apt-get install python3-dev')


def test_no_venv_module(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ensurepip', None)
    (line,) = check_prerequisites.missing()
    assert 'ensurepip' in line and line.endswith('apt-get install python3-venv')


# What is done again


@pytest.mark.parametrize(
    ('changed', 'steps'),
    [
        ({}, []),
        ({'interfaces': 'x'}, ['interfaces']),
        ({'interfaces': ''}, ['interfaces']),
        ({'packages': 'x'}, ['packages', 'interfaces']),
        ({'environment': 'x'}, ['environment', 'packages', 'interfaces']),
        ({'packages': ''}, ['environment', 'packages', 'interfaces']),
    ],
)
def test_due_steps(changed, steps):
    assert setup_environment.Setup().due(DONE, {**DONE, **changed}) == steps


@pytest.fixture
def small_tree(tmp_path, monkeypatch):
    """Make a tree with a space in its path that has what the stamps depend on, and the tool working on it."""
    root = tmp_path / 'a tree'
    for name in (
        'tools/constraints/common.txt',
        'tools/constraints/kilted.txt',
        'tools/constraints/jazzy.txt',
        'tools/build_interfaces.py',
        'tools/tf2_msgs/msg/TFMessage.msg',
        'msg/StreamStatus.msg',
        'setup.py',
        'evict3r_ros/__init__.py',
        'tools/setup_environment.py',
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    monkeypatch.setattr(setup_environment, 'ROOT', root)
    return root


@pytest.mark.parametrize(
    ('file', 'steps'),
    [
        ('msg/StreamStatus.msg', {'interfaces'}),
        ('tools/tf2_msgs/msg/TFMessage.msg', {'interfaces'}),
        ('tools/build_interfaces.py', {'interfaces'}),
        ('setup.py', {'packages'}),
        ('evict3r_ros/__init__.py', {'packages'}),
        ('tools/setup_environment.py', {'packages'}),
        ('tools/constraints/common.txt', {'packages', 'interfaces'}),
        ('tools/constraints/kilted.txt', {'packages', 'interfaces'}),
        ('tools/constraints/jazzy.txt', set()),
    ],
)
def test_a_change_is_noticed_by_content(small_tree, file, steps):
    setup = setup_environment.Setup()
    before = setup.keys()
    os.utime(small_tree / file)
    assert setup.keys() == before
    with (small_tree / file).open('a') as changed:
        changed.write('\n# more\n')
    after = setup.keys()
    assert {step for step in before if before[step] != after[step]} == steps


def test_a_new_message_is_noticed(small_tree):
    setup = setup_environment.Setup()
    before = setup.keys()
    (small_tree / 'msg' / 'More.msg').write_text('bool more\n')
    assert setup.keys()['interfaces'] != before['interfaces']


def test_each_distribution_has_an_environment_of_its_own():
    kilted, jazzy = setup_environment.Setup('kilted'), setup_environment.Setup('jazzy')
    assert (kilted.venv.name, jazzy.venv.name) == ('.venv', '.venv-jazzy')
    assert kilted.keys()['packages'] != jazzy.keys()['packages']


@pytest.mark.parametrize('distro', setup_environment.DISTROS)
def test_the_extras_of_a_distribution_are_those_of_setup_py_and_pinned(distro):
    """setup.py is read as text: importing it would run it."""
    text = (ROOT / 'setup.py').read_text()
    setup = setup_environment.Setup(distro)
    assert [extra for extra in ','.join(setup.extras).split(',') if f"'{extra}'" not in text] == []
    pins = setup.constraints[1].read_text()
    assert f'ros-{distro}-rclpy==' in pins and 'numpy==' in pins


@needs_make
def test_an_unknown_distribution_is_refused(tmp_path):
    done = make_setup(os.environ['PATH'], 'DISTRO=noetic')
    assert done.returncode != 0
    assert "invalid choice: 'noetic'" in done.stderr


@pytest.mark.slow
def test_environment_is_made_and_made_anew(small_tree, monkeypatch):
    monkeypatch.setattr(sys, 'executable', sys._base_executable)
    setup = setup_environment.Setup()
    wanted = setup.keys()
    setup.make_environment(wanted)
    assert setup.stamp('environment') == wanted['environment']
    assert (
        subprocess.run(
            [setup.python, '-m', 'pip', '--version'], capture_output=True, env=plain_environment(os.defpath), timeout=60
        ).returncode
        == 0
    )
    leftover = small_tree / '.venv' / 'half-installed'
    leftover.touch()
    setup.make_environment(wanted)
    assert not leftover.exists()


def test_an_environment_of_someone_else_is_kept(small_tree):
    (small_tree / '.venv').mkdir()
    (small_tree / '.venv' / 'precious').touch()
    with pytest.raises(setup_environment.SetupError, match='not made by make setup'):
        setup_environment.Setup().make_environment({})
    assert (small_tree / '.venv' / 'precious').exists()


@pytest.mark.parametrize(
    ('step', 'gone'), [('install_packages', {'packages', 'interfaces'}), ('install_interfaces', {'interfaces'})]
)
def test_what_fails_is_not_stamped(small_tree, step, gone):
    """There is no Python in the environment, so the step fails; its old stamp does not outlive that."""
    setup = setup_environment.Setup()
    setup.stamps.mkdir(parents=True)
    for name, text in DONE.items():
        setup.write_stamp(name, text)
    with pytest.raises(OSError):
        getattr(setup, step)(setup.keys())
    assert {name for name in DONE if not setup.stamp(name)} == gone


def test_a_failing_command_is_reported_with_its_words(small_tree):
    setup = setup_environment.Setup()
    setup.stamps.mkdir(parents=True)
    with pytest.raises(setup_environment.SetupError, match=r'(?s)trying failed.*no such thing'):
        setup.call(['sh', '-c', 'echo no such thing >&2; exit 3'], 'trying')


@needs_venv
def test_second_run_does_nothing():
    """As a stranger would run it: a bare environment."""
    setup = setup_environment.Setup(DISTRO)
    stamps = sorted(setup.stamps.iterdir())
    before = [(path, path.stat().st_mtime_ns) for path in stamps]
    wanted = setup.keys()
    if setup.due(wanted, {step: setup.stamp(step) for step in wanted}):
        pytest.skip(f'{setup.venv.name} is not up to date: run make setup first')
    done = make_setup(os.environ['PATH'], f'DISTRO={DISTRO}')
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f'{setup.venv.name} is up to date'
    assert [(path, path.stat().st_mtime_ns) for path in stamps] == before


# Interfaces


def test_dependencies_of_a_message():
    text = '# a/b in words\nstd_msgs/Header header\nuint32[] tokens  # x/y\n  geometry_msgs/Pose[] poses\n'
    assert build_interfaces.dependencies(text) == {'std_msgs', 'geometry_msgs'}


@needs_venv
def test_exports_name_folders_that_exist():
    exports = sorted(Path(sys.prefix).glob('share/*/cmake/*__rosidl_generator_pyExport.cmake'))
    assert exports
    for export in exports:
        for line in export.read_text().splitlines():
            if 'INTERFACE_INCLUDE_DIRECTORIES' in line:
                folders = [folder for folder in line.split('"')[1].split(';') if '${' not in folder]
                assert all(Path(folder).is_dir() for folder in folders), export


def test_a_message_that_cannot_be_built_is_an_error(tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(build_interfaces.BuildError, match=r'holds no \.msg file'):
        build_interfaces.build('nothing_msgs', tmp_path / 'empty', tmp_path)
