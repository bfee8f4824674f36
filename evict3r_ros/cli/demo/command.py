# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r demo`: play images to a live node over DDS, and save its outputs as bag, trajectory, cloud and pictures."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from evict3r_ros.cache.config import CacheConfig
from evict3r_ros.cli.options.cache import POLICY_HELP
from evict3r_ros.cli.options.values import count, positive

IMAGES_VARIABLE = 'EVICT3R_DEMO_IMAGES'
_FRAMES = 100


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'demo',
        help='play images to a live node and save its outputs',
        description='Plays a bag to a live node on this machine and saves its outputs: a bag, a trajectory, a'
        ' coloured cloud, a picture of it with path and cameras, and a contact sheet.',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('out'),
        metavar='FOLDER',
        help='output folder (default: %(default)s); replaced if an earlier demo made it',
    )
    parser.add_argument(
        '--images',
        type=Path,
        metavar='FOLDER',
        help='real images: a folder with frames.csv (stamp_ns,file) and camera.yaml'
        f' (default: ${IMAGES_VARIABLE}, or a loop through synthetic rooms, rendered on the spot)',
    )
    parser.add_argument(
        '--frames',
        type=count,
        default=_FRAMES,
        metavar='N',
        help='number of images, evenly spread over the folder (default: %(default)s)',
    )
    parser.add_argument(
        '--weights',
        default='tiny',
        help="weights of the network: this package's own, 'tiny' (default), 'official', a file, or 'random' for"
        ' untrained ones',
    )
    parser.add_argument('--policy', default=CacheConfig.policy, help=POLICY_HELP)
    parser.add_argument(
        '--rate',
        type=positive,
        metavar='R',
        help='play at R times real time and let the node drop images'
        ' (default: each image waits for the outputs of the one before)',
    )
    parser.add_argument(
        '--timeout',
        type=positive,
        default=30.0,
        metavar='SECONDS',
        help='most time for the outputs of an image (default: %(default)s)',
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo. Raises UserError for invalid input and if the node fails."""
    # Imported late, so that `evict3r --help` does not import torch and ROS.
    from evict3r_ros.cli.demo.run import run_demo

    images = args.images or (Path(os.environ[IMAGES_VARIABLE]) if os.environ.get(IMAGES_VARIABLE) else None)
    run_demo(args.out, images, args.frames, args.weights, args.policy, args.rate, args.timeout)
    return 0
