# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r plan`: memory of a stream by part, the largest cache that fits a device, and a board's estimated time."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

from evict3r_ros.cli.options.cache import add_cache_options, cache_config
from evict3r_ros.cli.options.network import add_weights_bits
from evict3r_ros.cli.options.profile import ProfileAction
from evict3r_ros.network.precision import DTYPES

if TYPE_CHECKING:
    from evict3r_ros.stream.frame_time import Estimate
    from evict3r_ros.stream.planning import Plan


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'plan',
        help='show the memory of a stream, and the largest cache that fits a device',
        description='Shows the memory of a stream by part, without allocating it, and for the profile of a board an '
        'estimate of the time of a frame. Exits with 2 and the reason for invalid settings, and if the plan does not '
        'fit --memory-gb.',
    )
    parser.add_argument(
        '--profile',
        action=ProfileAction,
        metavar='NAME',
        help='settings of a profile of config/, such as orin_nano_8gb, or of a file of parameters; options behind it '
        'override them',
    )
    parser.add_argument('--preset', default='tiny', help='size of the network (default: %(default)s)')
    parser.add_argument('--height', type=int, metavar='PX', help="height of the network's images, a multiple of 14")
    parser.add_argument('--width', type=int, metavar='PX', help="width of these images (default: the preset's, square)")
    parser.add_argument(
        '--dtype',
        default='bfloat16',
        choices=DTYPES,
        help='precision of weights and activations (default: %(default)s)',
    )
    add_weights_bits(parser)
    parser.add_argument('--memory-gb', type=float, metavar='GIB', help='memory of the device in GiB')
    parser.add_argument('--cpu', action='store_true', help='plan for a CPU: no CUDA runtime')
    parser.add_argument(
        '--mapping',
        default='off',
        choices=('off', 'odometry'),
        help="'odometry': two streams that relieve each other (default: %(default)s)",
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    add_cache_options(parser, tokens=8192)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the plan. Raises UserError for an invalid one, and for one that does not fit."""
    from evict3r_ros.errors import UserError
    from evict3r_ros.mapping import planning as both
    from evict3r_ros.network import PRESETS
    from evict3r_ros.stream import planning

    size = None
    if args.memory_gb is not None and not 0.0 < args.memory_gb < math.inf:
        raise UserError(f'--memory-gb {args.memory_gb} must be a positive number')
    if (args.height is not None or args.width is not None) and args.preset in PRESETS:
        width = args.width if args.width is not None else PRESETS[args.preset].image_width
        size = (args.height if args.height is not None else width, width)
    planned = planning.plan(
        args.preset, cache_config(args), size, args.dtype, cuda=not args.cpu, weights_bits=args.weights_bits
    )
    estimated = _estimate(args, planned)
    memory = int(args.memory_gb * 2**30) if args.memory_gb is not None else None
    segmented = args.mapping == 'odometry'
    fitting = both.largest_tokens_of_both if segmented else planning.largest_tokens
    largest = fitting(planned, memory) if memory is not None else None
    rows = both.rows_of_both(planned) if segmented else planned.rows()
    if args.json:
        parts = {what.strip().replace(' ', '_'): size for what, size, _ in rows}
        print(
            json.dumps(
                {
                    'bytes': parts,
                    'tokens_per_layer': planned.config.tokens,
                    'frame_tokens': planned.frame_tokens,
                    'largest_tokens_per_layer': largest,
                    'policy': planned.config.policy,
                    'policy_reason': planned.policy_reason,
                    'weights_bits': planned.weights_bits,
                    **({'estimate': estimated.as_dict()} if estimated is not None else {}),
                }
            )
        )
    else:
        print(planning.table(rows))
        if largest is not None:
            print(f'largest cache in {args.memory_gb:g} GiB: {largest} tokens per layer')
        if estimated is not None:
            print(estimated.lines())
    if memory is not None:
        (both.refuse_unless_both_fit if segmented else planning.refuse_unless_fits)(planned, memory)
    return 0


def _estimate(args: argparse.Namespace, planned: Plan) -> Estimate | None:
    """Return the estimate for the board of the profile, for images of three quarters of the width or of --height."""
    from evict3r_ros.network.presets import PATCH
    from evict3r_ros.stream import frame_time

    board = frame_time.BOARDS.get(args.profile)
    if board is None or args.cpu:
        return None
    width = planned.size[1]
    height = args.height if args.height is not None else max(1, round(0.75 * width / PATCH)) * PATCH
    return frame_time.estimate(planned, board, (height, width))
