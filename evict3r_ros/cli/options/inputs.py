# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Options for input images that several commands share."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from evict3r_ros.cli.options.values import seconds
from evict3r_ros.errors import UserError

if TYPE_CHECKING:
    from evict3r_ros.io.frames import Selection


def add_input_options(parser: argparse.ArgumentParser, frames: int | None = None) -> None:
    """Add the input, and the choice of its frames. frames: default of --frames."""
    parser.add_argument(
        'input',
        help="a video file, a folder of images, a glob in quotes ('shots/*.png'), the number or device of a camera "
        '(0, /dev/video0), or the address of a stream (rtsp://HOST/PATH)',
    )
    group = parser.add_argument_group('which frames')
    spacing = group.add_mutually_exclusive_group()
    spacing.add_argument(
        '--interval',
        type=float,
        metavar='S',
        help="seconds between frames (default: every frame; the papers' videos: 2.5)",
    )
    spacing.add_argument('--fps', type=float, metavar='R', help='frames per second, instead of --interval')
    group.add_argument('--start', type=seconds, default=0.0, metavar='T', help='start: seconds, or [h:]mm:ss')
    group.add_argument('--end', type=seconds, metavar='T', help='end')
    group.add_argument(
        '--frames',
        type=int,
        default=frames,
        metavar='N',
        help=f'at most N frames (default: {"all" if frames is None else frames})',
    )
    group.add_argument(
        '--input-fps',
        type=float,
        metavar='R',
        help='rate of what has no stamps: images in a folder without a table of them (default: 30), and raw streams '
        'such as .h264 (default: the rate that they say)',
    )


def selection(args: argparse.Namespace) -> Selection:
    """Return the choice of frames. Raises UserError for invalid options."""
    from evict3r_ros.io.frames import Selection

    interval = args.interval if args.interval is not None else 0.0
    if args.fps is not None:
        if not 0.0 < args.fps < math.inf:
            raise UserError(f'--fps {args.fps:g} must be positive')
        interval = 1.0 / args.fps
    return Selection(interval, args.start, args.end, args.frames)
