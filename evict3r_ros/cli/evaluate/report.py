# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r eval report`: tables, intervals and plots of the results of `evict3r eval synthetic --out`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from evict3r_ros.cli.evaluate.synthetic import LINES

TABLES = 'accuracy_tables.md'


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'report',
        help='tables, intervals and plots of finished comparisons',
        description=f'Makes {TABLES} and plots of the results of `evict3r eval synthetic --out`: a table for each '
        'kind of stream with 95 % intervals (bootstrap over streams), each configuration against a baseline '
        'on the same streams (paired), errors against frame number and against bytes.',
    )
    parser.add_argument('runs', nargs='+', type=Path, metavar='DIR', help='folders of --out')
    parser.add_argument(
        '--baseline',
        default='uniform',
        metavar='WHOM',
        help='baseline of the comparisons: a policy with the '
        'same budget, bits and camera frames (default: %(default)s), or a configuration as named in the '
        'tables, such as "random 10%%, 4 bits, camera 96"',
    )
    parser.add_argument('--split', choices=('dev', 'test'), help='only streams of this split')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder for tables and plots')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read the results and write the report. Raises UserError if there are none."""
    from evict3r_ros.errors import UserError
    from evict3r_ros.evaluation.comparison import KEY
    from evict3r_ros.evaluation.configurations import parse_policy
    from evict3r_ros.evaluation.held_out import SPLITS
    from evict3r_ros.evaluation.reports import stream_report
    from evict3r_ros.evaluation.reports.lines import key, read_lines
    from evict3r_ros.evaluation.reports.summary import groups

    records = {}
    for folder in args.runs:
        if not (folder / LINES).is_file():
            raise UserError(f'{folder}: no {LINES} in it; `evict3r eval synthetic --out {folder}` makes one')
        for record in read_lines(folder / LINES, KEY):
            if args.split is None or record['stream']['seed'] in SPLITS[args.split]:
                records[key(record, KEY)] = record
    sets = groups(records.values())
    if not records:
        raise UserError(
            f'no streams{f" of split {args.split}" if args.split else ""} in '
            f'{", ".join(str(folder) for folder in args.runs)}'
        )
    names = {group.configuration.name for found in sets.values() for group in found}
    if args.baseline not in names:
        try:
            parse_policy(args.baseline)
        except UserError as error:
            raise UserError(
                f'--baseline {args.baseline!r} is neither a policy nor one of the configurations: '
                f'{"; ".join(sorted(names))}'
            ) from error
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'{args.out}: cannot be made: {error.strerror}') from error
    parts = [stream_report.DEFINITIONS]
    stems: set[str] = set()
    for number, (which, found) in enumerate(sets.items()):
        # Records come in any order.
        found.sort(key=lambda group: group.configuration.rank())
        stem = f'accuracy_{which.frames}{"_loop" if which.loop else ""}{"" if which.effects else "_plain"}'
        # The same kind of stream may be there for several networks.
        stem += f'_{number}' if stem in stems else ''
        stems.add(stem)
        stream_report.plot_against_frame(which, found, args.out / f'{stem}_frames.png')
        stream_report.plot_against_bytes(which, found, args.out / f'{stem}_bytes.png')
        parts += [
            stream_report.table(which, found),
            stream_report.comparison_table(found, args.baseline),
            stream_report.prefix_table(found),
            f'![errors against the frame number]({stem}_frames.png)',
            f'![errors against bytes]({stem}_bytes.png)',
        ]
    text = '\n\n'.join(part for part in parts if part) + '\n'
    (args.out / TABLES).write_text(text, encoding='utf-8')
    print(text)
    return 0
