# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r demo`: images into a live node over DDS, and its answers as bag, trajectory, cloud and picture."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from evict3r_ros.cache.config import CacheConfig
from evict3r_ros.cli.options.numbers import count, positive

IMAGES_VARIABLE = 'EVICT3R_DEMO_IMAGES'
_FRAMES = 100


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'demo',
        help='play images into a live node and save what it answers',
        description='Plays a bag into a live node on this machine and saves its answers: a bag, a trajectory, a'
        ' coloured cloud, a picture of it with path and cameras, and a contact sheet.',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('out'),
        metavar='FOLDER',
        help='where to (default: %(default)s); replaced if an earlier demo made it',
    )
    parser.add_argument(
        '--images',
        type=Path,
        metavar='FOLDER',
        help='real images: a folder with frames.csv (stamp_ns,file) and camera.yaml'
        f' (default: ${IMAGES_VARIABLE}, or else a loop through synthetic rooms made on the spot)',
    )
    parser.add_argument(
        '--frames',
        type=count,
        default=_FRAMES,
        metavar='N',
        help='how many images, evenly spread over the folder (default: %(default)s)',
    )
    parser.add_argument(
        '--weights',
        default='tiny',
        help="what the node's network knows: this package's own, 'tiny' (default), 'official', a file, or"
        " 'random', which shows the plumbing alone",
    )
    parser.add_argument(
        '--policy', default=CacheConfig.policy, help='which tokens leave the full cache (default: %(default)s)'
    )
    parser.add_argument(
        '--rate',
        type=positive,
        metavar='R',
        help='play at R times real time and let the node drop what it cannot follow'
        ' (default: each image waits until the one before is answered)',
    )
    parser.add_argument(
        '--timeout',
        type=positive,
        default=30.0,
        metavar='SECONDS',
        help='how long an answer may take (default: %(default)s)',
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo. Raises UserError for wrong input and for a node that fails."""
    # Not earlier, so that `evict3r --help` doesn't wait for torch and ROS.
    from evict3r_ros.cli.demo.run import run_demo

    images = args.images or (Path(os.environ[IMAGES_VARIABLE]) if os.environ.get(IMAGES_VARIABLE) else None)
    run_demo(args.out, images, args.frames, args.weights, args.policy, args.rate, args.timeout)
    return 0
