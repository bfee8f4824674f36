# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Many streams under many configurations, in one process or several on one device, in pieces that fit a time limit."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Event

import torch

from evict3r_ros.cache import CacheShape, resolve_budget
from evict3r_ros.camera.view import ImageView
from evict3r_ros.evaluation.configurations import Configuration, parse_mapping
from evict3r_ros.evaluation.held_out import StreamSpec
from evict3r_ros.evaluation.streaming import Stopped, TrueClip, measure, stream_clip
from evict3r_ros.network import StreamVGGT
from evict3r_ros.network.fingerprint import fingerprint
from evict3r_ros.synthetic.clips import render_clips

KEY = ('stream', 'configuration', 'network')
"""What makes two records the same measurement."""


@dataclass(frozen=True)
class Task:
    """One stream under one configuration."""

    stream: StreamSpec
    configuration: Configuration

    def about(self, network: dict) -> dict:
        """The head of its record."""
        return {'stream': self.stream.as_dict(), 'configuration': self.configuration.as_dict(), 'network': network}


def describe(network: StreamVGGT, image_width: int) -> dict:
    """What tells one network from another in a record: its size, precision, and a fingerprint of its weights."""
    return {
        'preset': network.preset.name,
        'weights': fingerprint(network),
        'dtype': str(network.dtype)[6:],
        'image_width': image_width,
        'untrained': network.untrained,
    }


def check(
    configurations: Sequence[Configuration], frames: int, size: tuple[int, int], network: StreamVGGT, image_width: int
) -> None:
    """Raise UserError for a configuration that cannot work, before hours are spent on the others.

    On streams of that many frames of ``size`` (height, width).
    """
    preset = network.preset
    view = ImageView.of(size, image_width)
    shape = CacheShape(
        preset.pairs,
        preset.heads,
        preset.head_dim,
        preset.special_tokens,
        view.patches,
        network.dtype,
        torch.device('meta'),
    )
    for configuration in configurations:
        resolve_budget(configuration.cache_config(frames, shape.frame_tokens), shape)


def render(stream: StreamSpec, device: torch.device) -> TrueClip:
    """The clip of a held-out stream, on a device."""
    clips = render_clips(
        [stream.seed],
        stream.frames,
        stream.stride,
        (stream.height, stream.width),
        stream.effects,
        stream.loop,
        device,
        stream.laps,
    )
    return TrueClip(
        clips.images[0], clips.depth[0], clips.world_from_camera[0].cpu().numpy(), clips.intrinsics[0].cpu().numpy()
    )


class Worker:
    """Does tasks with one network; keeps the last clip, because tasks of one stream follow each other."""

    def __init__(self, network: StreamVGGT, image_width: int, stop: Callable[[], bool]):
        self._network, self._image_width, self._stop = network, image_width, stop
        self._stream: StreamSpec | None = None
        self.about = describe(network, image_width)

    def __call__(self, task: Task, progress: Callable[[], None] = lambda: None) -> dict | None:
        """A task's record; None if it was told to stop before the end."""

        def look() -> None:
            if self._stop():
                raise Stopped
            progress()

        try:
            look()
            if task.stream != self._stream:
                self._clip, self._stream = render(task.stream, self._network.device), task.stream
            view = ImageView.of((task.stream.height, task.stream.width), self._image_width)
            tokens = view.patches[0] * view.patches[1] + self._network.preset.special_tokens
            config = task.configuration.cache_config(task.stream.all_frames, tokens)
            segments = parse_mapping(task.configuration.mapping)
            answers = stream_clip(self._network, config, self._clip, self._image_width, look, segments)
        except Stopped:
            return None
        return task.about(self.about) | {'frame_tokens': tokens} | measure(self._clip, answers, task.stream.laps)


_worker: Worker | None = None


def _start_worker(load: Callable[[], StreamVGGT], image_width: int, stop: Event, deadline: float, threads: int) -> None:
    # Ctrl-C reaches every process of a terminal; the one that started these decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    global _worker
    _worker = Worker(load(), image_width, lambda: stop.is_set() or time.time() > deadline)


def _end_with_parent() -> None:
    # Killed, it cannot tell; a pool's process would wait for its next task for ever.
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(task: Task) -> dict | None:
    return _worker(task)


def run(
    tasks: Sequence[Task],
    load: Callable[[], StreamVGGT],
    image_width: int,
    processes: int,
    deadline: float,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[dict]:
    """The records of tasks as they are done, until ``deadline`` (time.time()): what is not done then is not there.

    ``load`` can be told to another process; each of several has a network of its own. ``progress`` hears of frames.
    Leaving the iteration, by Ctrl-C for one, ends the processes within a frame.
    """
    if processes == 1:
        worker = Worker(load(), image_width, lambda: time.time() > deadline)
        for task in tasks:
            record = worker(task, lambda: progress(1))
            if record is None:
                return
            yield record
        return
    context = multiprocessing.get_context('spawn')
    stop = context.Event()
    threads = max(1, (os.cpu_count() or 1) // processes)
    with ProcessPoolExecutor(processes, context, _start_worker, (load, image_width, stop, deadline, threads)) as pool:
        # Not futures.wait: Ctrl-C inside it can leave futures locked, and then the pool never ends.
        done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        try:
            for task in tasks:
                pool.submit(_work, task).add_done_callback(done.put)
            for _ in tasks:
                record = done.get().result()
                if record is not None:
                    progress(record['stream']['frames'] * record['stream'].get('laps', 1))
                    yield record
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
