# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r view`: a 3-D view of a node's outputs, live or from a bag, without rviz."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evict3r_ros.cli.interruption import StopRequest
from evict3r_ros.cli.options.node_parameters import NODE
from evict3r_ros.cli.options.values import count, positive
from evict3r_ros.cli.output import print_notes
from evict3r_ros.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from evict3r_ros.io.answer import AnswerTopics
    from evict3r_ros.viewer.scene_view import SceneView

_WAIT_S = 10.0
"""Time without a cloud after which the live view prints a hint."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'view',
        help='show the outputs in 3-D, live or from a bag',
        description="Shows clouds, path, image and depth in rerun's viewer (pip install 'evict3r_ros[view]'), from a "
        'running node or from a bag of `evict3r replay`, `evict3r demo` or `ros2 bag record`.',
    )
    parser.add_argument(
        'source',
        nargs='?',
        type=Path,
        metavar='BAG',
        help='bag of outputs, or the folder of a demo (default: a running node)',
    )
    parser.add_argument('--node', default=NODE, metavar='NAME', help='name of the node (default: %(default)s)')
    parser.add_argument('--save', type=Path, metavar='FILE.rrd', help='write a file for the viewer')
    parser.add_argument(
        '--connect',
        metavar='URL',
        help='send to a running viewer, also on another machine: rerun+http://HOST:9876/proxy',
    )
    parser.add_argument('--frames', type=count, metavar='N', help='stop after N clouds')
    parser.add_argument(
        '--points', type=count, default=50_000, metavar='N', help='most points shown of a cloud (default: %(default)s)'
    )
    parser.add_argument(
        '--history', type=positive, default=20.0, metavar='SECONDS', help='how long clouds stay (default: %(default)s)'
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show a bag or a running node; return 130 after Ctrl-C. Raises UserError if that fails."""
    return _show_live(args) if args.source is None else _show_bag(args)


def _show_bag(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from evict3r_ros.io.answer import AnswerTopics
    from evict3r_ros.viewer.bag_source import BagSource

    topics = AnswerTopics.of_node(args.node)
    with BagSource(args.source, topics) as source, StopRequest('this message') as stop:
        told = print_notes(source.notes)
        if not source.clouds:
            raise UserError(f'{args.source}: no cloud on {topics.points}: the node had answered nothing')
        view = _open_view(args, topics, source.find_transform)
        with tqdm(total=min(source.clouds, args.frames or source.clouds), unit='cloud', disable=None) as bar:
            for _ in source.play(view):
                bar.update(view.clouds - bar.n)
                if stop or view.clouds == args.frames:
                    break
        print_notes(source.notes, told)
        return _close_view(view, args.save, stop.requested)


def _show_live(args: argparse.Namespace) -> int:
    from evict3r_ros.ros.tools.middleware import choose_dds_profile

    choose_dds_profile(localhost=False)
    from tqdm import tqdm

    from evict3r_ros.io.answer import AnswerTopics
    from evict3r_ros.viewer.live_source import LiveSource

    topics = AnswerTopics.of_node(args.node)
    with LiveSource(topics) as source, StopRequest('this message') as stop:
        view = _open_view(args, topics, source.find_transform)
        source.subscribe(view)
        print(f'showing {args.node}; Ctrl-C ends it', flush=True)
        began, hinted = time.monotonic(), False
        with tqdm(total=args.frames, unit='cloud', disable=None) as bar:
            while not stop and (args.frames is None or view.clouds < args.frames):
                source.check()
                bar.update(view.clouds - bar.n)
                if not hinted and not view.clouds and time.monotonic() - began > _WAIT_S:
                    hinted = True
                    bar.write(
                        f'no cloud on {topics.points} after {_WAIT_S:g} s: is the node active, does it receive '
                        'images, and are both in one ROS domain?'
                    )
                time.sleep(0.05)
    return _close_view(view, args.save, stop.requested)


def _open_view(
    args: argparse.Namespace, topics: AnswerTopics, find_transform: Callable[[str, str], np.ndarray | None]
) -> SceneView:
    """Open a file, a connection or a window, as the options say."""
    from evict3r_ros.viewer.scene_view import SceneView

    if args.save is not None and args.connect is not None:
        raise UserError('--save and --connect: give one or the other')
    view = SceneView(topics, find_transform, args.points, args.history)
    if args.save is not None:
        view.save(args.save)
    elif args.connect is not None:
        view.connect(args.connect)
    elif os.name == 'posix' and not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')):
        raise UserError(
            'there is no screen here: write a file for a viewer elsewhere with --save FILE.rrd, or send to a running '
            'viewer with --connect URL'
        )
    else:
        view.open_window()
    return view


def _close_view(view: SceneView, saved: Path | None, stopped: bool) -> int:
    view.close()
    print(f'{view.clouds} clouds' + (f' in {saved}; show them with: rerun {saved}' if saved is not None else ''))
    return 130 if stopped else 0
