# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r world`: render a synthetic world to images, exact depth, poses and camera, or to a bag."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_MOST_SIDE = 4096


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'world',
        help='render a synthetic world: images, exact depth, poses, camera',
        description='Renders a walk through a synthetic world with exact depth, poses and camera, which the seed '
        'determines; seeds from 4294967296 on are for training. At least one of --out and --bag is needed.',
    )
    parser.add_argument('--seed', type=int, default=0, metavar='N', help='at least 0 (default: %(default)s)')
    parser.add_argument('--frames', type=int, default=300, metavar='F', help='(default: %(default)s)')
    parser.add_argument(
        '--out',
        type=Path,
        metavar='DIR',
        help='a folder for rgb/, depth/ (16 bits, millimetres), '
        'groundtruth_cam0.tum, camera.yaml, frames.csv, world.json and a contact sheet; `evict3r demo '
        '--images DIR` plays it. Replaced if an earlier `evict3r world` made it',
    )
    parser.add_argument(
        '--bag', type=Path, metavar='FILE', help='a rosbag2 of images, camera_info and /tf_static; it must not exist'
    )
    parser.add_argument(
        '--stride',
        type=int,
        default=1,
        metavar='S',
        help='use every S-th frame, as a faster camera would (default: %(default)s)',
    )
    parser.add_argument(
        '--loop', action='store_true', help='several connected rooms or corridors, on a path that returns to its start'
    )
    parser.add_argument(
        '--laps',
        type=int,
        default=1,
        metavar='N',
        help='with --loop: number of rounds, --frames each (default: %(default)s)',
    )
    parser.add_argument(
        '--family',
        choices=('rooms', 'places'),
        default='rooms',
        help='rooms and corridors, or places: tables with clutter, halls, open ground, cameras carried by hand or '
        'flown (default: %(default)s)',
    )
    parser.add_argument(
        '--textures',
        type=Path,
        metavar='DIR',
        help='photographs to lay on surfaces, all images below this folder; panoramas of the sky in folders named '
        'skies (default: none, procedural textures alone)',
    )
    parser.add_argument(
        '--no-effects',
        action='store_true',
        help='a perfect camera; otherwise the seed adds noise, blur, '
        'exposure, tint, vignetting, lens distortion (which camera.yaml, a pinhole, does not contain) and bands',
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(240, 320),
        metavar=('H', 'W'),
        help='height and width of the images (default: 240 320)',
    )
    parser.add_argument(
        '--rate',
        type=float,
        default=10.0,
        metavar='HZ',
        help='images per second, in their stamps (default: %(default)s)',
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Render and write. Raises UserError for settings that cannot work and for places that cannot be written."""
    from evict3r_ros.errors import UserError

    if args.out is None and args.bag is None:
        raise UserError('nowhere to write to: give --out DIR, --bag FILE or both')
    for name, least, most in (
        ('seed', 0, 2**63 - 1),
        ('frames', 1, 1_000_000),
        ('stride', 1, 10_000),
        ('laps', 1, 1000),
    ):
        if not least <= getattr(args, name) <= most:
            raise UserError(f'--{name} {getattr(args, name)}: expected {least} to {most}')
    if args.laps > 1 and not args.loop:
        raise UserError(f'--laps {args.laps}: only with --loop')
    if not all(16 <= side <= _MOST_SIDE for side in args.size):
        raise UserError(f'--size {args.size[0]} {args.size[1]}: expected 16 to {_MOST_SIDE} pixels a side')
    if not 0.01 <= args.rate <= 1000:
        raise UserError(f'--rate {args.rate}: expected 0.01 to 1000 images per second')
    if args.bag is not None and args.bag.exists():
        raise UserError(f'{args.bag} is already there')

    from tqdm import tqdm

    from evict3r_ros.io.image_bag import write_image_bag
    from evict3r_ros.synthetic.clips import WorldStream
    from evict3r_ros.synthetic.photos import load_photos
    from evict3r_ros.synthetic.world_folder import stamped, tee_world_folder, world_camera

    size = tuple(args.size)
    photos = None if args.textures is None else load_photos(args.textures)
    stream = WorldStream(
        args.seed, args.frames, args.stride, size, not args.no_effects, args.loop, args.family, photos, args.laps
    )
    camera = world_camera(stream, size)
    about = {
        'seed': args.seed,
        'kind': stream.kind,
        'frames': len(stream),
        'stride': args.stride,
        'family': args.family,
        'textures': photos is not None,
        'loop': args.loop,
        'laps': args.laps,
        'effects': not args.no_effects,
        'size': list(size),
        'rate_hz': args.rate,
    }
    frames = stamped(tqdm(stream, desc=f'world {args.seed} ({stream.kind})', unit='image', disable=None), args.rate)
    if args.out is not None:
        frames = tee_world_folder(args.out, frames, len(stream), camera, about)
    if args.bag is not None:
        write_image_bag(args.bag, ((stamp, frame.image) for stamp, frame in frames), camera)
    else:
        for _ in frames:
            pass
    written = ' and '.join(str(path) for path in (args.out, args.bag) if path is not None)
    print(f'{len(stream)} frames of world {args.seed} ({stream.kind}) in {written}')
    return 0
