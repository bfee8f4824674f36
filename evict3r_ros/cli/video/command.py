# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r video`: depth, poses, cloud and scene from a video, a folder of images or a camera."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from evict3r_ros.cli.options.cache import add_cache_options
from evict3r_ros.cli.options.inputs import add_input_options
from evict3r_ros.cli.options.network import add_network_options


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'video',
        help='depth, poses and a scene from a video, images or a camera',
        description='Runs a video, a folder of images, a glob or a camera through the network and writes depth, '
        'confidence, poses and intrinsics of each frame, a coloured cloud (PLY), a scene with cameras '
        '(GLB), a picture of it, a depth video and a contact sheet. Memory does not grow with the length. What was stopped '
        "goes on with the same command: a stream's memory is not on disk, so the frames that are there run "
        'through the network again, without being written, and the rest follows. With another threshold, '
        'mask or voxel only what is made of the frames is made again.',
    )
    parser.add_argument(
        '--out', type=Path, default=Path('out_video'), metavar='FOLDER', help='where to (default: %(default)s)'
    )
    parser.add_argument('--overwrite', action='store_true', help='begin anew where an earlier run left its frames')
    parser.add_argument(
        '--export-only',
        action='store_true',
        help='make cloud, scene, videos and pictures of the '
        'frames that are in --out, without the input and the network',
    )
    add_input_options(parser)
    group = parser.add_argument_group('results')
    group.add_argument(
        '--points',
        default='depth',
        choices=('depth', 'head'),
        help="points of the cloud: depth put through pose and intrinsics, or the point head's, at the "
        'price of that head (default: %(default)s)',
    )
    group.add_argument(
        '--confidence',
        default='25%',
        metavar='C',
        help='least confidence of a point: a value (1 and '
        'more), or as a percentile, such as 25%%, below which the pixels of all frames are left out '
        '(default: 25%%)',
    )
    group.add_argument('--mask-black', action='store_true', help='no points from black pixels')
    group.add_argument('--mask-white', action='store_true', help='no points from white pixels')
    group.add_argument(
        '--mask-sky',
        type=Path,
        metavar='ONNX',
        help='no points from the sky, as a segmentation '
        'network in this file sees it (input (1, 3, h, w) RGB, output one value a pixel, high for sky; '
        'needs onnxruntime)',
    )
    group.add_argument(
        '--voxel',
        type=float,
        metavar='EDGE',
        help="one point a voxel; in the stream's unit (default: a 200th of the median depth)",
    )
    group.add_argument(
        '--max-points',
        type=int,
        default=1_000_000,
        metavar='N',
        help='where the cloud has more, its voxels double (default: %(default)s)',
    )
    group.add_argument(
        '--show-cameras',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='draw cameras in the GLB scene, blue to red in time (default: yes)',
    )
    group.add_argument(
        '--max-cameras',
        type=int,
        default=100,
        metavar='N',
        help='at most so many, evenly spread (default: %(default)s)',
    )
    group.add_argument('--predictions', action='store_true', help='all frames in one predictions.npz as well')
    group.add_argument(
        '--depth-scale',
        type=float,
        default=1000.0,
        metavar='S',
        help='the 16-bit PNGs hold depth times S (default: %(default)g)',
    )
    add_network_options(parser)
    add_cache_options(parser, tokens=8192, of_a_sequence=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run it. Raises UserError for wrong input."""
    from evict3r_ros.cli.video.run import run_video

    return run_video(args)
