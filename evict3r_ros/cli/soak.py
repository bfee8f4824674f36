# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r soak`: run the live node with a simulated camera for minutes, and check drops, latency and memory."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evict3r_ros.cli.options.network import add_device_options
from evict3r_ros.cli.options.node_parameters import NODE
from evict3r_ros.cli.output import print_summary
from evict3r_ros.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

IMAGES = 48
"""Different images, which are played forwards and backwards."""
_ACTIVATION_S = 300.0


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'soak',
        help='run the live node with a simulated camera for minutes: drops, latency, processor time, memory',
        description='Starts the node, publishes images of a synthetic room to it over DDS, and measures received and '
        "dropped images, latency from an image's stamp to its answers, the node's processor time, and growth of its "
        'memory. It uses a ROS domain of its own.',
    )
    parser.add_argument('--minutes', type=float, default=10.0, metavar='N', help='(default: %(default)s)')
    parser.add_argument('--plot', type=Path, metavar='PNG', help='file of the plot (default: none)')
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    camera = parser.add_argument_group('camera')
    camera.add_argument(
        '--rate', type=float, default=30.0, metavar='HZ', help='images per second (default: %(default)s)'
    )
    camera.add_argument(
        '--size', type=int, nargs=2, default=(480, 640), metavar=('H', 'W'), help='of an image (default: 480 640)'
    )
    camera.add_argument(
        '--transport',
        choices=('raw', 'compressed'),
        default='raw',
        help='Image, or CompressedImage with JPEG (default: %(default)s)',
    )
    node = parser.add_argument_group('node')
    node.add_argument(
        '--weights', default='random', metavar='FILE', help='as for the node (default: %(default)s: untrained)'
    )
    node.add_argument('--preset', help="size of the network (default: 'nano' for random weights, else that of them)")
    add_device_options(node)
    node.add_argument('--policy', help="eviction policy (default: the node's)")
    node.add_argument(
        '--tokens', type=int, default=1024, metavar='T', help='tokens a layer that are kept (default: %(default)s)'
    )
    node.add_argument(
        '--subscribe',
        choices=('all', 'odometry'),
        default='odometry',
        help="listen to all of the node's outputs, or to odometry and status (default: %(default)s)",
    )
    node.add_argument('--no-record', action='store_true', help='keep no trajectory and no cloud for ~/save')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run it; return 1 if the node's counts are inconsistent. Raises UserError if the node ends or answers nothing."""
    if not (args.minutes * 60.0 >= 1.0 and 0.1 <= args.rate <= 1000.0):
        raise UserError('--minutes must be at least a second and --rate between 0.1 and 1000')
    if not all(28 <= side <= 4096 for side in args.size):
        raise UserError('--size must be between 28 and 4096 pixels')
    preset = args.preset or ('nano' if args.weights == 'random' else 'auto')
    from tqdm import tqdm

    from evict3r_ros.ros.tools.middleware import stay_on_this_machine

    domain = stay_on_this_machine()
    from evict3r_ros.ros.tools import soak
    from evict3r_ros.ros.tools.node_process import NodeProcess
    from evict3r_ros.ros.tools.session import Session

    camera = soak.SimulatedCamera(_images(tuple(args.size)), args.rate, args.transport == 'compressed')
    seconds = 60.0 * args.minutes
    with tempfile.TemporaryDirectory(prefix='evict3r-soak-') as folder:
        began = time.monotonic()
        with (
            Session('evict3r_soak', domain) as session,
            NodeProcess(_node_arguments(args, preset, folder), Path(folder) / 'node.log') as process,
        ):
            process.wait_until_active(session.node, NODE, _ACTIVATION_S)
            active_s = time.monotonic() - began
            with tqdm(total=round(seconds * args.rate), desc='soak', unit='image', disable=None) as bar:
                result = soak.run(
                    session, process, NODE, camera, seconds, args.subscribe == 'all', active_s, bar.update
                )
    summary = {'device': result.status.device, 'weights': result.status.weights, 'preset': result.status.preset}
    summary |= result.summary()
    print_summary(summary, args.json)
    if not summary['answers_heard']:
        raise UserError(f'none of {summary["images_published"]} images was answered: {result.status.last_error}')
    if args.plot is not None:
        height, width = args.size
        result.plot(args.plot, f'{summary["preset"]}, {width} x {height} at {args.rate:g} Hz, {summary["device"]}')
    return 0 if summary['counts_agree'] else 1


def _images(size: tuple[int, int]) -> Sequence[np.ndarray]:
    """Return images (height, width, 3) uint8 RGB of a loop through a synthetic room."""
    import cv2
    from tqdm import tqdm

    from evict3r_ros.synthetic.clips import WorldStream

    height, width = size
    # Rendered at half the size, which takes a sixth of the time: their content does not matter here.
    frames = WorldStream(0, IMAGES, size=(height // 2, width // 2), effects=False, loop=True)
    return [
        cv2.resize(frame.image, (width, height)) for frame in tqdm(frames, desc='images', total=IMAGES, disable=None)
    ]


def _node_arguments(args: argparse.Namespace, preset: str, folder: str) -> list[str]:
    parameters = {
        'weights': args.weights,
        'preset': preset,
        'device': args.device,
        'dtype': args.dtype,
        'cache.tokens': args.tokens,
        'image_transport': args.transport,
        'publish_tf': True,
        'startup_timeout': 0.0,
        'save.folder': '' if args.no_record else folder,
    }
    if args.policy is not None:
        parameters['cache.policy'] = args.policy
    words = [word for name, value in parameters.items() for word in ('-p', f'{name}:={json.dumps(value)}')]
    return ['--localhost', '--ros-args', *words]
