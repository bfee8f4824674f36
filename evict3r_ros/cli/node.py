# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r node`: the live node, which activates itself."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from evict3r_ros.ros.tools.middleware import choose_dds_profile


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'node',
        help='run the ROS 2 node',
        description='Runs the lifecycle node evict3r until SIGINT or SIGTERM; it '
        'configures and activates itself. Weights and all settings are parameters: '
        'evict3r node --ros-args -p weights:=official',
    )
    parser.add_argument(
        '--no-autostart',
        action='store_true',
        help='stay unconfigured until nav2_lifecycle_manager or ros2 lifecycle changes the state',
    )
    parser.add_argument('--localhost', action='store_true', help='communicate on this machine only, over shared memory')
    parser.add_argument(
        '--ros-args',
        nargs=argparse.REMAINDER,
        default=[],
        help='the rest of the line goes to ROS: -p, --params-file, -r, --log-level …',
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> NoReturn:
    """Run the node and end the process. Raises UserError for invalid parameters."""
    choose_dds_profile(localhost=args.localhost)
    from evict3r_ros.ros.node.process import spin

    spin(['--ros-args', *args.ros_args], autostart=not args.no_autostart)
