# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a segmented stream to a map whose loops are closed: beside the stream, which never waits for it."""

from __future__ import annotations

import logging
import queue
import threading
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch

from evict3r_ros.errors import UserError
from evict3r_ros.mapping.candidates import Candidate, find_candidate
from evict3r_ros.mapping.descriptor import Describer, DescriptorIndex
from evict3r_ros.mapping.loop_closure import LoopVerifier, Measured, View, disagreement
from evict3r_ros.mapping.map_file import MapFile
from evict3r_ros.mapping.pose_graph import LoopEdge, PoseGraph
from evict3r_ros.mapping.recorder import MapRecorder, TakenKeyframe
from evict3r_ros.mapping.segments import SegmentedStream
from evict3r_ros.mapping.settings import MappingSettings
from evict3r_ros.mapping.sim3 import Sim3

_LOG = logging.getLogger(__name__)
MOST_WAITING = 256
"""Keyframes that wait to be taken into the map; more are lost, and counted."""


@dataclass(frozen=True)
class MapperStats:
    """Figures of a map that is being made."""

    keyframes: int
    candidates: int
    loops: int
    """That the graph believed."""
    rejected: dict[str, int]
    """Candidates that were not believed, by reason."""
    lost: int
    """See ``Mapper.lost``."""


class Mapper:
    """Takes keyframes into a map, finds loops and closes them; a context manager.

    In the background, ``observe`` only copies a keyframe, and all else happens in a thread of its own; otherwise it
    happens in ``observe``, for runs that have to be repeatable. The map file is this object's own until it is closed.
    """

    def __init__(
        self,
        target: MapFile,
        describe: Describer,
        verifier: LoopVerifier,
        settings: MappingSettings | None = None,
        background: bool = True,
    ):
        self.settings = settings or MappingSettings()
        self._map, self._describe, self._verifier = target, describe, verifier
        self._recorder = MapRecorder(target, self.settings.spacing, self.settings.most)
        self._lock = threading.Lock()
        self._graph = PoseGraph(self.settings.graph)
        self._index = DescriptorIndex()
        self._nodes: dict[int, int] = {}
        """Node of the graph by the keyframe's number in the map."""
        self._segments: dict[int, Sim3] = {}
        self._unconfirmed: tuple[Candidate, Measured, LoopEdge] | None = None
        self._tried = -self.settings.rest
        self._thinned = 0
        self._candidates = self._skipped = 0
        self._rejected: dict[str, int] = {}
        self.accepted: list[tuple[int, int]] = []
        """Stamps in nanoseconds of the older and the newer keyframe of each loop that was believed."""
        self._stamps: list[int] = []
        self._waiting: queue.Queue[TakenKeyframe | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._work, name='mapper', daemon=True) if background else None
        if self._thread is not None:
            self._thread.start()

    def __enter__(self) -> Mapper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish what waits, and end the thread."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def observe(self, stamp_ns: int, stream: SegmentedStream) -> bool:
        """Take in the stream's latest frame; return whether it goes into the map as a keyframe."""
        taken = self._recorder.take(stamp_ns, stream)
        if taken is None:
            return False
        if self._thread is None:
            self._take_in(taken)
            return True
        try:
            self._waiting.put_nowait(taken)
        except queue.Full:
            self._skipped += 1
            return False
        return True

    def corrections(self) -> list[tuple[int, Sim3]]:
        """Return, for each keyframe by its stamp, what takes odometry's world to the map's there."""
        with self._lock:
            return [(stamp, self._graph.correction(node)) for node, stamp in enumerate(self._stamps)]

    def latest_correction(self) -> Sim3:
        """Return what takes odometry's world to the map's now."""
        with self._lock:
            return self._graph.correction(len(self._graph) - 1) if len(self._graph) else Sim3.identity()

    @property
    def lost(self) -> int:
        """Keyframes that the map did not take: a full disk, or too many at once."""
        return self._recorder.lost + self._skipped

    def stats(self) -> MapperStats:
        """Return figures so far."""
        with self._lock:
            return MapperStats(
                len(self._graph), self._candidates, len(self._graph.loops), dict(self._rejected), self.lost
            )

    def _work(self) -> None:
        while (taken := self._waiting.get()) is not None:
            self._take_in(taken)

    def _take_in(self, taken: TakenKeyframe) -> None:
        """Add a keyframe; what goes wrong with it costs itself only."""
        try:
            self._add(taken)
        except (UserError, torch.OutOfMemoryError) as error:
            self._reject('failed')
            _LOG.error('%s; no loop is looked for at this keyframe', error)

    def _add(self, taken: TakenKeyframe) -> None:
        described = taken.with_descriptor(self._describe(taken.keyframe.image), self.latest_correction())
        number = self._recorder.write(described)
        if number is None or described.keyframe.descriptor is None:
            return
        pose = taken.world_from_segment.pose(taken.keyframe.world_from_camera)
        depth = taken.world_from_segment.scale * float(np.median(taken.keyframe.depth))
        with self._lock:
            self._nodes[number] = self._graph.add(pose, depth)
            self._stamps.append(taken.keyframe.stamp_ns)
        self._index.add(number, described.keyframe.descriptor)
        if self._recorder.thinned > self._thinned:
            self._thinned = self._recorder.thinned
            self._index.keep(np.array(self._map.numbers()))
            self._unconfirmed, self._tried = None, -self.settings.rest
        self._look_for_a_loop()

    def _look_for_a_loop(self) -> None:
        """Look at the keyframe for which enough have come after it."""
        new = len(self._index) - self._verifier.settings.window
        if new < 0 or new < self._tried + self.settings.rest:
            return
        candidate = find_candidate(self._index, new, self.settings.candidates)
        if candidate is None:
            return
        self._tried = new
        self._candidates += 1
        rows = np.arange(self._verifier.settings.window)
        old_rows = candidate.old + candidate.direction * rows
        if old_rows.min() < 0 or old_rows.max() >= new:
            return self._reject('at the edge of the map')
        found = self._verifier.verify(self._views(old_rows), self._views(new + rows))
        if isinstance(found, str):
            return self._reject(found)
        numbers = self._index.numbers
        old_node, new_node = (self._nodes[int(numbers[row])] for row in (candidate.old, candidate.new))
        self._confirm(candidate, found, LoopEdge(old_node, new_node, found.old_from_new, found.deviation))
        return None

    def _confirm(self, candidate: Candidate, found: Measured, edge: LoopEdge) -> None:
        """Believe a loop if the one before it says the same of how then and now lie to each other."""
        before, self._unconfirmed = self._unconfirmed, (candidate, found, edge)
        if before is None or candidate.new - before[0].new > 4 * self.settings.rest:
            return self._reject('waits for another')
        predicted = self._carried(before[2], edge)
        if disagreement(predicted, found.old_from_new, found.depth, self._verifier.settings):
            return self._reject('neighbours disagree')
        self._close(edge)
        return None

    def _carried(self, loop: LoopEdge, to: LoopEdge) -> Sim3:
        """Return what one loop says of the ends of another, by odometry in between."""
        old = self._graph.odometry(to.old).inverse() @ self._graph.odometry(loop.old)
        new = self._graph.odometry(loop.new).inverse() @ self._graph.odometry(to.new)
        return old @ loop.old_from_new @ new

    def _close(self, edge: LoopEdge) -> None:
        # Without the lock: readers go on with the graph as it is, and nobody else changes it.
        found = self._graph.solve(edge)
        if isinstance(found, str):
            return self._reject(found)
        with self._lock:
            self._graph.accept(edge, found)
        self.accepted.append((self._stamps[edge.old], self._stamps[edge.new]))
        of_node = {node: number for number, node in self._nodes.items()}
        self._map.add_loop(of_node[edge.old], of_node[edge.new], edge.old_from_new, edge.deviation)
        self._map.correct((number, self._graph.correction(node)) for number, node in self._nodes.items())
        return None

    def _reject(self, reason: str) -> None:
        with self._lock:
            self._rejected[reason] = self._rejected.get(reason, 0) + 1

    def _views(self, rows: np.ndarray) -> list[View]:
        views = []
        if not self._segments or len(self._segments) < self._map.summary().segments:
            self._segments = dict(self._map.segments())
        for number in self._index.numbers[rows]:
            keyframe = self._map.keyframe(int(number))
            segment = self._segments[keyframe.segment]
            views.append(
                View(
                    keyframe.image,
                    segment.pose(keyframe.world_from_camera),
                    segment.scale * keyframe.depth.astype(np.float64),
                    keyframe.confidence,
                    keyframe.intrinsics,
                )
            )
        return views
