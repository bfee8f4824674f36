# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Run many streams with many configurations, in one or several processes on one device, within a time limit."""

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
from typing import Any

import torch

from evict3r_ros.cache import resolve_budget
from evict3r_ros.camera.view import ImageView
from evict3r_ros.evaluation.configurations import Configuration, parse_mapping
from evict3r_ros.evaluation.held_out import StreamSpec
from evict3r_ros.evaluation.streaming import Stopped, TrueClip, measure, stream_clip
from evict3r_ros.network import StreamVGGT
from evict3r_ros.network.fingerprint import fingerprint
from evict3r_ros.stream.stream import cache_shape
from evict3r_ros.synthetic.clips import render_clips

Load = Callable[..., StreamVGGT]
"""Returns the network with its weights in ``weights_bits``, the only argument, 16 without."""
KEY = ('stream', 'configuration', 'network')
"""Fields that identify a measurement."""


@dataclass(frozen=True)
class Task:
    """One stream with one configuration."""

    stream: StreamSpec
    configuration: Configuration

    def about(self, network: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of its record that identify it."""
        return {'stream': self.stream.as_dict(), 'configuration': self.configuration.as_dict(), 'network': network}


def describe(network: StreamVGGT, image_width: int) -> dict[str, Any]:
    """Return the fields that identify a network in a record: preset, precision, and a fingerprint of its weights."""
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
    """Raise UserError for a configuration that cannot work on streams of so many frames of ``size`` (height, width).

    Called first, so that a long run does not fail late.
    """
    shape = cache_shape(network, ImageView.of(size, image_width), torch.device('meta'))
    for configuration in configurations:
        resolve_budget(configuration.cache_config(frames, shape.frame_tokens), shape)


def render(stream: StreamSpec, device: torch.device) -> TrueClip:
    """Render the clip of a held-out stream on a device."""
    clips = render_clips(
        [stream.seed],
        stream.frames,
        stream.stride,
        (stream.height, stream.width),
        stream.effects,
        stream.loop,
        device,
        laps=stream.laps,
    )
    return TrueClip(
        clips.images[0], clips.depth[0], clips.world_from_camera[0].cpu().numpy(), clips.intrinsics[0].cpu().numpy()
    )


class Worker:
    """Runs tasks with one network, which is kept in each number of bits that came; and keeps the last clip.

    Tasks of one stream follow each other.
    """

    def __init__(self, load: Load, about: dict[str, Any], image_width: int, stop: Callable[[], bool]):
        self._load, self._about, self._image_width, self._stop = load, about, image_width, stop
        self._networks: dict[str, StreamVGGT] = {}
        self._stream: StreamSpec | None = None

    def __call__(self, task: Task, progress: Callable[[], object] = lambda: None) -> dict[str, Any] | None:
        """Return the record of a task, or None if stopped before its end."""

        def check_stop() -> None:
            if self._stop():
                raise Stopped
            progress()

        try:
            check_stop()
            bits = task.configuration.weights_bits
            if bits not in self._networks:
                self._networks[bits] = self._load(weights_bits=int(bits))
            network = self._networks[bits]
            if task.stream != self._stream:
                self._clip, self._stream = render(task.stream, network.device), task.stream
            view = ImageView.of((task.stream.height, task.stream.width), self._image_width)
            tokens = cache_shape(network, view, network.device).frame_tokens
            config = task.configuration.cache_config(task.stream.all_frames, tokens)
            mapping = parse_mapping(task.configuration.mapping)
            predictions = stream_clip(network, config, self._clip, self._image_width, check_stop, mapping)
        except Stopped:
            return None
        return task.about(self._about) | {'frame_tokens': tokens} | measure(self._clip, predictions, task.stream.laps)


_worker: Worker | None = None


def _start_worker(
    load: Load, about: dict[str, Any], image_width: int, stop: Event, deadline: float, threads: int
) -> None:
    # Ctrl-C reaches every process of a terminal; the parent decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    global _worker
    _worker = Worker(load, about, image_width, lambda: stop.is_set() or time.time() > deadline)


def _end_with_parent() -> None:
    # A killed parent cannot tell its pool, whose processes would wait for the next task forever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(task: Task) -> dict[str, Any] | None:
    if _worker is None:
        raise RuntimeError('this process was not started by _start_worker')
    return _worker(task)


def run(
    tasks: Sequence[Task],
    load: Load,
    about: dict[str, Any],
    image_width: int,
    processes: int,
    deadline: float,
    progress: Callable[[int], object] = lambda _: None,
) -> Iterator[dict[str, Any]]:
    """Yield the records of tasks as they finish, until ``deadline`` (time.time()).

    ``load`` must be picklable; each process loads its own network. about: from ``describe``. ``progress`` is called
    with numbers of frames. Leaving the iteration, by Ctrl-C for example, ends the processes within a frame.
    """
    if processes == 1:
        worker = Worker(load, about, image_width, lambda: time.time() > deadline)
        for task in tasks:
            record = worker(task, lambda: progress(1))
            if record is None:
                return
            yield record
        return
    context = multiprocessing.get_context('spawn')
    stop = context.Event()
    threads = max(1, (os.cpu_count() or 1) // processes)
    with ProcessPoolExecutor(
        processes, context, _start_worker, (load, about, image_width, stop, deadline, threads)
    ) as pool:
        # Not futures.wait: Ctrl-C inside it can leave futures locked, so that the pool never ends.
        done: queue.SimpleQueue[Future[dict[str, Any] | None]] = queue.SimpleQueue()
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
