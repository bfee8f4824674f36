# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r eval monodepth`, `video-depth`, `pose` and `mv-recon`: evaluations of the papers on public data sets."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evict3r_ros.cli.options.cache import add_configuration_options
from evict3r_ros.cli.options.network import add_network_options, device_and_dtype, named_policy
from evict3r_ros.cli.output import print_notes

if TYPE_CHECKING:
    from evict3r_ros.evaluation.configurations import Configuration
    from evict3r_ros.evaluation.datasets.sequence import TrueSequence
    from evict3r_ros.network import StreamVGGT

_TASKS = {
    'monodepth': ('depth of single images, one median scale each', ('sintel', 'bonn', 'kitti', 'nyu')),
    'video-depth': (
        'depth of videos: one scale, one scale and shift, or none, for all frames, or a median a frame',
        ('sintel', 'bonn', 'kitti', 'folder'),
    ),
    'pose': (
        "a camera's path: ATE, RPE, and the rotation error",
        ('sintel', 'tum', 'scannet', 'euroc', 'kitti-odometry', 'folder'),
    ),
    'mv-recon': ('points of a few frames: accuracy, completeness, normal consistency', ('7-scenes', 'nrgbd')),
}


def add_parser(subparsers: Any) -> None:
    """Add the four subcommands."""
    for task, (what, datasets) in _TASKS.items():
        parser = subparsers.add_parser(
            task,
            help=what,
            description=f'{what[0].upper()}{what[1:]}. docs/reproduce.md lists the sources and '
            'layouts of the data sets, and the command for each published table.',
        )
        parser.add_argument('--dataset', required=True, choices=datasets)
        parser.add_argument('data', type=Path, metavar='FOLDER', help='see docs/reproduce.md')
        some = parser.add_argument_group('how much of the data set')
        some.add_argument('--limit', type=int, metavar='N', help='at most N sequences')
        some.add_argument('--frames', type=int, metavar='N', help='at most N frames of each sequence')
        some.add_argument(
            '--every',
            type=int,
            metavar='N',
            help='every N-th frame (default: 1; mv-recon: as published, 200 for 7-scenes and 500 for nrgbd)',
        )
        if task == 'mv-recon':
            some.add_argument(
                '--crop',
                type=int,
                default=224,
                metavar='PX',
                help="side of the central square of the network's "
                'image whose points count, 0: all of it (default: %(default)s, as published)',
            )
        add_network_options(parser)
        if task != 'monodepth':
            add_configuration_options(parser, '8192', several=False)
        parser.add_argument(
            '--out',
            type=Path,
            metavar='DIR',
            help='keep results as JSON and Markdown' + (', trajectories as TUM and PNG' if task == 'pose' else ''),
        )
        parser.add_argument('--resume', action='store_true', help='continue the results in --out')
        parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
        parser.set_defaults(run=run, task=task)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print. Raises UserError for a folder of another layout."""
    from evict3r_ros.evaluation import comparison
    from evict3r_ros.evaluation.configurations import Configuration, combinations
    from evict3r_ros.evaluation.reports import dataset_report
    from evict3r_ros.evaluation.reports.lines import plain
    from evict3r_ros.network import load_network

    sequences, every = _sequences(args)
    if args.task == 'monodepth':
        configuration = Configuration('unbounded', '')
    else:
        policy = named_policy(args, args.policy)
        (configuration,) = combinations([policy], [args.budget], [args.bits], [args.camera_frames], [args.mapping])
    device, dtype = device_and_dtype(args)
    network = load_network(args.weights, args.preset, device, dtype, weights_bits=args.weights_bits)
    width = args.image_width if args.image_width is not None else network.preset.image_width
    settings = {
        'weights': network.source,
        'fingerprint': comparison.describe(network, width)['weights'],
        'untrained': network.untrained,
        'preset': network.preset.name,
        'dtype': dtype,
        'weights_bits': args.weights_bits,
        'device': device,
        'image_width': width,
        'every': every,
        'most_frames': args.frames,
        'cache': configuration.name,
        **({'crop': args.crop} if args.task == 'mv-recon' else {}),
    }
    records = _evaluate(args, sequences, network, configuration, settings)
    found = plain(dataset_report.summary(args.task, args.dataset, settings, records))
    text = dataset_report.markdown(found)
    if args.out is not None:
        path = args.out / f'{args.task}_{args.dataset}'
        path.with_suffix('.json').write_text(json.dumps(found, indent=1), encoding='utf-8')
        path.with_suffix('.md').write_text(f'{text}\n', encoding='utf-8')
    print(json.dumps(found) if args.json else text)
    return 0


def _sequences(args: argparse.Namespace) -> tuple[list[TrueSequence], int]:
    """Return the chosen frames of the chosen sequences, and their stride."""
    from evict3r_ros.errors import UserError
    from evict3r_ros.evaluation.datasets import DATASETS

    for name in ('limit', 'frames', 'every'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f'--{name} {getattr(args, name)} must be at least 1')
    dataset = DATASETS[args.dataset]
    every = args.every or dataset.every
    sequences = dataset.load(args.data, args.task)[: args.limit]
    print_notes(
        [
            f'{sequence.name}: {sequence.left_out} of {sequence.left_out + len(sequence)} images have no partner in '
            'the truth and are left out'
            for sequence in sequences
            if sequence.left_out
        ]
    )
    return [sequence.take(range(len(sequence))[::every][: args.frames]) for sequence in sequences], every


def _evaluate(
    args: argparse.Namespace,
    sequences: list[TrueSequence],
    network: StreamVGGT,
    configuration: Configuration,
    settings: dict[str, Any],
) -> list[dict[str, Any]]:
    """Return a record per sequence; those in --out are not measured again."""
    from tqdm import tqdm

    from evict3r_ros.errors import UserError
    from evict3r_ros.evaluation import comparison, tasks
    from evict3r_ros.evaluation.reports import dataset_report
    from evict3r_ros.evaluation.reports.lines import LineFile, plain, read_lines

    if args.resume and args.out is None:
        raise UserError('--resume needs --out DIR')
    path = args.out / f'{args.task}_{args.dataset}.jsonl' if args.out is not None else None
    if path is not None and path.exists() and not args.resume:
        raise UserError(f'{path}: exists; continue it with --resume, or choose another --out')
    lines = read_lines(path, ('sequence', 'settings')) if path is not None else ()
    done = {record['sequence']: record for record in lines if record['settings'] == plain(settings)}
    width = settings['image_width']
    for sequence in sequences:
        try:
            comparison.check([configuration], len(sequence), sequence.read_image(0).shape[:2], network, width)
        except UserError as error:
            raise UserError(f'{sequence.name}, {len(sequence)} frames: {error}') from error
    evaluate = partial(tasks.TASKS[args.task], **({'crop': args.crop} if args.task == 'mv-recon' else {}))
    records = []
    with tqdm(total=sum(map(len, sequences)), unit='frame', disable=None) as bar:
        for sequence in sequences:
            bar.set_postfix_str(sequence.name)
            if sequence.name in done:
                bar.update(len(sequence))
                records.append(done[sequence.name])
                continue
            runner = tasks.Runner(network, configuration, width, bar.update)
            record = {'sequence': sequence.name, 'settings': settings} | evaluate(runner, sequence)
            poses = record.pop('poses', None)
            record = plain(
                record
                | {
                    'frames': runner.frames,
                    'left_out': sequence.left_out,
                    'seconds': runner.seconds,
                    'cache_bytes': runner.cache_bytes,
                    'peak_bytes': _peak_bytes(network),
                    **({'segments': runner.segments} if runner.segments is not None else {}),
                }
            )
            records.append(record)
            if path is None:
                continue
            with LineFile(path) as file:
                file.append(record)
            if poses is not None and sequence.world_from_camera is not None:
                stem = f'{path.stem}_{sequence.name.replace("/", "_")}'
                dataset_report.write_trajectory(args.out / f'{stem}.tum', poses)
                dataset_report.plot_trajectory(
                    args.out / f'{stem}.png', sequence.name, poses, sequence.world_from_camera
                )
    return records


def _peak_bytes(network: StreamVGGT) -> int:
    """Return the peak memory so far: of torch on a GPU, of the process on a CPU."""
    import resource

    import torch

    if network.device.type == 'cuda':
        return torch.cuda.max_memory_allocated(network.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
