# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a call of training can be told."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import torch

from evict3r_ros.errors import UserError
from evict3r_ros.training import schedule

ABOUT = """
Trains preset "tiny" on synthetic worlds, on one device or, started by torchrun, on one a process.

Made for a GPU that is lent for minutes: a call ends by the clock, and the learning rate and the lengths of clips follow
the share of the planned time that has gone by, so that a training ends well whatever the machine's speed. One call does
all of it, or several go on from each other (--total-minutes, --resume).
"""
_REFERENCE_FRAMES, _REFERENCE_RATE, _HIGHEST_RATE = 576, 1e-3, 2e-3
"""What short trials on one device had shown to be a good rate; it grows with the root of the frames of all ranks."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line. Raises UserError for what cannot work."""
    parser = argparse.ArgumentParser(prog='python -m evict3r_ros.training.train', description=ABOUT.strip())
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where state, weights and loss curve go')
    parser.add_argument(
        '--shards-to', type=Path, metavar='DIR', help='write the shards of the weights, and the curve, there as well'
    )
    parser.add_argument(
        '--minutes',
        type=float,
        default=9.3,
        help='of this call, by the clock, compiling and saving included (default: %(default)s)',
    )
    parser.add_argument(
        '--total-minutes',
        type=float,
        help='that all calls together train, compiling not included (default: the training ends with this call)',
    )
    parser.add_argument(
        '--schedule-from',
        type=float,
        default=0.0,
        metavar='MINUTES',
        help='of training, when a new schedule began: those before it belong to an earlier one (default: %(default)s)',
    )
    parser.add_argument(
        '--schedule-begin',
        type=float,
        default=0.0,
        metavar='SHARE',
        help='of the schedule that such a training skips (default: %(default)s)',
    )
    parser.add_argument(
        '--textures',
        type=Path,
        metavar='DIR',
        help='photographs to lay on surfaces, all images below this folder; panoramas of the sky in folders '
        'named skies',
    )
    parser.add_argument(
        '--places',
        type=float,
        default=0.6,
        metavar='SHARE',
        help='of clips that are in places instead of rooms and corridors (default: %(default)s)',
    )
    parser.add_argument(
        '--no-jumps',
        action='store_true',
        help='no clips in which the camera is covered or frozen, goes back, or has its views out of order',
    )
    parser.add_argument(
        '--resume',
        type=Path,
        nargs='+',
        default=[],
        metavar='PATH',
        help='go on from the first of '
        'these that is there: a state.pt, a folder of shards, or exported weights (.safetensors)',
    )
    parser.add_argument(
        '--shard-mb',
        type=float,
        default=15.0,
        metavar='MB',
        help='size of the files that the weights are saved in, all two minutes and at the end (default: %(default)s)',
    )
    parser.add_argument('--device', default='cuda', help='cuda or cpu (default: %(default)s)')
    parser.add_argument(
        '--batch', type=int, metavar='CLIPS', help='short clips a step and device (default: what --frames-a-step holds)'
    )
    parser.add_argument('--frames-a-step', type=int, default=384, help='and device (default: %(default)s)')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(168, 224),
        metavar=('H', 'W'),
        help='of the images, multiples of 14 (default: 168 224)',
    )
    parser.add_argument(
        '--lengths',
        type=int,
        nargs=2,
        default=(schedule.SHORT, schedule.LONG),
        metavar=('SHORT', 'LONG'),
        help='frames of a clip (default: 12 64)',
    )
    parser.add_argument('--steps', type=int, help='stop after so many steps of this call')
    parser.add_argument(
        '--learning-rate',
        type=float,
        help='the highest (default: 0.001 for 576 frames on all devices together, growing as their root, to 0.002)',
    )
    parser.add_argument(
        '--depth-share',
        type=float,
        default=0.5,
        help="share of a clip's frames whose depth is predicted in a step; poses are for all (default: %(default)s)",
    )
    parser.add_argument(
        '--workers', type=int, default=3, help='processes a device that draw worlds (default: %(default)s)'
    )
    parser.add_argument('--no-compile', action='store_true', help='run as written; always so on a CPU')
    parser.add_argument(
        '--benchmark', action='store_true', help='say what a step takes and where the time goes, train and save nothing'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the first weights (default: %(default)s)')
    args = parser.parse_args(arguments)
    args.arguments = sys.argv[1:] if arguments is None else list(arguments)
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        raise UserError(f'device {args.device!r}: torch finds no CUDA here')
    if any(side % 14 or side < 14 for side in args.size):
        raise UserError(f'--size {args.size[0]} {args.size[1]}: both must be multiples of 14')
    for name in (
        'minutes',
        'total_minutes',
        'learning_rate',
        'depth_share',
        'frames_a_step',
        'batch',
        'shard_mb',
        'steps',
    ):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise UserError(f'--{name.replace("_", "-")} must be more than 0, not {value}')
    for name in ('places', 'schedule_begin'):
        if not 0 <= getattr(args, name) <= 1:
            raise UserError(f'--{name.replace("_", "-")} must be from 0 to 1, not {getattr(args, name)}')
    if args.workers < 0:
        raise UserError(f'--workers must be at least 0, not {args.workers}')
    if not 1 < args.lengths[0] <= args.lengths[1]:
        raise UserError(f'--lengths {args.lengths[0]} {args.lengths[1]}: at least 2 frames, the shorter first')
    if args.batch is not None:
        args.frames_a_step = args.batch * args.lengths[0]
    args.size = tuple(args.size)
    return args


def learning_rate(args: argparse.Namespace, ranks: int) -> float:
    """Return the one that was named, or what suits the frames of a step on all ranks."""
    rate: float | None = args.learning_rate
    if rate is None:
        rate = min(_HIGHEST_RATE, _REFERENCE_RATE * (args.frames_a_step * ranks / _REFERENCE_FRAMES) ** 0.5)
    return rate


def command_line(args: argparse.Namespace, ranks: int) -> str:
    """Return the command that these settings came from, without the folders, which say nothing elsewhere."""
    start = f'torchrun --nproc-per-node {ranks}' if ranks > 1 else 'python'
    folders = ('--out', '--shards-to', '--textures')
    words = [
        'DIR' if before in folders else f'DIR/{Path(word).name}' if Path(word).is_absolute() else word
        for before, word in zip(['', *args.arguments], args.arguments, strict=False)
    ]
    return f'{start} -m evict3r_ros.training.train {shlex.join(words)}'


def record(args: argparse.Namespace) -> dict[str, str]:
    """Return the settings as text, but for folders."""
    return {
        key: str(value)
        for key, value in vars(args).items()
        if key not in ('out', 'shards_to', 'resume', 'textures', 'arguments')
    }
