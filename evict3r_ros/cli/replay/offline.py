# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r replay --offline`: with a progress bar, and a complete bag when it is interrupted."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from evict3r_ros.cli.interruption import StopRequest
from evict3r_ros.cli.options.node_parameters import NODE, read_parameters
from evict3r_ros.cli.output import UNTRAINED, print_notes
from evict3r_ros.errors import UserError
from evict3r_ros.io.answer import AnswerTopics
from evict3r_ros.io.bag import BagReader, BagWriter
from evict3r_ros.io.bag_topics import choose_topics
from evict3r_ros.ros.settings import parameters
from evict3r_ros.ros.tools.offline import OfflineReplay, OfflineResult, Span


def run_offline(args: argparse.Namespace) -> int:
    """Process the bag and print the results. Raises UserError for invalid input, and if nothing was answered."""
    out = args.out or answer_folder(args.bag)
    settings = parameters.from_values(read_parameters(args.params_file, args.param).own)
    with BagReader(args.bag) as bag:
        told = print_notes(bag.notes)
        check_scale_inputs(settings.scale_source, args)
        topics = choose_topics(bag, args.image, args.camera_info, args.odom, args.depth)
        span = Span(args.start, args.duration, args.frames)
        total = span.count(bag, topics.image)
        if not total:
            raise UserError(f'{args.bag}: no image in that time')
        if out.exists():
            raise UserError(f'{out} exists: choose another folder with --out, or move it away')
        with StopRequest('this image') as stopping, tqdm(total=total, unit='image', disable=None) as bar:
            # The folder is made last: invalid settings leave none behind.
            with (
                OfflineReplay(
                    bag, topics, settings, AnswerTopics.of_node(NODE), lambda is_error, text: bar.write(text)
                ) as replay,
                BagWriter(out, args.storage) as output,
            ):
                result = replay.run(output, span, bar.update, lambda: stopping.requested)
            stopped = stopping.requested
        print_notes(bag.notes, told)
    _print(result, total, out)
    if stopped:
        return 130
    if not result.answered:
        raise UserError(f'none of {total} images was answered: {result.last_error or "none could be read"}')
    return 0


def answer_folder(bag: Path) -> Path:
    """Return the default folder of the outputs, in the working directory."""
    return Path(f'{bag.resolve().stem}_answer')


def check_scale_inputs(source: str, args: argparse.Namespace) -> None:
    """Raise UserError if scale.source needs a topic that was not given, or a given topic is not used."""
    for name, topic, option in (('odometry', args.odom, '--odom'), ('depth', args.depth, '--depth')):
        if source == name and topic is None:
            raise UserError(f'scale.source {name} needs {option} TOPIC')
        if source != name and topic is not None:
            raise UserError(f'{option} needs -p scale.source:={name}')


def _print(result: OfflineResult, total: int, out: Path) -> None:
    print()
    if result.untrained:
        print(UNTRAINED)
    print(f'images   {result.read} of {total} read, {result.answered} answered, {result.failed} failed')
    if result.faults:
        print('faults   ' + ', '.join(f'{kind} {count}' for kind, count in result.faults.items()))
    scale = f'{result.scale:.4g} metres per unit of the network' if result.is_metric else 'not metric'
    print(f'took     {1e3 * result.median_s:.0f} ms per image (median); scale: {scale}')
    if result.tf_withheld:
        print(f'no /tf   {result.tf_withheld}')
    print(f'written  {out}/')
