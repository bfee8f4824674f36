# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What `evict3r view` does: messages from a bag or from live topics into the picture."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from evict3r_ros.cli.stopping import Stopping
from evict3r_ros.errors import UserError
from evict3r_ros.io.answer import AnswerTopics, StaticFrames
from evict3r_ros.io.bag import BagReader
from evict3r_ros.viewer.scene_view import SceneView

_DEMO_ANSWER = 'answer'  # the bag in a demo's folder
_WAIT_S = 10.0


def show_bag(args: argparse.Namespace) -> int:
    """Show a bag from its beginning to its end, as fast as it can be read."""
    path = args.source / _DEMO_ANSWER if (args.source / _DEMO_ANSWER).is_dir() else args.source
    topics = _topics(args.node)
    with BagReader(path) as bag, Stopping('this message') as stopping:
        if topics.points not in bag.topics:
            raise UserError(f'{path}: no {topics.points}; is --node right? It has {", ".join(sorted(bag.topics))}')
        view = _open(args, topics, StaticFrames(bag).find)
        found = [name for name in view.wanted if name in bag.topics]
        total = bag.topics[topics.points].count
        with tqdm(total=min(total, args.frames or total), unit='cloud', disable=None) as bar:
            for topic, _, message in bag.messages(found):
                view.show(topic, message)
                bar.update(view.clouds - bar.n)
                if stopping or view.clouds == args.frames:
                    break
        return _end(view, args.save, bool(stopping))


def show_live(args: argparse.Namespace) -> int:
    """Show a running node's answers as they come."""
    from evict3r_ros.ros.tools.middleware import choose_dds_profile

    choose_dds_profile(localhost=False)
    from evict3r_ros.ros.messages.message_types import message_class
    from evict3r_ros.ros.node.qos import output
    from evict3r_ros.ros.perception.transforms import StaticTransforms, listen
    from evict3r_ros.ros.tools.session import Session

    topics, static = _topics(args.node), StaticTransforms()
    with Session('evict3r_view') as session, Stopping('this message') as stopping:
        node = session.node
        view = _open(args, topics, static.find)
        listen(node, static, node.default_callback_group)
        for topic, kind in topics.types().items():
            if topic in view.wanted:
                node.create_subscription(
                    message_class(kind), topic, lambda message, topic=topic: view.show(topic, message), output()
                )
        print(f'showing {args.node}; Ctrl-C ends it', flush=True)
        began, told = time.monotonic(), False
        with tqdm(total=args.frames, unit='cloud', disable=None) as bar:
            while not stopping and (args.frames is None or view.clouds < args.frames):
                session.check()
                bar.update(view.clouds - bar.n)
                if not told and not view.clouds and time.monotonic() - began > _WAIT_S:
                    told = True
                    bar.write(
                        f'no cloud on {topics.points} after {_WAIT_S:g} s: is the node active, does it see '
                        'images, and are both in one ROS domain?'
                    )
                time.sleep(0.05)
    return _end(view, args.save, bool(stopping))


def _topics(node: str) -> AnswerTopics:
    return AnswerTopics.of_node(node if node.startswith('/') else f'/{node}')


def _open(
    args: argparse.Namespace, topics: AnswerTopics, base_from_camera: Callable[[str, str], np.ndarray | None]
) -> SceneView:
    if args.save is not None and args.connect is not None:
        raise UserError('--save and --connect: one or the other')
    view = SceneView(topics, base_from_camera, args.points, args.history)
    if args.save is not None:
        view.save(args.save)
    elif args.connect is not None:
        view.connect(args.connect)
    elif os.name == 'posix' and not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')):
        raise UserError(
            'there is no screen here: --save FILE.rrd writes a file for a viewer elsewhere, --connect URL '
            'sends to one that is running'
        )
    else:
        view.open_window()
    return view


def _end(view: SceneView, saved: Path | None, stopped: bool) -> int:
    view.close()
    print(f'{view.clouds} clouds' + (f' in {saved}: rerun {saved} shows it' if saved is not None else ''))
    return 130 if stopped else 0
