# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r view`: a 3-D picture of what a node answers, live or from a bag, for whoever has no rviz."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from evict3r_ros.cli.options.node_parameters import NODE
from evict3r_ros.cli.options.numbers import count, positive


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'view',
        help='show the answers in 3-D, live or from a bag',
        description="Shows clouds, path, image and depth in rerun's viewer (pip install 'evict3r_ros[view]'), of a running "
        'node or of a bag that `evict3r replay`, `evict3r demo` or `ros2 bag record` wrote.',
    )
    parser.add_argument(
        'source',
        nargs='?',
        type=Path,
        metavar='BAG',
        help='bag of answers, or the folder of a demo (default: a running node)',
    )
    parser.add_argument('--node', default=NODE, metavar='NAME', help='whose answers (default: %(default)s)')
    parser.add_argument('--save', type=Path, metavar='FILE.rrd', help='write a file for the viewer')
    parser.add_argument(
        '--connect',
        metavar='URL',
        help='send to a viewer that runs, perhaps on another machine: rerun+http://HOST:9876/proxy',
    )
    parser.add_argument('--frames', type=count, metavar='N', help='end after so many clouds')
    parser.add_argument(
        '--points', type=count, default=50_000, metavar='N', help='most points shown of a cloud (default: %(default)s)'
    )
    parser.add_argument(
        '--history', type=positive, default=20.0, metavar='SECONDS', help='how long clouds stay (default: %(default)s)'
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show. Raises UserError for what cannot be shown or where; returns 130 after Ctrl-C."""
    from evict3r_ros.cli.view.run import show_bag, show_live

    return show_live(args) if args.source is None else show_bag(args)
