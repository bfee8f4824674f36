# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the middleware is told before rclpy is imported: the ROS domain, Fast DDS's profile, and where that lies."""

from __future__ import annotations

import atexit
import fcntl
import os
import random
import socket
import sys
import tempfile
from pathlib import Path
from typing import TextIO

from evict3r_ros.errors import UserError

PROFILE = 'FASTDDS_DEFAULT_PROFILES_FILE'
PROFILE_BEFORE_KILTED = 'FASTRTPS_DEFAULT_PROFILES_FILE'  # Kilted still reads it, but warns
# Above these, DDS's ports fall among those that the system hands out to anybody.
_DOMAINS = range(1, 102)


class Domain:
    """A ROS domain that this process has to itself on this machine, until it is released (context manager).

    A lock on a file keeps other programs of this package out, and a probe of the port those domains in which any other
    participant lives. Raises UserError if all domains are in use.
    """

    def __init__(self) -> None:
        for number in random.sample(_DOMAINS, len(_DOMAINS)):
            lock = _lock(number)
            if lock is None:
                continue
            if _has_participant(number):
                _unlock(lock)
                continue
            self.number, self._lock = number, lock
            return
        raise UserError('all ROS domains from 1 to 101 are in use on this machine')

    def release(self) -> None:
        """Leave the domain to others."""
        if not self._lock.closed:
            _unlock(self._lock)

    def __enter__(self) -> Domain:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _lock(number: int) -> TextIO | None:
    """Return the locked file of a domain, or None if another process has it."""
    path = Path(tempfile.gettempdir()) / f'evict3r_ros_domain_{number}.lock'
    try:
        lock = path.open('a')
    except PermissionError:  # another user's
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    if os.fstat(lock.fileno()).st_nlink:
        return lock
    lock.close()  # its last owner removed it between our two looks
    return None


def _unlock(lock: TextIO) -> None:
    Path(lock.name).unlink(missing_ok=True)
    lock.close()


def _has_participant(number: int) -> bool:
    """Return whether the port for discovery of a domain's first participant is taken (DDS-RTPS 9.6.1.1)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(('127.0.0.1', 7400 + 250 * number + 10))
        except OSError:
            return True
    return False


def stay_on_this_machine() -> int:
    """Choose a ROS domain for this process and the nodes that it starts, which nobody else hears; return it.

    It stays theirs until this process ends.
    """
    domain = Domain()
    atexit.register(domain.release)
    isolate(domain.number)
    choose_dds_profile(localhost=True)
    return domain.number


def isolate(domain: int) -> None:
    """Let this process, and those that it starts, hear nobody outside this machine and this ROS domain."""
    os.environ['ROS_DOMAIN_ID'] = str(domain)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    if os.environ.get('ROS_DISTRO') == 'humble':
        os.environ['ROS_LOCALHOST_ONLY'] = '1'  # what Humble has instead of a discovery range


def choose_dds_profile(localhost: bool) -> None:
    """Let Fast DDS use our profile, unless the user has one or uses another middleware; before rclpy is imported.

    With Fast DDS's defaults no best-effort image of a camera's size arrives: its shared-memory segment is too small.
    """
    if localhost:
        os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    if PROFILE in os.environ or PROFILE_BEFORE_KILTED in os.environ:
        return
    if 'fastrtps' not in os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp'):
        return
    variable = PROFILE_BEFORE_KILTED if os.environ.get('ROS_DISTRO') in ('humble', 'jazzy') else PROFILE
    os.environ[variable] = str(shared_file(f'config/fastdds_{"local" if localhost else "robot"}.xml'))


def shared_file(name: str) -> Path:
    """Return the path of a file such as 'config/stream.yaml'; raises FileNotFoundError naming where it was sought.

    Sought in the source tree (pip's editable install), in each prefix that ROS knows of, and in Python's own prefix.
    """
    prefixes = [*filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)), sys.prefix]
    roots = [Path(__file__).parents[3], *(Path(prefix) / 'share' / 'evict3r_ros' for prefix in prefixes)]
    for root in roots:
        if (root / name).is_file():
            return root / name
    raise FileNotFoundError(f'{name} is in none of {", ".join(str(root) for root in roots)}')
