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
        'confidence, poses and intrinsics of each frame, a coloured cloud (PLY), a scene with cameras (GLB), a '
        'picture of it, a depth video and a contact sheet. Memory does not grow with the length. The same command '
        'continues an interrupted run: the cache is not on disk, so the existing frames run through the network '
        'again, without being written. With another threshold, mask or voxel only the exports are made again.',
    )
    parser.add_argument(
        '--out', type=Path, default=Path('out_video'), metavar='FOLDER', help='output folder (default: %(default)s)'
    )
    parser.add_argument('--overwrite', action='store_true', help='start over, and remove the frames of an earlier run')
    parser.add_argument(
        '--export-only',
        action='store_true',
        help='make cloud, scene, videos and pictures from the frames in --out, without the input and the network',
    )
    add_input_options(parser)
    group = parser.add_argument_group('results')
    group.add_argument(
        '--points',
        default='depth',
        choices=('depth', 'head'),
        help='points of the cloud: from depth, pose and intrinsics, or from the point head, which takes more '
        'time (default: %(default)s)',
    )
    group.add_argument(
        '--confidence',
        default='25%',
        metavar='C',
        help='least confidence of a point: a value (1 and '
        'more), or a percentile over the pixels of all frames, such as 25%% (default: 25%%)',
    )
    group.add_argument('--mask-black', action='store_true', help='no points from black pixels')
    group.add_argument('--mask-white', action='store_true', help='no points from white pixels')
    group.add_argument(
        '--mask-sky',
        type=Path,
        metavar='ONNX',
        help='no points from the sky, found by the segmentation '
        'network in this file (input (1, 3, h, w) RGB, output one value per pixel, high for sky; needs '
        'onnxruntime)',
    )
    group.add_argument(
        '--voxel',
        type=float,
        metavar='EDGE',
        help="edge of a voxel, each with one point; in the stream's unit (default: a 200th of the median depth)",
    )
    group.add_argument(
        '--max-points',
        type=int,
        default=1_000_000,
        metavar='N',
        help='most points; voxels double for a larger cloud (default: %(default)s)',
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
        help='at most N of them, evenly spread (default: %(default)s)',
    )
    group.add_argument('--predictions', action='store_true', help='also write all frames into one predictions.npz')
    group.add_argument(
        '--depth-scale',
        type=float,
        default=1000.0,
        metavar='S',
        help='factor of the depth in 16-bit PNGs (default: %(default)g)',
    )
    add_network_options(parser)
    add_cache_options(parser, tokens=8192, with_share=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run it. Raises UserError for invalid input."""
    from evict3r_ros.cli.video.run import run_video

    return run_video(args)
