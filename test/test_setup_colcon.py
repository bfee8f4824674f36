# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The tree in a colcon workspace, as on a robot: built plainly and with links, sourced, imported, tested."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COLCON = Path(sys.prefix, 'bin', 'colcon')
# What git does not have, and what would make the copy slow.
NOT_SOURCE = shutil.ignore_patterns(
    '.git', '.venv*', 'build', 'install', 'log', 'out', '__pycache__', '.hypothesis', '.pytest_cache', '*.egg-info'
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not COLCON.exists(), reason='no colcon beside this Python: make setup installs it'),
]

LOOK_AT_THE_INSTALLATION = """
import importlib, pkgutil, sys
import evict3r_ros
from evict3r_ros.msg import StreamStatus
assert StreamStatus(tokens=[7]).tokens[0] == 7
StreamStatus.__class__.__import_type_support__()
assert StreamStatus.__class__._TYPE_SUPPORT is not None
for module in pkgutil.walk_packages([sys.argv[1]], 'evict3r_ros.'):
    if '.msg' not in module.name and '_s__rosidl' not in module.name:
        importlib.import_module(module.name)
        print(module.name, sys.modules[module.name].__file__)
"""


def workspace_environment() -> dict[str, str]:
    """Return the variables with which colcon finds ROS in this Python's environment."""
    # colcon's selection of the tests has no parity test in it
    kept = {name: value for name, value in os.environ.items() if name != 'EVICT3R_REQUIRE_PARITY'}
    return {
        **kept,
        'PATH': f'{COLCON.parent}{os.pathsep}{os.environ["PATH"]}',
        'PYTHONPATH': '',
        'AMENT_PREFIX_PATH': sys.prefix,
        'CMAKE_PREFIX_PATH': sys.prefix,
    }


def colcon(workspace: Path, verb: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run colcon in the workspace; fail the test with its words if it fails."""
    done = subprocess.run(
        [COLCON, verb, *arguments, '--event-handlers', 'console_direct+'],
        cwd=workspace,
        env=workspace_environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=240,
    )
    assert done.returncode == 0, '\n'.join(done.stdout.splitlines()[-60:])
    return done


@pytest.fixture(scope='module', params=[(), ('--symlink-install',)], ids=['plain', 'symlink'])
def options(request) -> tuple[str, ...]:
    """How to call colcon build."""
    return request.param


@pytest.fixture(scope='module')
def workspace(options, tmp_path_factory) -> Path:
    """Build a workspace with this tree in src/."""
    folder = tmp_path_factory.mktemp('workspace')
    shutil.copytree(ROOT, source(folder), ignore=NOT_SOURCE)
    colcon(folder, 'build', *options)
    return folder


def sourced(workspace: Path, *command: str) -> subprocess.CompletedProcess:
    """Run a command in a shell that sourced the workspace."""
    script = 'source install/local_setup.bash && exec "$@"'
    return subprocess.run(
        ['bash', '-c', script, 'bash', *command],
        cwd=workspace,
        timeout=120,
        env=workspace_environment(),
        text=True,
        capture_output=True,
    )


def source(workspace: Path) -> Path:
    """Return the workspace's copy of this tree."""
    return workspace / 'src' / 'evict3r_ros'


def site_packages(workspace: Path) -> Path:
    """Where the workspace's Python packages lie."""
    (found,) = (workspace / 'install' / 'evict3r_ros').glob('**/*-packages')
    return found


def test_every_module_comes_from_the_workspace(workspace):
    package = site_packages(workspace) / 'evict3r_ros'
    done = sourced(workspace, sys.executable, '-c', LOOK_AT_THE_INSTALLATION, str(package))
    assert done.returncode == 0, done.stderr
    imported = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    files = source(workspace).glob('evict3r_ros/**/*.py')
    dotted = {'.'.join(file.relative_to(source(workspace)).with_suffix('').parts) for file in files}
    assert set(imported) == {name.removesuffix('.__init__') for name in dotted} - {'evict3r_ros'}
    assert all(Path(file).is_relative_to(package) for file in imported.values())


def test_our_init_replaced_the_generated_one(workspace):
    installed = site_packages(workspace) / 'evict3r_ros' / '__init__.py'
    assert installed.read_text() == (source(workspace) / 'evict3r_ros' / '__init__.py').read_text()


@pytest.mark.parametrize('folder', ['launch', 'config'])
def test_shared_files_are_where_launch_looks(workspace, folder):
    share = workspace / 'install' / 'evict3r_ros' / 'share' / 'evict3r_ros' / folder
    wanted = {path.name: path.read_bytes() for path in (source(workspace) / folder).iterdir()}
    assert wanted
    assert {path.name: path.read_bytes() for path in share.iterdir()} == wanted


def test_ros2_run_finds_the_command(workspace):
    command = workspace / 'install' / 'evict3r_ros' / 'lib' / 'evict3r_ros' / 'evict3r'
    assert os.access(command, os.X_OK)
    done = sourced(workspace, str(command), '--help')
    assert done.returncode == 0, done.stderr
    assert 'node' in done.stdout


def test_links_and_copies(workspace, options):
    """With --symlink-install an edit needs no build; without it the installation stands alone."""
    module = site_packages(workspace) / 'evict3r_ros' / 'geometry.py'
    assert module.is_symlink() == bool(options)
    assert module.resolve().is_relative_to(workspace / 'src') == bool(options)


def test_a_new_module_and_a_rebuild(workspace, options):
    """Modules are found by pattern: one added later, in a folder of its own, comes along by itself."""
    room = source(workspace) / 'evict3r_ros' / 'new_room'
    room.mkdir(exist_ok=True)
    (room / '__init__.py').write_text('ANSWER = 42\n')
    colcon(workspace, 'build', *options)
    done = sourced(workspace, sys.executable, '-c', 'import evict3r_ros.new_room as room; print(room.ANSWER)')
    assert done.stdout.strip() == '42', done.stderr


def test_colcon_test_passes(workspace, options):
    """All of colcon's tests on the plain installation; on the linked one those that could see a difference."""
    some = ('--ctest-args', '-R', 'setup_package|geometry') if options else ()
    colcon(workspace, 'test', '--return-code-on-test-failure', *some)
    results = workspace / 'build' / 'evict3r_ros' / 'test_results' / 'evict3r_ros'
    reports = sorted(results.glob('*.xunit.xml'))
    counts = {'tests': 0, 'failures': 0, 'errors': 0}
    for report in reports:
        for suite in ElementTree.parse(report).getroot().iter('testsuite'):
            for name in counts:
                counts[name] += int(suite.get(name))
    assert {report.name for report in reports} >= {'test_setup_package.xunit.xml', 'test_geometry.xunit.xml'}
    assert counts['tests'] > 20 and counts['failures'] == counts['errors'] == 0
