# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r bench`: time and memory of a stream, frame by frame."""

import argparse
import json
from typing import Any

from evict3r_ros.cli.cache_options import add_cache_options, cache_config


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'bench', help='measure time and memory of a stream',
        description='Runs a stream on random images with random weights, on which speed does not depend, and says how '
                    'long a frame takes, where the time goes, and what memory it takes.')
    parser.add_argument('--preset', default='small', help='size of the network (default: %(default)s)')
    parser.add_argument('--height', type=int, metavar='PX', help="of the network's images, a multiple of 14 (default: "
                        'three quarters of the width)')
    parser.add_argument('--width', type=int, metavar='PX', help="likewise (default: the preset's)")
    parser.add_argument('--device', default='auto', help="'cpu', 'cuda', or 'auto': CUDA where there is one")
    parser.add_argument('--dtype', default='auto', choices=('auto', 'float32', 'bfloat16', 'float16'),
                        help='auto: bfloat16 on CUDA, float32 on a CPU')
    parser.add_argument('--frames', type=int, default=100, metavar='N', help='measured frames (default: %(default)s)')
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    parser.add_argument('--messages', action='store_true', help='measure the conversion of ROS messages instead')
    add_cache_options(parser, tokens=2048)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print. Raises UserError for settings that cannot work."""
    if args.messages:
        from evict3r_ros.cli import bench_messages
        return bench_messages.run(args)
    import torch
    from tqdm import tqdm

    from evict3r_ros.benchmark import measure
    from evict3r_ros.errors import UserError
    from evict3r_ros.network import load_network
    from evict3r_ros.preparation import PATCH
    if args.frames < 1:
        raise UserError(f'{args.frames} frames leave nothing to measure')
    device = args.device if args.device != 'auto' else 'cuda' if torch.cuda.is_available() else 'cpu'
    if device.split(':')[0] not in ('cpu', 'cuda'):
        raise UserError(f"device {device!r} is not 'cpu', 'cuda' or 'auto'")
    if device.startswith('cuda') and not torch.cuda.is_available():
        raise UserError(f'device {device!r}: torch finds no CUDA here')
    dtype = args.dtype if args.dtype != 'auto' else 'bfloat16' if device.startswith('cuda') else 'float32'
    config = cache_config(args)
    network = load_network('random', args.preset, device, dtype)
    width = args.width if args.width is not None else network.preset.image_width
    height = args.height if args.height is not None else max(1, round(0.75 * width / PATCH)) * PATCH
    if height % PATCH or width % PATCH or not PATCH <= height <= width:
        raise UserError(f"the network's images have sides that are multiples of {PATCH} and are not taller than wide, "
                        f'not {width} x {height}')
    with tqdm(total=args.frames, unit='frame', disable=None) as bar:
        measured = measure(network, config, (height, width), args.frames, progress=lambda _: bar.update())
    measured.extra = {'bits': args.bits if '/' in args.bits else int(args.bits), 'policy': args.policy,
                      'preset': args.preset, 'height': height, 'width': width, 'device': device, 'dtype': dtype,
                      'engine': 'torch', 'threads': torch.get_num_threads()}
    report = measured.report()
    print(json.dumps(report) if args.json else _table(report))
    return 0


def _table(report: dict) -> str:
    lines = [f'{report["preset"]}, {report["width"]} x {report["height"]}, {report["dtype"]} on {report["device"]}, '
             f'engine {report["engine"]}; {report["policy"]}, {report["tokens_per_layer"]} tokens a layer, '
             f'{report["bits"]} bits; {report["frames"]} frames']
    names = {'median_ms': 'median', 'p99_ms': '99th percentile', 'first_500_median_ms': 'median of the first 500',
             'last_100_median_ms': 'median of the last 100'}
    lines += [f'{what:<42}{report[key]:>9.2f} ms' for key, what in names.items()]
    lines += [f'  {stage:<40}{value:>9.2f} ms' for stage, value in report['stages'].items()]
    lines.append(f'{"peak memory":<42}{report["peak_gib"]:>9.2f} GiB')
    return '\n'.join(lines)
