# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r node`: the live node, which activates itself."""

from __future__ import annotations

import argparse
import os

from evict3r_ros import resources

PROFILE = 'FASTDDS_DEFAULT_PROFILES_FILE'
PROFILE_BEFORE_KILTED = 'FASTRTPS_DEFAULT_PROFILES_FILE'  # Kilted still reads it, but warns


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'node',
        help='run the ROS 2 node',
        description='Run the lifecycle node evict3r until SIGINT or SIGTERM; it '
        'configures and activates itself. Weights and everything else are parameters: '
        'evict3r node --ros-args -p weights:=official',
    )
    parser.add_argument(
        '--no-autostart',
        action='store_true',
        help='stay unconfigured until somebody changes the state, such as nav2_lifecycle_manager or ros2 lifecycle',
    )
    parser.add_argument('--localhost', action='store_true', help='talk to this machine only, over shared memory')
    parser.add_argument(
        '--ros-args',
        nargs=argparse.REMAINDER,
        default=[],
        help='the rest of the line goes to ROS: -p, --params-file, -r, --log-level …',
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the node; ends the process, or raises UserError."""
    choose_dds_profile(localhost=args.localhost)
    from evict3r_ros.ros.process import spin

    spin(['--ros-args', *args.ros_args], autostart=not args.no_autostart)


def stay_on_this_machine() -> int:
    """Choose a ROS domain for this process and the node that it starts, which nobody else hears; returns it."""
    from evict3r_ros.ros.session import free_domain

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
    os.environ[variable] = str(resources.find(f'config/fastdds_{"local" if localhost else "robot"}.xml'))
