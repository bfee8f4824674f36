# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r map`: record a map from a video or images, see what one holds, and take out its path, cloud or a picture."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evict3r_ros.cli.options.cache import add_cache_options, cache_config
from evict3r_ros.cli.options.network import add_network_options, load
from evict3r_ros.cli.output import print_notes

if TYPE_CHECKING:
    from evict3r_ros.mapping.map_file import MapFile
    from evict3r_ros.mapping.mapper import Mapper


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'map',
        help='record a map file, or see what one holds',
        description='Shows what a map file holds: keyframes and segments. With --record, first makes it of a video or '
        'of images. Lengths are in the unit of the map, which is arbitrary.',
    )
    parser.add_argument('file', type=Path, metavar='FILE', help='the map, one SQLite file')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument('--trajectory', type=Path, metavar='TUM', help='write the path of the keyframes')
    parser.add_argument('--cloud', type=Path, metavar='PLY', help='write the surer half of their points')
    parser.add_argument('--picture', type=Path, metavar='PNG', help='draw path and points from above')
    record = parser.add_argument_group('recording')
    record.add_argument(
        '--record', metavar='INPUT', help='a video, a folder of images or a glob; FILE must not be there yet'
    )
    record.add_argument(
        '--fps', type=float, metavar='HZ', help='of images without stamps (default: 30), and of raw streams'
    )
    record.add_argument(
        '--spacing',
        type=float,
        default=0.1,
        metavar='S',
        help='from keyframe to keyframe: turn in radians plus way over median depth (default: %(default)s)',
    )
    record.add_argument(
        '--most',
        type=int,
        default=10_000,
        metavar='N',
        help='keyframes that the map is thinned to (default: %(default)s)',
    )
    record.add_argument(
        '--mapping',
        default='odometry',
        metavar='HOW',
        help="'odometry': segments, chained; 'mapping': their loops closed as well (needs gtsam); settings behind "
        'colons, as for evict3r eval synthetic (default: %(default)s)',
    )
    add_cache_options(parser, tokens=2500)
    add_network_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Record if asked, then show and write. Raises UserError for what cannot be read or written."""
    from evict3r_ros.mapping.map_file import MapFile

    if args.record is not None:
        _record(args)
    with MapFile(args.file) as found:
        if args.trajectory is not None:
            _write_trajectory(found, args.trajectory)
        if args.cloud is not None:
            _write_cloud(found, args.cloud)
        if args.picture is not None:
            from evict3r_ros.mapping.picture import draw_map

            draw_map(found, args.picture)
        summary = asdict(found.summary())
    if args.json:
        print(json.dumps(summary))
    else:
        print(
            f'{args.file}: {summary["keyframes"]} keyframes in {summary["segments"]} segments, '
            f'{summary["loops"]} loops, {summary["bytes"] / 2**20:.1f} MiB, made with weights {summary["weights"]}'
        )
    return 0


def _record(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from evict3r_ros.errors import UserError
    from evict3r_ros.evaluation.configurations import parse_mapping
    from evict3r_ros.io.frame_source import open_source
    from evict3r_ros.io.frames import Selection
    from evict3r_ros.mapping import MappingSettings, SegmentedStream
    from evict3r_ros.mapping.map_file import MapFile
    from evict3r_ros.mapping.opening import open_mapper
    from evict3r_ros.mapping.recorder import MapRecorder
    from evict3r_ros.network.fingerprint import fingerprint

    if args.file.exists():
        raise UserError(f'{args.file} is already there')
    mapping = parse_mapping(args.mapping)
    if mapping is None:
        raise UserError('--mapping off: a map is made of segments')
    segments = mapping.segments if isinstance(mapping, MappingSettings) else mapping
    source = open_source(args.record, Selection(), args.fps)
    network, config = load(args), cache_config(args)
    with (
        MapFile(args.file, fingerprint(network), write=True) as target,
        SegmentedStream.open(network, config, image_width=args.image_width, settings=segments) as stream,
        ExitStack() as stack,
    ):
        recorder: MapRecorder | Mapper
        if isinstance(mapping, MappingSettings):
            settings = replace(mapping, spacing=args.spacing, most=args.most)
            # A file waits for its map; a camera would not.
            opened = open_mapper(target, network, config, settings, None, args.image_width, background=False)
            recorder = stack.enter_context(opened)
        else:
            recorder = MapRecorder(target, args.spacing, args.most)
        for frame in tqdm(source.frames(), total=source.expected(), unit='frame', disable=None):
            stream.step(frame.image)
            recorder.observe(frame.stamp_ns, stream)
    print_notes(source.notes)
    if recorder.lost:
        print(f'evict3r: {recorder.lost} keyframes could not be written')


def _write_trajectory(found: MapFile, path: Path) -> None:
    from evict3r_ros import geometry
    from evict3r_ros.errors import UserError
    from evict3r_ros.io.tum import TumWriter

    try:
        with TumWriter(path) as writer:
            for stamp, _, pose in found.poses():
                writer.write(stamp, pose[:3, 3], geometry.quaternion_from_matrix(pose))
    except OSError as error:
        raise UserError(f'{path}: cannot be written: {error.strerror}') from error


def _write_cloud(found: MapFile, path: Path) -> None:
    from evict3r_ros.errors import UserError
    from evict3r_ros.io.ply import write_ply
    from evict3r_ros.mapping.picture import map_cloud

    try:
        write_ply(path, map_cloud(found))
    except OSError as error:
        raise UserError(f'{path}: cannot be written: {error.strerror}') from error
