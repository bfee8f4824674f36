# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The options about images that several commands take: from where, and which of them."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from evict3r_ros.errors import UserError

if TYPE_CHECKING:
    from evict3r_ros.io.frames import Selection


def add_input_options(parser: argparse.ArgumentParser, frames: int | None = None) -> None:
    """The input, and which of its frames, by default at most so many."""
    parser.add_argument(
        'input', help="a video file, a folder of images, a glob in quotes ('shots/*.png'), or the number of a camera"
    )
    group = parser.add_argument_group('which frames')
    spacing = group.add_mutually_exclusive_group()
    spacing.add_argument(
        '--interval',
        type=float,
        metavar='S',
        help="seconds between frames (default: every frame; the papers' videos: 2.5)",
    )
    spacing.add_argument('--fps', type=float, metavar='R', help='frames a second, instead')
    group.add_argument('--start', type=seconds, default=0.0, metavar='T', help='from here: seconds, or [h:]mm:ss')
    group.add_argument('--end', type=seconds, metavar='T', help='up to here')
    group.add_argument(
        '--frames',
        type=int,
        default=frames,
        metavar='N',
        help=f'at most so many (default: {"all" if frames is None else frames})',
    )
    group.add_argument(
        '--input-fps',
        type=float,
        default=30.0,
        metavar='R',
        help='rate of images in a folder without a table of stamps (default: %(default)g)',
    )


def seconds(text: str) -> float:
    """'90', '1:30' or '0:01:30' as seconds."""
    parts = [float(part) for part in text.split(':')]
    if len(parts) > 3 or not all(0.0 <= part < math.inf for part in parts) or any(part >= 60.0 for part in parts[1:]):
        raise argparse.ArgumentTypeError(f'{text!r} is not a time such as 90, 1:30 or 0:01:30')
    return sum(part * 60.0**place for place, part in enumerate(reversed(parts)))


def selection(args: argparse.Namespace) -> Selection:
    """What the options choose. Raises UserError for what cannot be."""
    from evict3r_ros.io.frames import Selection

    interval = args.interval if args.interval is not None else 0.0
    if args.fps is not None:
        if not 0.0 < args.fps < math.inf:
            raise UserError(f'--fps {args.fps:g} must be positive')
        interval = 1.0 / args.fps
    return Selection(interval, args.start, args.end, args.frames)
