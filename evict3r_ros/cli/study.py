# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r study`: the studies in docs/cache.md and docs/odometry.md, each from one command."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evict3r_ros.cache.config import CacheConfig
from evict3r_ros.cli.options.cache import POLICY_HELP, add_cache_options, cache_config
from evict3r_ros.cli.options.network import add_weights_bits, device_of
from evict3r_ros.cli.output import print_summary
from evict3r_ros.cli.study_covariance import add_study

if TYPE_CHECKING:
    from evict3r_ros.network import StreamVGGT

SIZE = (112, 154)
"""(height, width) of the network's images."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its subcommands."""
    parser = subparsers.add_parser(
        'study',
        help='repeat the studies behind the design of the cache, calibrate the covariance',
        description='Repeats the studies in docs/cache.md and docs/odometry.md.',
    )
    studies = parser.add_subparsers(title='studies', metavar='STUDY', required=True)
    quantization = studies.add_parser('quantization', help='error of keys, values and attention output, by scheme')
    pooling = studies.add_parser('pooling', help='agreement of pooled scores with exact ones')
    for study, run in ((quantization, run_quantization), (pooling, run_pooling)):
        study.add_argument(
            '--frames', type=int, default=24, metavar='N', help='frames of a walk (default: %(default)s)'
        )
        study.add_argument('--seed', type=int, default=0, help='of the room (default: %(default)s)')
        study.set_defaults(run=run)
    precision = studies.add_parser('precision', help='error of half precision, kernels and packing against float32')
    precision.add_argument(
        '--frames', type=int, default=50, metavar='N', help='frames of a walk (default: %(default)s)'
    )
    precision.add_argument('--seed', type=int, default=0, help='of the world (default: %(default)s)')
    precision.add_argument('--height', type=int, metavar='PX', default=112, help="the network's images (default: 112)")
    precision.add_argument('--width', type=int, metavar='PX', default=154, help='width of these images (default: 154)')
    precision.add_argument('--device', default='auto', help="'cpu', 'cuda', or 'auto': CUDA where there is one")
    add_cache_options(precision, tokens=500)
    precision.set_defaults(run=run_precision)
    soak = studies.add_parser('soak', help='memory and latency over a long run, as numbers and a plot')
    soak.add_argument('--frames', type=int, default=5000, metavar='N', help='(default: %(default)s)')
    soak.add_argument(
        '--height', type=int, default=28, metavar='PX', help="the network's images (default: %(default)s)"
    )
    soak.add_argument(
        '--width', type=int, default=42, metavar='PX', help='width of these images (default: %(default)s)'
    )
    soak.add_argument('--plot', type=Path, metavar='PNG', help='file of the plot (default: none)')
    add_cache_options(soak, tokens=64)
    soak.set_defaults(run=run_soak)
    video = studies.add_parser('video', help='memory of `evict3r video` over a long video, as numbers and a plot')
    video.add_argument('--minutes', type=float, default=10.0, metavar='M', help='(default: %(default)g)')
    video.add_argument('--fps', type=float, default=10.0, metavar='R', help='(default: %(default)g)')
    video.add_argument('--policy', default=CacheConfig.policy, help=POLICY_HELP)
    video.add_argument('--tokens', type=int, default=64, metavar='T', help='(default: %(default)s)')
    video.add_argument('--plot', type=Path, metavar='PNG', help='file of the plot (default: none)')
    video.add_argument('--json', action='store_true', help='print JSON instead of lines')
    video.set_defaults(run=run_video)
    add_study(studies)
    for study in (quantization, pooling, soak):
        add_weights_bits(study)
    for study in (quantization, pooling, precision, soak):
        study.add_argument(
            '--weights', default='random', help="'random', 'tiny', 'official' or a file (default: %(default)s)"
        )
        study.add_argument(
            '--preset',
            help=f'size of the network (default: that of the weights, '
            f'{"nano" if study is soak else "small"} for random ones)',
        )
        study.add_argument('--json', action='store_true', help='print JSON instead of Markdown')


def _preset(args: argparse.Namespace) -> str:
    if args.preset is not None:
        return str(args.preset)
    return 'auto' if args.weights != 'random' else 'nano' if args.run is run_soak else 'small'


def _network(args: argparse.Namespace) -> StreamVGGT:
    from evict3r_ros.network import load_network

    return load_network(args.weights, _preset(args), weights_bits=args.weights_bits)


def run_quantization(args: argparse.Namespace) -> int:
    """Print the comparison of quantization schemes."""
    from evict3r_ros.evaluation.studies.quantization import compare, markdown

    results = compare(_network(args), args.frames, SIZE, args.seed)
    print(json.dumps(results) if args.json else markdown(results))
    return 0


def run_pooling(args: argparse.Namespace) -> int:
    """Print the agreement of pooled and exact scores."""
    from evict3r_ros.evaluation.studies.pooling import compare, markdown

    results = compare(_network(args), args.frames, SIZE, [250, 500, 1000], args.seed)
    print(json.dumps(results) if args.json else markdown(results))
    return 0


def run_precision(args: argparse.Namespace) -> int:
    """Print the errors of faster ways to run a stream."""
    import torch
    from tqdm import tqdm

    from evict3r_ros.evaluation.studies import precision
    from evict3r_ros.network import load_network

    device = device_of(args)
    config = cache_config(args)
    count = 1 + len(precision.run_modes(torch.device(device)))
    with tqdm(total=count * args.frames, unit='frame', disable=None) as bar:
        results = precision.compare(
            lambda dtype, bits: load_network(args.weights, _preset(args), device, dtype, weights_bits=bits),
            config,
            args.frames,
            (args.height, args.width),
            args.seed,
            bar.update,
        )
    print(json.dumps(results) if args.json else precision.markdown(results))
    return 0


def run_soak(args: argparse.Namespace) -> int:
    """Run a long stream, print its statistics and plot them."""
    from tqdm import tqdm

    from evict3r_ros.profiling import soak

    config = cache_config(args)
    network = _network(args)
    with tqdm(total=args.frames, unit='frame', disable=None) as bar:
        result = soak.run(network, config, (args.height, args.width), args.frames, lambda _: bar.update())
    print_summary(result.summary(), args.json)
    if args.plot is not None:
        soak.plot(
            result,
            args.plot,
            f'{network.preset.name}, {args.width} x {args.height}, {args.policy}, {args.tokens} tokens a '
            f'layer, {args.bits} bits',
        )
    return 0


def run_video(args: argparse.Namespace) -> int:
    """Measure a run over a long video, print its statistics and plot them."""
    from tqdm import tqdm

    from evict3r_ros.errors import UserError
    from evict3r_ros.profiling import video_memory

    if not (0.0 < args.minutes < 1e4 and 0.0 < args.fps < 1e3 and args.minutes * 60.0 * args.fps >= 20):
        raise UserError(f'{args.minutes:g} minutes at {args.fps:g} frames per second are too few frames')
    with tqdm(total=round(60.0 * args.minutes * args.fps), unit='frame', disable=None) as bar:
        options = ['--policy', args.policy, '--tokens', str(args.tokens)]
        memory = video_memory.run(60.0 * args.minutes, args.fps, options, lambda done: bar.update(done - bar.n))
    print_summary(memory.summary(), args.json)
    if args.plot is not None:
        video_memory.plot(
            memory,
            args.plot,
            f'{args.minutes:g} min at {args.fps:g} frames/s, nano, {args.policy}, {args.tokens} tokens per layer',
        )
    return 0
