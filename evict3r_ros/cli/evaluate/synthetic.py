# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r eval synthetic`: measure one or many cache configurations on held-out synthetic worlds."""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

from evict3r_ros.cli.options.cache import add_configuration_options
from evict3r_ros.cli.options.network import add_network_options, device_and_dtype

LINES = 'streams.jsonl'


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'synthetic',
        help='held-out synthetic worlds with exact ground truth',
        description='Measures depth and poses on worlds that training never uses: AbsRel and delta < 1.25 after one '
        'median scale per clip, trajectory error (ATE after Sim(3)) divided by the length of the path, and the '
        'mean angle to the true rotation. Compares all combinations of the given policies, budgets, bits and '
        'camera frames.',
        epilog='A long comparison: evict3r eval synthetic --clips 64 --frames 128 --stride 1 --policies '
        'uniform,evict3r,unbounded --budgets 10%,25% --bits 4,16 --out runs/a --processes 8 --minutes 9, '
        'repeated until all is done; then evict3r eval report runs/a --out docs.',
    )
    world = parser.add_argument_group('streams')
    world.add_argument('--clips', type=int, default=8, metavar='N', help='number of worlds (default: %(default)s)')
    world.add_argument('--frames', type=int, default=12, metavar='N', help='frames of each (default: %(default)s)')
    world.add_argument(
        '--stride', type=int, default=4, metavar='N', help='use every N-th frame of a video (default: %(default)s)'
    )
    world.add_argument(
        '--seed', type=int, default=0, metavar='N', help='set of worlds: any integer (default: %(default)s)'
    )
    world.add_argument(
        '--split',
        default='dev',
        choices=('dev', 'test'),
        help="'dev': to choose settings; 'test': to measure once (default: %(default)s)",
    )
    world.add_argument(
        '--effects',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='effects of a real camera: noise, blur, exposure, ...',
    )
    world.add_argument('--loop', action='store_true', help='paths that return to their start')
    world.add_argument(
        '--laps',
        type=int,
        default=1,
        metavar='N',
        help='with --loop: number of rounds, --frames each (default: %(default)s)',
    )
    add_configuration_options(parser, '2500', several=True)
    parser.add_argument(
        '--mapping',
        default='off',
        metavar='A,B',
        help="'off': one stream; 'odometry': streams that follow each other, chained, with settings behind colons: "
        "odometry:length=48:overlap=12; 'mapping': these, and loops closed (needs gtsam); a list "
        'with commas is compared (default: %(default)s)',
    )
    add_network_options(parser)
    work = parser.add_argument_group('work')
    work.add_argument(
        '--out',
        type=Path,
        metavar='DIR',
        help=f'append a line per stream and configuration to DIR/{LINES}, and skip those that exist',
    )
    work.add_argument(
        '--processes', type=int, default=1, metavar='N', help='processes that share the device (default: %(default)s)'
    )
    work.add_argument(
        '--minutes', type=float, metavar='M', help='stop after M minutes; with --out, the next call continues'
    )
    work.add_argument('--json', action='store_true', help='print JSON instead of tables')
    work.add_argument('--plot', type=Path, metavar='PNG', help='draw errors against the frame number')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print. Raises UserError for invalid settings."""
    from tqdm import tqdm

    from evict3r_ros.errors import UserError
    from evict3r_ros.evaluation import comparison
    from evict3r_ros.evaluation.configurations import combinations
    from evict3r_ros.evaluation.held_out import HeldOut
    from evict3r_ros.evaluation.reports.lines import LineFile, key, plain, read_lines
    from evict3r_ros.network import load_network
    from evict3r_ros.network.presets import PATCH

    if args.processes < 1:
        raise UserError(f'--processes {args.processes} must be at least 1')
    if args.minutes is not None and not args.minutes > 0.0:
        raise UserError(f'--minutes {args.minutes} leaves no time')
    if args.plot is not None and not args.plot.absolute().parent.is_dir():
        raise UserError(f'--plot {args.plot}: there is no folder {args.plot.parent}')
    deadline = time.time() + 60.0 * args.minutes if args.minutes is not None else float('inf')
    configurations = combinations(
        *(_listed(text) for text in (args.policies, args.budgets, args.bits, args.camera_frames, args.mapping))
    )
    load = partial(load_network, args.weights, args.preset, *device_and_dtype(args))
    network = load()
    width = args.image_width if args.image_width is not None else network.preset.image_width
    if width < PATCH or width % PATCH:
        raise UserError(f'the network takes images whose width is a multiple of {PATCH}, not {width}')
    held_out = HeldOut(
        args.seed,
        args.split,
        args.clips,
        args.frames,
        args.stride,
        args.effects,
        args.loop,
        height=max(1, round(0.75 * width / PATCH)) * PATCH,
        width=width,
        laps=args.laps,
    )
    streams = list(held_out.streams())
    comparison.check(configurations, args.frames * args.laps, (held_out.height, held_out.width), network, width)
    tasks = [comparison.Task(stream, configuration) for stream in streams for configuration in configurations]
    about = comparison.describe(network, width)
    wanted = {key(task.about(about), comparison.KEY): task for task in tasks}
    del network
    path = args.out / LINES if args.out is not None else None
    records = {}
    for record in read_lines(path, comparison.KEY) if path is not None else ():
        if (known := key(record, comparison.KEY)) in wanted:
            records[known] = record
    left = [task for known, task in wanted.items() if known not in records]
    frames = args.frames * args.laps
    with tqdm(total=len(wanted) * frames, initial=len(records) * frames, unit='frame', disable=None) as bar:
        found = comparison.run(left, load, width, min(args.processes, max(1, len(left))), deadline, bar.update)
        if path is None:
            records |= {key(record, comparison.KEY): record for record in found}
        else:
            with LineFile(path) as lines:
                for record in found:
                    lines.append(record)
                    records[key(record, comparison.KEY)] = plain(record)
    if not records:
        raise UserError(f'no stream was done in {args.minutes:g} minutes')
    ordered = [records[known] for known in wanted if known in records]
    missing = len(wanted) - len(ordered)
    _show(args, ordered, missing)
    return 0


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(',') if part.strip()]


def _show(args: argparse.Namespace, records: list[dict[str, Any]], missing: int) -> None:
    from evict3r_ros.evaluation.reports import stream_report
    from evict3r_ros.evaluation.reports.lines import plain
    from evict3r_ros.evaluation.reports.summary import groups

    ((which, found),) = groups(records).items()
    if args.plot is not None:
        stream_report.plot_against_frame(which, found, args.plot)
    if args.json:
        print(
            json.dumps(
                plain(
                    stream_report.as_json(which, found) | {'missing': missing, 'split': args.split, 'seed': args.seed}
                )
            )
        )
        return
    print(f'{stream_report.table(which, found)}\n\n{stream_report.DEFINITIONS}')
    against = stream_report.comparison_table(found)
    if against:
        print(f'\n{against}')
    if missing:
        again = 'the same command continues' if args.out is not None else 'give --out DIR to continue later'
        print(f'\n{missing} of {missing + len(records)} are not done yet: {again}')
