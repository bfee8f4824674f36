# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a ROS domain of their own on this machine alone, and where the data lies.

EVICT3R_PARITY_DIR and EVICT3R_EUROC_DIR name the data folders; without them they are looked for in ../shared,
beside the repository. A test whose data is missing is skipped and says so, but for parity tests where
EVICT3R_REQUIRE_PARITY=1: then skipping one, or running none, is a failure.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from evict3r_ros.ros.tools.middleware import Domain, isolate

ROOT = Path(__file__).resolve().parent.parent
PARITY_REQUIRED = os.environ.get('EVICT3R_REQUIRE_PARITY') == '1'

_parity_passed = pytest.StashKey[int]()
_isolation = pytest.StashKey[tuple[Domain, tempfile.TemporaryDirectory]]()


def pytest_configure(config: pytest.Config) -> None:
    """Cut the tests, and all they start, off from other ROS systems, before anything of ROS is imported."""
    domain = Domain()
    logs = tempfile.TemporaryDirectory(prefix='evict3r_ros_log_')
    config.stash[_isolation] = domain, logs
    config.stash[_parity_passed] = 0
    # A shell's background jobs are started with Ctrl-C ignored, and all that the tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Tests run several processes on few cores, and OpenMP's threads, which spin while they wait, would starve them.
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    # Before anything imports Triton: without a GPU its kernels run in its interpreter.
    if not torch.cuda.is_available():
        os.environ.setdefault('TRITON_INTERPRET', '1')
    isolate(domain.number)
    os.environ['ROS_LOG_DIR'] = logs.name
    # Without a large shared-memory segment most large best-effort messages are lost. Kilted reads the old name too, and
    # warns.
    old = os.environ.get('ROS_DISTRO') in ('humble', 'jazzy')
    variable = 'FASTRTPS_DEFAULT_PROFILES_FILE' if old else 'FASTDDS_DEFAULT_PROFILES_FILE'
    os.environ[variable] = str(ROOT / 'config' / 'fastdds_local.xml')


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give the domain back and remove the nodes' logs."""
    domain, logs = config.stash[_isolation]
    domain.release()
    logs.cleanup()


def pytest_report_header() -> str:
    """Name the domain, so that a look from outside is possible while the tests run."""
    return f'ROS domain: {os.environ["ROS_DOMAIN_ID"]}'


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Count parity tests that passed, and where parity is required turn a skipped one into a failure."""
    outcome = yield
    report = outcome.get_result()
    if item.get_closest_marker('parity') is None:
        return
    if report.when == 'call' and report.passed:
        item.config.stash[_parity_passed] += 1
    if PARITY_REQUIRED and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = 'failed'
        report.longrepr = f'a parity test was skipped, but EVICT3R_REQUIRE_PARITY=1: {reason}'


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where parity is required, fail a run in which no parity test passed."""
    passed = session.config.stash[_parity_passed]
    if PARITY_REQUIRED and not passed and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many parity tests passed where that decides about the run."""
    if PARITY_REQUIRED:
        passed = config.stash[_parity_passed]
        terminalreporter.write_line(f'parity tests passed: {passed}, at least 1 required')


def data_folder(variable: str, default: str) -> Path | None:
    """Return the folder that a variable names, or else one of ../shared; None if there is no such folder."""
    folder = Path(os.environ.get(variable) or ROOT.parent / 'shared' / default).resolve()
    return folder if folder.is_dir() else None


@pytest.fixture
def one_thread():
    """For tensors of a few hundred numbers: waking a second thread costs more than it gives."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='session')
def parity_dir() -> Path:
    """Folder with numbers computed by the published implementation."""
    folder = data_folder('EVICT3R_PARITY_DIR', 'parity')
    if folder is None:
        pytest.skip('no parity fixtures: set EVICT3R_PARITY_DIR')
    return folder


@pytest.fixture(scope='session')
def euroc_dir() -> Path:
    """Folder with real images of a flying robot: frames.csv, frames/, camera.yaml, groundtruth_cam0.tum."""
    folder = data_folder('EVICT3R_EUROC_DIR', 'data/euroc_mh05')
    if folder is None:
        pytest.skip('no real images: set EVICT3R_EUROC_DIR')
    return folder
