# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r study covariance`: measure how odometry errs, fit its covariance, and judge it on other streams."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evict3r_ros.cli.options.cache import add_configuration_options
from evict3r_ros.cli.options.network import add_network_options, load, named_policy
from evict3r_ros.cli.options.values import count

if TYPE_CHECKING:
    from evict3r_ros.evaluation.configurations import Configuration
    from evict3r_ros.evaluation.studies.tracks import Track
    from evict3r_ros.network import StreamVGGT

LINES = 'tracks.jsonl'
FITTED, JUDGED = 'fitted', 'judged'
LONG_WORLDS = 2


def add_study(studies: Any) -> None:
    """Add the study to those of `evict3r study`."""
    parser = studies.add_parser(
        'covariance',
        help="calibrate odometry's covariance on measured errors",
        description="Fits the constants of odometry's covariance to the errors of the poses in some streams, and says "
        'of other streams how well it tells them: the normalised estimation error squared (NEES), 6 on average where '
        'it is right. The scale is aligned once a stream. To be run again whenever the weights or the drift change.',
    )
    worlds = parser.add_argument_group('streams of synthetic worlds')
    worlds.add_argument(
        '--clips', type=count, default=8, metavar='N', help='worlds to fit, and as many to judge (default: %(default)s)'
    )
    worlds.add_argument('--frames', type=count, default=96, metavar='N', help='of each (default: %(default)s)')
    worlds.add_argument(
        '--strides',
        default='1,4',
        metavar='A,B',
        help='frames of a video from one to the next, in turn over the worlds (default: %(default)s)',
    )
    worlds.add_argument(
        '--seed',
        type=int,
        default=40,
        metavar='N',
        help='set of worlds to fit; N + 1 are judged, N + 2 long, N + 3 loops (default: %(default)s)',
    )
    worlds.add_argument(
        '--long',
        type=int,
        default=300,
        metavar='N',
        help=f'frames of {LONG_WORLDS} more worlds and {LONG_WORLDS} loops, for the growth over a long way; 0: none '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--dataset',
        nargs=2,
        action='append',
        default=[],
        metavar=('NAME', 'FOLDER'),
        help='judge on a data set of `evict3r eval pose` too; never fitted. May be given again',
    )
    add_network_options(parser)
    add_configuration_options(parser, '8192', several=False)
    work = parser.add_argument_group('work')
    work.add_argument(
        '--out', type=Path, metavar='DIR', help=f'append the poses to DIR/{LINES}, and run no stream that is there'
    )
    work.add_argument(
        '--write', action='store_true', help='write the constants beside the weights, where odometry reads'
    )
    work.add_argument('--json', action='store_true', help='print JSON instead of tables')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fit, judge and print. Raises UserError for settings that cannot work."""
    from evict3r_ros.errors import UserError
    from evict3r_ros.evaluation.studies import covariance
    from evict3r_ros.odometry.drift import DriftModel, drift_of, write_drift

    network = load(args)
    if args.write and network.weights_file is None:
        raise UserError(f'--write: {network.source} lie in no file that constants could lie beside')
    if args.frames <= covariance.GAPS[0]:
        raise UserError(f'--frames {args.frames}: too few to compare poses')
    fitted, judged, others = _tracks(args, network)
    measures = {'pose': covariance.pose_errors, 'twist': covariance.twist_errors}
    drift = covariance.fit(covariance.join(errors(track) for track in fitted for errors in measures.values()))
    models = {'before': drift_of(network.weights_file), 'after': drift}
    nees: dict[str, Any] = {}
    grown: dict[str, Any] = {}
    for name, tracks in {FITTED: fitted, JUDGED: judged, **others}.items():
        measured = {what: covariance.join(map(errors, tracks)) for what, errors in measures.items()}
        nees |= {f'{name}, {what}': covariance.judge(errors, models) for what, errors in measured.items()}
        grown[name] = covariance.growth(measured['pose'], models)
    about = {
        'streams': f'{args.clips} of {args.frames} frames, strides {args.strides}, seed {args.seed}',
        'mapping': args.mapping,
        'nees': nees[f'{JUDGED}, pose'],
    }
    if args.write and network.weights_file is not None:
        try:
            written = write_drift(network.weights_file, drift, about)
        except OSError as error:
            raise UserError(f'the constants cannot be written: {error}') from error
    if args.json:
        constants = {name: asdict(model) for name, model in models.items()}
        print(json.dumps({'constants': constants, 'nees': nees, 'growth': grown}))
        return 0
    print(covariance.markdown(nees))
    for name, rows in grown.items():
        print(f'\n{name}\n\n{covariance.growth_table(rows)}')
    unmeasured = ' (of unknown weights)' if models['before'] == DriftModel() else ''
    print(f'\nbefore{unmeasured}: {asdict(models["before"])}\nafter: {asdict(drift)}')
    if args.write:
        print(f'written to {written}')
    return 0


@dataclass(frozen=True)
class _Job:
    """A stream to follow."""

    group: str
    stream: dict[str, Any]
    """What identifies it in a line."""
    frames: int
    follow: Callable[..., Track]


def _tracks(args: argparse.Namespace, network: StreamVGGT) -> tuple[list[Track], list[Track], dict[str, list[Track]]]:
    """Return the tracks to fit, to judge, and more to judge by name; those in --out are not run again."""
    from tqdm import tqdm

    from evict3r_ros.evaluation import comparison
    from evict3r_ros.evaluation.configurations import combinations
    from evict3r_ros.evaluation.reports.lines import LineFile, key, read_lines
    from evict3r_ros.evaluation.studies.tracks import Track

    policy = named_policy(args, args.policy)
    (configuration,) = combinations([policy], [args.budget], [args.bits], [args.camera_frames], [args.mapping])
    width = args.image_width if args.image_width is not None else network.preset.image_width
    jobs = [*_worlds(args, network, configuration, width), *_sequences(args, network, configuration, width)]
    path = args.out / LINES if args.out is not None else None
    about = {'configuration': configuration.as_dict(), 'network': comparison.describe(network, width)}
    lines = read_lines(path, comparison.KEY) if path is not None else ()
    done = {key(record, comparison.KEY): record for record in lines}
    found: dict[str, list[Track]] = {job.group: [] for job in jobs}
    with tqdm(total=sum(job.frames for job in jobs), unit='frame', disable=None) as bar:
        for job in jobs:
            record = {'stream': job.stream, **about}
            known = done.get(key(record, comparison.KEY))
            if known is not None:
                bar.update(job.frames)
                found[job.group].append(Track.from_dict(known))
                continue
            track = job.follow(bar.update)
            found[job.group].append(track)
            if path is not None:
                with LineFile(path) as file:
                    file.append(record | track.as_dict())
    return found.pop(FITTED), found.pop(JUDGED), found


def _worlds(args: argparse.Namespace, network: StreamVGGT, configuration: Configuration, width: int) -> Iterator[_Job]:
    from evict3r_ros.errors import UserError
    from evict3r_ros.evaluation.held_out import HeldOut
    from evict3r_ros.evaluation.studies.tracks import follow_world, with_strides
    from evict3r_ros.network.presets import PATCH

    height = max(1, round(0.75 * width / PATCH)) * PATCH
    strides = [int(part) for part in args.strides.split(',') if part.isdecimal() and int(part) > 0]
    if len(strides) != len(args.strides.split(',')):
        raise UserError(f'--strides {args.strides}: expected whole numbers such as 1,4')
    sets = [(name, args.clips, args.frames, strides, False) for name in (FITTED, JUDGED)]
    if args.long:
        sets += [(f'{args.long} frames', LONG_WORLDS, args.long, [1], False)]
        sets += [(f'loop of {args.long} frames', LONG_WORLDS, args.long, [1], True)]
    for index, (name, clips, frames, steps, loop) in enumerate(sets):
        worlds = HeldOut(args.seed + index, clips=clips, frames=frames, loop=loop, height=height, width=width)
        for stream in with_strides(worlds, steps):
            yield _Job(name, stream.as_dict(), frames, partial(follow_world, network, configuration, stream, width))


def _sequences(
    args: argparse.Namespace, network: StreamVGGT, configuration: Configuration, width: int
) -> Iterator[_Job]:
    from evict3r_ros.errors import UserError
    from evict3r_ros.evaluation.datasets import DATASETS
    from evict3r_ros.evaluation.studies.tracks import follow_sequence

    for name, folder in args.dataset:
        known = [each for each, dataset in DATASETS.items() if 'pose' in dataset.tasks]
        if name not in known:
            raise UserError(f'--dataset {name}: not one of {", ".join(known)}')
        for sequence in DATASETS[name].load(Path(folder), 'pose'):
            yield _Job(
                sequence.name,
                {'dataset': name, 'sequence': sequence.name, 'frames': len(sequence)},
                len(sequence),
                partial(follow_sequence, network, configuration, sequence, width),
            )
