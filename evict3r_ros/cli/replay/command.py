# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r replay`: run the node on a bag, live over DDS or offline, and record its outputs as another bag."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from evict3r_ros.cli.options.node_parameters import NODE
from evict3r_ros.cli.options.values import count, not_negative, positive


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'replay',
        help='run the node on a bag, live or offline',
        description='Plays a ROS 2 bag (mcap or sqlite3) to the node and records its outputs in another bag for '
        'Foxglove and `ros2 bag`. Needs no rosbag2.',
    )
    parser.add_argument('bag', type=Path, metavar='BAG', help='folder of a bag')
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        '--offline', action='store_true', help='process every image, directly from the bag and without DDS (default)'
    )
    mode.add_argument(
        '--live',
        action='store_true',
        help='play in real time, with /clock, over DDS, to a node that is started for this',
    )
    parser.add_argument(
        '--out', type=Path, metavar='FOLDER', help='bag of the outputs (default: BAG_answer; none with --attach)'
    )
    parser.add_argument(
        '--storage', choices=('mcap', 'sqlite3'), default='mcap', help='storage of the outputs (default: mcap)'
    )

    input_ = parser.add_argument_group('input')
    input_.add_argument('--image', metavar='TOPIC', help='Image or CompressedImage (default: the only one of the bag)')
    input_.add_argument('--camera-info', metavar='TOPIC', help='(default: the one of the image, if there is one)')
    input_.add_argument('--odom', metavar='TOPIC', help='odometry for -p scale.source:=odometry')
    input_.add_argument('--depth', metavar='TOPIC', help='depth image for -p scale.source:=depth')
    input_.add_argument('--start', type=not_negative, default=0.0, metavar='SECONDS', help='skip this much of the bag')
    input_.add_argument('--duration', type=positive, metavar='SECONDS', help='(default: all)')
    input_.add_argument('--frames', type=count, metavar='N', help='at most N images (default: all)')

    live = parser.add_argument_group('with --live')
    live.add_argument('--rate', type=positive, metavar='R', help='times real time (default: 1)')
    live.add_argument(
        '--attach',
        nargs='?',
        const=NODE,
        metavar='NODE',
        help=f'play to a running node (default name: {NODE}) instead of starting one; '
        'remap its inputs to the topics of the bag',
    )
    live.add_argument('--loop', action='store_true', help='with --attach: repeat until Ctrl-C')

    node = parser.add_argument_group('the node')
    node.add_argument(
        '-p',
        '--param',
        action='append',
        default=[],
        metavar='NAME:=VALUE',
        help='parameter, as after --ros-args; may be repeated',
    )
    node.add_argument('--params-file', type=Path, metavar='YAML', help='parameters, such as config/*.yaml')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run it; return 130 after Ctrl-C. Raises UserError for invalid input and if the node fails."""
    from evict3r_ros.errors import UserError

    if not args.live:
        for option in ('rate', 'attach', 'loop'):
            if getattr(args, option):
                raise UserError(f'--{option} needs --live: offline, images are processed one by one')
        # Imported late, so that `evict3r --help` does not import torch and ROS.
        from evict3r_ros.cli.replay.offline import run_offline

        return run_offline(args)
    if args.loop and (args.attach is None or args.out is not None):
        raise UserError('--loop needs --attach and no --out: outputs of a loop cannot be recorded')
    from evict3r_ros.cli.replay.live import run_live

    return run_live(args)
