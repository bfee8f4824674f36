# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Make `.venv`, the environment that everything in this tree runs in: what `make setup` calls.

`--distro jazzy` makes `.venv-jazzy`, the same with another distribution of ROS.

Three steps: the environment itself, the pinned packages with this tree (editable), the generated messages. Each
leaves a stamp in `.venv/.setup`, a hash of all that went into it, so that a second run does nothing. A stamp is
deleted before its step begins and written after it ended: what was interrupted is never taken for good, and an
environment whose packages were left half-installed is made anew, because pip would trust them.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEWEST = 'kilted'
DISTROS = (NEWEST, 'jazzy')

# What a sourced ROS or another environment leaves behind would be found before the packages of this one.
FOREIGN = (
    'AMENT_PREFIX_PATH',
    'CMAKE_PREFIX_PATH',
    'COLCON_PREFIX_PATH',
    'LD_LIBRARY_PATH',
    'PYTHONHOME',
    'PYTHONPATH',
    'VIRTUAL_ENV',
    '_ROS_WHEELS_BOOTSTRAP_COMPLETE',
)


class SetupError(RuntimeError):
    """A step failed; the text says which and why."""


def key(files: Iterable[Path], *words: str) -> str:
    """Return a hash of the files' names and contents and of some words."""
    digest = hashlib.sha256()
    for word in words:
        digest.update(word.encode() + b'\0')
    for path in files:
        content = path.read_bytes()
        digest.update(f'{path.relative_to(ROOT)} {len(content)}\0'.encode() + content)
    return digest.hexdigest()


