# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r replay`: a bag through the node, live over DDS or offline, and the answers as another bag."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from evict3r_ros.cli.options.node_parameters import NODE
from evict3r_ros.cli.options.numbers import count, positive


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'replay',
        help='answer a bag, live or offline, into another bag',
        description='Plays a ROS 2 bag (mcap or sqlite3) and writes what the node answers to another bag, which '
        'Foxglove and `ros2 bag` read. Needs no rosbag2.',
    )
    parser.add_argument('bag', type=Path, metavar='BAG', help='folder of a bag')
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        '--offline',
        action='store_true',
        help='each image is answered, straight from the bag and without DDS (the default)',
    )
    mode.add_argument(
        '--live',
        action='store_true',
        help='play in real time, with /clock, over DDS, into a node that is started for it',
    )
    parser.add_argument(
        '--out', type=Path, metavar='FOLDER', help='where the answers go (default: BAG_answer; none with --attach)'
    )
    parser.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap', help='of the answers (default: mcap)')

    input_ = parser.add_argument_group('what is played')
    input_.add_argument('--image', metavar='TOPIC', help='Image or CompressedImage (default: the only one of the bag)')
    input_.add_argument('--camera-info', metavar='TOPIC', help='(default: the one beside the image, if there is one)')
    input_.add_argument('--odom', metavar='TOPIC', help='odometry for -p scale.source:=odometry')
    input_.add_argument('--depth', metavar='TOPIC', help='depth image for -p scale.source:=depth')
    input_.add_argument('--start', type=_not_negative, default=0.0, metavar='SECONDS', help='after the beginning')
    input_.add_argument('--duration', type=positive, metavar='SECONDS', help='(default: all)')
    input_.add_argument('--frames', type=count, metavar='N', help='at most so many images (default: all)')

    live = parser.add_argument_group('with --live')
    live.add_argument('--rate', type=positive, metavar='R', help='times real time (default: 1)')
    live.add_argument(
        '--attach',
        nargs='?',
        const=NODE,
        metavar='NODE',
        help=f'start no node, but play to one that is running (default name: {NODE}) and to whoever else '
        'listens; remap its inputs to the topics of the bag',
    )
    live.add_argument('--loop', action='store_true', help='with --attach: begin again at the end, until Ctrl-C')

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


def _not_negative(text: str) -> float:
    number = float(text)
    if not 0 <= number < float('inf'):
        raise argparse.ArgumentTypeError(f'must be 0 or more, not {text}')
    return number


def run(args: argparse.Namespace) -> int:
    """Run it. Raises UserError for wrong input, and for a node that fails. Returns 130 after Ctrl-C."""
    from evict3r_ros.errors import UserError

    if not args.live:
        for option in ('rate', 'attach', 'loop'):
            if getattr(args, option):
                raise UserError(f'--{option} goes with --live: offline, images are answered one by one')
        # Not earlier, so that `evict3r --help` doesn't wait for torch and ROS.
        from evict3r_ros.cli.replay.offline import run_offline

        return run_offline(args)
    if args.loop and (args.attach is None or args.out is not None):
        raise UserError('--loop goes with --attach and without --out: a bag of answers has one beginning and one end')
    from evict3r_ros.cli.replay.live import run_live

    return run_live(args)
