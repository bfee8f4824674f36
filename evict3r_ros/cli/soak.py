# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r soak`: run the live node with a simulated camera for minutes, and check drops, latency and memory."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from evict3r_ros.cli.output import print_summary

IMAGES = 48
"""Different images, which are played forwards and backwards."""
SIZE = (480, 640)


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'soak',
        help='run the live node with a simulated camera for minutes: drops, latency, memory',
        description='Starts the node on the CPU with untrained weights, publishes 640 x 480 images of a synthetic room '
        "over DDS, and measures received and dropped images, latency, and growth of the node's memory. It "
        'uses a ROS domain of its own.',
    )
    parser.add_argument('--minutes', type=float, default=10.0, metavar='N', help='(default: %(default)s)')
    parser.add_argument(
        '--rate', type=float, default=30.0, metavar='HZ', help='images per second (default: %(default)s)'
    )
    parser.add_argument('--preset', default='nano', help='size of the network (default: %(default)s)')
    parser.add_argument('--plot', type=Path, metavar='PNG', help='file of the plot (default: none)')
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run it; return 1 if the node's counts are inconsistent. Raises UserError if the node ends."""
    from evict3r_ros.errors import UserError

    if not (args.minutes * 60.0 >= 1.0 and 0.1 <= args.rate <= 1000.0):
        raise UserError('--minutes must be at least a second and --rate between 0.1 and 1000')
    import cv2
    from tqdm import tqdm

    from evict3r_ros.ros.tools.middleware import stay_on_this_machine

    domain = stay_on_this_machine()
    from evict3r_ros.ros.tools import soak
    from evict3r_ros.ros.tools.node_process import NodeProcess
    from evict3r_ros.ros.tools.session import Session
    from evict3r_ros.synthetic.clips import WorldStream

    # Rendered at half the size, which takes a sixth of the time: their content does not matter here.
    frames = WorldStream(0, IMAGES, size=(SIZE[0] // 2, SIZE[1] // 2), effects=False, loop=True)
    images = [cv2.resize(frame.image, SIZE[::-1]) for frame in tqdm(frames, desc='images', total=IMAGES, disable=None)]
    with tempfile.TemporaryDirectory(prefix='evict3r-soak-') as folder:
        parameters = {
            'weights': 'random',
            'preset': args.preset,
            'device': 'cpu',
            'cache.tokens': 1024,
            'publish_tf': True,
            'startup_timeout': 0.0,
            'save.folder': folder,
        }
        words = [word for name, value in parameters.items() for word in ('-p', f'{name}:={json.dumps(value)}')]
        with (
            Session('evict3r_soak', domain) as session,
            NodeProcess(['--localhost', '--ros-args', *words], Path(folder) / 'node.log') as process,
        ):
            process.wait_until_active(session.node, '/evict3r', 120.0)
            with tqdm(total=round(60.0 * args.minutes * args.rate), desc='soak', unit='image', disable=None) as bar:
                result = soak.run(session, process, images, args.rate, 60.0 * args.minutes, bar.update)
    summary = result.summary()
    print_summary(summary, args.json)
    if args.plot is not None:
        soak.plot(result, args.plot, f'{args.preset}, {SIZE[1]} x {SIZE[0]} at {args.rate:g} Hz, CPU')
    return 0 if summary['counts_agree'] else 1
