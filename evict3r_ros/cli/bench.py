# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r bench`: time and memory of a stream, frame by frame."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from evict3r_ros.cli.options.cache import add_cache_options, cache_config
from evict3r_ros.cli.options.network import add_device_options, add_weights_bits, device_and_dtype


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'bench',
        help='measure time and memory of a stream',
        description='Runs a stream on different random images and measures time, its parts, and memory. Speed does not '
        'depend on the weights, so they are random by default.',
    )
    parser.add_argument('--weights', default='random', help="'random' (default), 'tiny', 'official' or a file")
    parser.add_argument('--preset', help='size of the network (default: that of the weights, small for random ones)')
    parser.add_argument(
        '--height',
        type=int,
        metavar='PX',
        help="height of the network's images, a multiple of 14 (default: three quarters of the width)",
    )
    parser.add_argument(
        '--width',
        type=int,
        metavar='PX',
        help="width of the network's images, a multiple of 14 (default: the preset's)",
    )
    add_weights_bits(parser)
    add_device_options(parser)
    parser.add_argument(
        '--engine',
        default='auto',
        choices=('auto', 'torch', 'triton'),
        help='auto: Triton kernels on CUDA, if Triton is installed',
    )
    parser.add_argument('--frames', type=int, default=100, metavar='N', help='measured frames (default: %(default)s)')
    parser.add_argument(
        '--against',
        default='',
        metavar='POLICIES',
        help='more policies to measure with the same settings, such as unbounded,uniform',
    )
    parser.add_argument(
        '--against-frames',
        type=int,
        metavar='N',
        help='measured frames of these (default: --frames, but at most 200 for unbounded, which slows down)',
    )
    parser.add_argument(
        '--json', action='store_true', help='print JSON instead of a table; runs of --against are in "against"'
    )
    parser.add_argument('--plot', metavar='FILE.png', help='draw latency and memory against the frame number')
    parser.add_argument('--messages', action='store_true', help='measure the conversion of ROS messages instead')
    add_cache_options(parser, tokens=2048)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print. Raises UserError for invalid settings."""
    if args.messages:
        from evict3r_ros.cli import bench_messages

        return bench_messages.run(args)
    began = time.perf_counter()
    import torch
    from tqdm import tqdm

    from evict3r_ros import kernels
    from evict3r_ros.errors import UserError
    from evict3r_ros.network import load_network
    from evict3r_ros.profiling.benchmark import measure, plot
    from evict3r_ros.stream.default_policy import choose_policy

    if args.frames < 1 or (args.against_frames is not None and args.against_frames < 1):
        raise UserError('--frames and --against-frames must be at least 1')
    kernels.use_engine(args.engine)
    device, dtype = device_and_dtype(args)
    config = cache_config(args)
    preset = args.preset or ('small' if args.weights == 'random' else 'auto')
    network = load_network(args.weights, preset, device, dtype, weights_bits=args.weights_bits)
    choice = choose_policy(args.policy, network.preset.name, network.measured_policy)
    main = choice.policy
    runs = {main: (config, args.frames)}
    for policy in filter(None, args.against.split(',')):
        frames = args.against_frames or (min(args.frames, 200) if policy == 'unbounded' else args.frames)
        runs[policy] = (replace(config, policy=policy), frames)
    size = _size(args, network.preset.image_width)
    loaded = time.perf_counter() - began
    measured = {}
    for name, (settings, frames) in runs.items():
        with tqdm(total=frames, unit='frame', desc=name, disable=None) as bar:
            measured[name] = measure(network, settings, size, frames, progress=bar.update)
        measured[name].extra = {
            'bits': args.bits if '/' in args.bits else int(args.bits),
            'policy': name,
            'scores': args.scores,
            'preset': network.preset.name,
            'height': size[0],
            'width': size[1],
            'device': _device_name(device),
            'dtype': dtype,
            'weights_bits': args.weights_bits,
            'engine': kernels.engine_for(network.device),
            'threads': torch.get_num_threads(),
        }
    measured[main].extra['policy_reason'] = choice.reason
    # From the start of the command, including the import of torch, to the first prediction.
    measured[main].extra['start_s'] = loaded + measured[main].first_ms / 1e3
    if args.plot:
        plot(measured, Path(args.plot))
    reports = {name: measurement.report() for name, measurement in measured.items()}
    if args.json:
        first, *others = reports.values()
        print(json.dumps({**first, 'against': {report['policy']: report for report in others}}))
    else:
        print(kernels.describe_engine(network.device))
        print('\n\n'.join(_table(report, reports[main]) for report in reports.values()))
    return 0


def _size(args: argparse.Namespace, preset_width: int) -> tuple[int, int]:
    """Return (height, width) of the network's images."""
    from evict3r_ros.camera.view import ImageView
    from evict3r_ros.network.presets import PATCH

    width = args.width if args.width is not None else preset_width
    height = args.height if args.height is not None else max(1, round(0.75 * width / PATCH)) * PATCH
    return ImageView.whole((height, width)).network_size


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith('cuda') else device


def _table(report: dict[str, Any], main: dict[str, Any]) -> str:
    lines = [
        f'{report["preset"]}, {report["width"]} x {report["height"]}, {report["dtype"]}, '
        f'weights of {report["weights_bits"]} bits on {report["device"]}, '
        f'engine {report["engine"]}; {report["policy"]}, {report["tokens_per_layer"]} tokens a layer, '
        f'{report["bits"]} bits; {report["frames"]} frames'
    ]
    names = {
        'median_ms': 'median',
        'p99_ms': '99th percentile',
        'first_500_median_ms': 'median of the first 500',
        'last_100_median_ms': 'median of the last 100',
        'frame_500_median_ms': 'median of the 100 up to frame 500',
        'frame_5000_median_ms': 'median of the 100 up to frame 5000',
        'first_frame_ms': 'first frame of all',
    }
    lines += [f'{what:<42}{report[key]:>9.2f} ms' for key, what in names.items() if key in report]
    lines += [f'  {stage:<40}{value:>9.2f} ms' for stage, value in report['stages'].items()]
    lines += [
        f'{"memory at the end":<42}{report["steady_gib"]:>9.2f} GiB',
        f'{"peak memory":<42}{report["peak_gib"]:>9.2f} GiB',
    ]
    if 'start_s' in report:
        lines.append(f'{"start to first answer":<42}{report["start_s"]:>9.2f} s')
    else:
        lines.append(
            f'{"its last 100 frames against the first run":<42}'
            f'{report["last_100_median_ms"] / main["last_100_median_ms"]:>9.2f} times'
        )
    return '\n'.join(lines)
