# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r replay --live`: play a bag in real time to a node of its own or a running one."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from evict3r_ros.cli.interruption import StopRequest
from evict3r_ros.cli.options.node_parameters import NODE, NodeParameters, read_parameters
from evict3r_ros.cli.output import print_notes
from evict3r_ros.cli.replay.offline import answer_folder, check_scale_inputs
from evict3r_ros.errors import UserError
from evict3r_ros.io.answer import AnswerTopics, last_status
from evict3r_ros.io.bag import BagReader, BagWriter
from evict3r_ros.io.bag_topics import InputTopics, choose_topics, copy_static_transforms
from evict3r_ros.ros.settings import parameters
from evict3r_ros.ros.tools.live import LiveReplay, playable
from evict3r_ros.ros.tools.middleware import choose_dds_profile
from evict3r_ros.ros.tools.node_process import NodeProcess, wait_until_active
from evict3r_ros.ros.tools.offline import Span
from evict3r_ros.ros.tools.replay import Replay
from evict3r_ros.ros.tools.session import Session

_ACTIVATION_S = 600.0  # the official weights are 5 GB
_LISTENER_S = 30.0


def run_live(args: argparse.Namespace) -> int:
    """Play, record and print the results. Raises UserError for invalid input, and if nothing was answered."""
    attached = args.attach is not None
    if attached and (args.param or args.params_file):
        raise UserError('-p and --params-file need a node that is started here, not --attach')
    given = read_parameters(args.params_file, args.param)
    settings = parameters.from_values(given.own)
    if not attached:
        check_scale_inputs(settings.scale_source, args)
    out = args.out or (None if attached else answer_folder(args.bag))
    if out is not None and out.exists():
        raise UserError(f'{out} exists: choose another folder with --out, or move it away')
    name = args.attach or NODE
    answers = AnswerTopics.of_node(name)
    choose_dds_profile(localhost=False)
    with contextlib.ExitStack() as stack:
        stopping = stack.enter_context(StopRequest('this message'))
        bag = stack.enter_context(BagReader(args.bag))
        told = print_notes(bag.notes)
        topics = choose_topics(bag, args.image, args.camera_info, args.odom, args.depth)
        span = Span(args.start, args.duration, args.frames)
        total = span.count(bag, topics.image)
        if not total:
            raise UserError(f'{args.bag}: no image in that time')
        played, reasons = playable(bag)
        for reason in reasons:
            print(reason)
        process = None
        if not attached:
            process = stack.enter_context(NodeProcess(_node_arguments(given, topics), Path(f'{out}.log')))
        session = stack.enter_context(Session('evict3r_replay'))

        def check() -> None:
            session.check()
            if process is not None:
                process.check()

        def check_or_stop() -> None:
            check()
            if stopping:
                raise KeyboardInterrupt  # no output is open yet

        print(f'waiting for {name} to be active', flush=True)
        if not wait_until_active(session.node, name, _ACTIVATION_S, check_or_stop):
            raise UserError(f'{name} was not active after {_ACTIVATION_S:g} s')
        output = None if out is None else stack.enter_context(BagWriter(out, args.storage))
        if output is not None:
            copy_static_transforms(bag, output)
        live = LiveReplay(session, bag, played, topics.image, answers, output, check, _best_effort(given, answers))
        bar = stack.enter_context(tqdm(total=None if args.loop else total, unit='image', disable=None))
        result = live.run(span, args.rate or 1.0, _LISTENER_S, bar.update, lambda: stopping.requested, args.loop)
        stopped = stopping.requested
        print_notes(bag.notes, told)
    status = _print(result, out, answers)
    if stopped:
        return 130
    if not result.answered:
        said = f': {status.last_error}' if status is not None and status.last_error else ''
        raise UserError(f'none of {result.played} images was answered{said}')
    return 0


def _node_arguments(given: NodeParameters, topics: InputTopics) -> list[str]:
    values = {**given.of_ros, **given.own, 'use_sim_time': True}
    values |= {'image_transport': 'compressed' if topics.compressed else 'raw'}
    words = [word for name, value in values.items() for word in ('-p', f'{name}:={json.dumps(value)}')]
    inputs = {
        'image/compressed' if topics.compressed else 'image': topics.image,
        'camera_info': topics.camera_info,
        'odom_in': topics.odometry,
        'depth_in': topics.depth,
    }
    words += [word for inner, outer in inputs.items() if outer is not None for word in ('-r', f'{inner}:={outer}')]
    return ['--ros-args', *words]


def _best_effort(given: NodeParameters, answers: AnswerTopics) -> list[str]:
    """Return the answers that the parameters make best effort."""
    return [
        topic
        for topic in answers.types()
        if given.of_ros.get(f'qos_overrides.{topic}.publisher.reliability') == 'best_effort'
    ]


def _print(result: Replay, out: Path | None, answers: AnswerTopics) -> Any | None:
    """Print the results; return the node's last status, if it was recorded."""
    print()
    print(f'images   {result.played} played, {result.answered} answered')
    if result.latencies_s:
        p50, p99 = np.percentile(result.latencies_s, (50, 99)) * 1e3
        print(f'latency  p50 {p50:.0f} ms, p99 {p99:.0f} ms, from publishing an image to its odometry')
    if out is None:
        return None
    with BagReader(out) as recorded:
        status = last_status(recorded, answers)
    if status is not None:
        print(
            f'node     {status.weights}: {status.frames_processed} processed, {status.frames_dropped} dropped, '
            f'{status.frames_failed} failed'
        )
    print(f'written  {out}/')
    return status