def environment() -> dict[str, str]:
    """Return the environment variables for the steps: the caller's, less what points at other packages."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return {**kept, 'PIP_DISABLE_PIP_VERSION_CHECK': '1', 'PIP_USER': '0', 'PYTHONNOUSERSITE': '1'}


class Setup:
    """The environment of one distribution of ROS, and the steps that make it."""

    def __init__(self, distro: str = NEWEST) -> None:
        suffix = '' if distro == NEWEST else f'-{distro}'
        self.venv = ROOT / f'.venv{suffix}'
        self.stamps = self.venv / '.setup'
        self.log = self.stamps / 'log.txt'
        self.python = self.venv / 'bin' / 'python'
        self.constraints = [ROOT / 'tools' / 'constraints' / f'{name}.txt' for name in ('common', distro)]
        self.builder = ROOT / 'tools' / 'build_interfaces.py'
        self.extras = (
            f'ros{suffix},interfaces{suffix},colcon{suffix}',
            'plots,view,evaluation,mapping,sky,test,lint,docs',
        )
        self.steps = {
            'environment': (f'making {self.venv.name}', self.make_environment),
            'packages': ('installing packages (a minute; more where torch comes with CUDA)', self.install_packages),
            'interfaces': ('generating the messages', self.install_interfaces),
        }

    def keys(self) -> dict[str, str]:
        """Return what each step's stamp has to say for the step to count as done."""
        # The path is a part: scripts name their interpreter by it, so an environment does not survive a move.
        interpreter = (
            os.path.realpath(sys.executable),
            f'{sys.version_info.major}.{sys.version_info.minor}',
            str(self.venv),
        )
        messages = sorted(ROOT.glob('msg/*.msg')) + sorted(ROOT.glob('tools/*/msg/*.msg'))
        version = ROOT / 'evict3r_ros' / '__init__.py'
        this = ROOT / 'tools' / 'setup_environment.py'
        return {
            'environment': key([], *interpreter),
            'packages': key([ROOT / 'setup.py', *self.constraints, version, this], *interpreter),
            'interfaces': key([self.builder, *self.constraints, *messages], *interpreter),
        }

    def stamp(self, step: str) -> str:
        """Return what the stamp of a step says, '' without one."""
        path = self.stamps / step
        return path.read_text() if path.is_file() else ''

    def write_stamp(self, step: str, text: str) -> None:
        """Write a stamp, whole or not at all."""
        fresh = self.stamps / f'{step}.new'
        fresh.write_text(text)
        os.replace(fresh, self.stamps / step)

    def call(self, command: list[str], what: str) -> None:
        """Run a command with its output in the log, on a terminal its latest line shown as well."""
        width = shutil.get_terminal_size().columns - 5
        with self.log.open('a') as log:
            # close_fds: the child holds the lock too, so that none begins beside a pip whose parent was killed
            child = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(),
                close_fds=False,
                text=True,
                errors='replace',
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            with child:
                lines: list[str] = []
                for line in child.stdout or ():
                    log.write(line)
                    lines = [*lines[-19:], line]
                    if sys.stdout.isatty():
                        print(f'\r\033[K    {line.strip()[:width]}', end='', flush=True)
        if sys.stdout.isatty():
            print('\r\033[K', end='', flush=True)
        if child.returncode:
            raise SetupError(f'{what} failed (all of it: {self.log}):\n{"".join(lines)}')

    def make_environment(self, wanted: dict[str, str]) -> None:
        """Make an empty environment, in place of one that this tool made before."""
        if self.venv.is_symlink() or (self.venv.exists() and not self.stamps.is_dir()):
            raise SetupError(f'{self.venv} exists, but was not made by make setup: move it away, or delete it')
        if self.venv.exists():
            shutil.rmtree(self.venv)
        self.stamps.mkdir(parents=True)
        self.call([sys.executable, '-m', 'venv', str(self.venv)], 'making the environment')
        self.write_stamp('environment', wanted['environment'])

    def install_packages(self, wanted: dict[str, str]) -> None:
        """Install the pinned packages, and this tree as an editable package."""
        (self.stamps / 'packages').unlink(missing_ok=True)
        # pip may replace packages whose exports the next step repaired
        (self.stamps / 'interfaces').unlink(missing_ok=True)
        pins = [word for path in self.constraints for word in ('--constraint', str(path))]
        install = [str(self.python), '-m', 'pip', 'install', '--progress-bar', 'off', *pins]
        self.call([*install, 'setuptools'], 'installing setuptools')
        # Without isolation pip builds with the pinned setuptools of this environment, not with the newest one.
        editable = ['--no-build-isolation', '--use-pep517', '--editable', f'.[{",".join(self.extras)}]']
        self.call([*install, *editable], 'installing packages')
        self.write_stamp('packages', wanted['packages'])

    def install_interfaces(self, wanted: dict[str, str]) -> None:
        """Generate the messages and install them."""
        (self.stamps / 'interfaces').unlink(missing_ok=True)
        self.call([str(self.python), str(self.builder)], 'generating the messages')
        self.write_stamp('interfaces', wanted['interfaces'])

    def due(self, wanted: dict[str, str], stamps: dict[str, str]) -> list[str]:
        """Return the steps to do: the first that is not as wanted and all after it, which build on it.

        No stamp for the packages means that pip may have been interrupted among them: all is made anew then.
        """
        if not stamps['packages']:
            return list(self.steps)
        steps = list(self.steps)
        while steps and stamps[steps[0]] == wanted[steps[0]]:
            steps.pop(0)
        return steps

    def complete(self) -> bool:
        """Do the steps that are due; return whether there were any."""
        wanted = self.keys()
        steps = self.due(wanted, {step: self.stamp(step) for step in self.steps})
        for number, name in enumerate(steps, 1):
            title, step = self.steps[name]
            print(f'[{number}/{len(steps)}] {title}', flush=True)
            began = time.monotonic()
            step(wanted)
            print(f'      done in {time.monotonic() - began:.0f} s', flush=True)
        return bool(steps)


def main() -> int:
    """Bring the environment up to date; return the exit code."""
    if sys.prefix != sys.base_prefix:
        # An activated environment, perhaps the very one that has to be made anew.
        os.execve(sys._base_executable, [sys._base_executable, *sys.argv], environment())
    parser = argparse.ArgumentParser(description='Make the environment that everything in this tree runs in.')
    parser.add_argument(
        '--distro', choices=DISTROS, default=NEWEST, help='distribution of ROS 2 (default: %(default)s)'
    )
    setup = Setup(parser.parse_args().distro)
    with (ROOT / 'setup.py').open() as lock:
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print('waiting for another make setup', flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            busy = setup.complete()
        except (SetupError, OSError) as error:
            print(f'evict3r setup: {error}', file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print('\nevict3r setup: interrupted; the next make setup finishes it', file=sys.stderr)
            return 130
    print(f'{setup.venv.name} is ready' if busy else f'{setup.venv.name} is up to date')
    return 0


if __name__ == '__main__':
    sys.exit(main())
