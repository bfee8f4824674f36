# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r eval`: errors of depth, poses and points on synthetic worlds and public data sets."""

from __future__ import annotations

from typing import Any

from evict3r_ros.cli.evaluate import datasets, report, synthetic


def add_parser(subparsers: Any) -> None:
    """Add the subcommand and its subcommands."""
    parser = subparsers.add_parser(
        'eval',
        help='measure depth, poses and points against ground truth',
        description='Measures depth, poses and points against ground truth.',
    )
    tasks = parser.add_subparsers(title='tasks', metavar='TASK', required=True)
    for task in (synthetic, report, datasets):
        task.add_parser(tasks)
