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

_isolation = pytest.StashKey[tuple[Domain, tempfile.TemporaryDirectory]]()


def pytest_configure(config: pytest.Config) -> None:
    """Cut the tests, and all they start, off from other ROS systems, before anything of ROS is imported."""
    domain = Domain()
    logs = tempfile.TemporaryDirectory(prefix='evict3r_ros_log_')
    config.stash[_isolation] = domain, logs
    if not is_worker(config):
        config.pluginmanager.register(ParityCount())
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
    """Where parity is required, turn a skipped test of it into a failure."""
    outcome = yield
    report = outcome.get_result()
    if PARITY_REQUIRED and report.skipped and item.get_closest_marker('parity') is not None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = 'failed'
        report.longrepr = f'a parity test was skipped, but EVICT3R_REQUIRE_PARITY=1: {reason}'


def is_worker(config: pytest.Config) -> bool:
    """Return whether this process runs a share of the tests for another one, which hears of all of them."""
    return hasattr(config, 'workerinput')


class ParityCount:
    """Parity tests that passed, in this process and its workers; where parity is required, none is a failure."""

    def __init__(self) -> None:
        self.passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count one."""
        self.passed += 'parity' in report.keywords and report.when == 'call' and report.passed

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run in which no parity test passed."""
        if PARITY_REQUIRED and not self.passed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how many there were where that decides about the run."""
        if PARITY_REQUIRED:
            terminalreporter.write_line(f'parity tests passed: {self.passed}, at least 1 required')


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
