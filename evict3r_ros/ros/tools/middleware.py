# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the middleware is told before rclpy is imported: the ROS domain, Fast DDS's profile, and where that lies."""

from __future__ import annotations

import os
import random
import socket
import sys
from pathlib import Path

from evict3r_ros.errors import UserError

PROFILE = 'FASTDDS_DEFAULT_PROFILES_FILE'
PROFILE_BEFORE_KILTED = 'FASTRTPS_DEFAULT_PROFILES_FILE'  # Kilted still reads it, but warns
# Above these, DDS's ports fall among those that the system hands out to anybody.
_DOMAINS = range(1, 102)


def free_domain() -> int:
    """A ROS domain in which no other participant of this machine lives, as far as its ports tell."""
    for domain in random.sample(_DOMAINS, len(_DOMAINS)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                # The port for discovery of a domain's first participant (DDS-RTPS 9.6.1.1).
                probe.bind(('127.0.0.1', 7400 + 250 * domain + 10))
            except OSError:
                continue
            return domain
    raise UserError('all ROS domains from 1 to 101 are in use on this machine')


def stay_on_this_machine() -> int:
    """Choose a ROS domain for this process and the node that it starts, which nobody else hears; returns it."""
    domain = free_domain()
    os.environ.update(ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST')
    if os.environ.get('ROS_DISTRO') == 'humble':
        os.environ['ROS_LOCALHOST_ONLY'] = '1'  # what Humble has instead of a discovery range
    choose_dds_profile(localhost=True)
    return domain


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
