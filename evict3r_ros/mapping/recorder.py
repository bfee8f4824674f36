# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keyframes of a segmented stream into a map file, as they come."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.mapping.map_file import MOST_KEYFRAMES, Keyframe, MapFile
from evict3r_ros.mapping.segments import SegmentedStream
from evict3r_ros.mapping.sim3 import Edge, Sim3
from evict3r_ros.stream import Prediction
from evict3r_ros.stream.anchors import motion

_LOG = logging.getLogger(__name__)
SHRINK = 4
"""Rows and columns of an image for one of the depth that is kept."""
SLACK = 1.1
"""How much over its cap a map may grow before it is thinned, so that it is not thinned with each keyframe."""


@dataclass(frozen=True)
class TakenKeyframe:
    """A keyframe that is not written yet."""

    keyframe: Keyframe
    """Its segment counted as the stream does."""
    world_from_segment: Sim3
    edge: Edge | None
    """How its segment was joined to the one before it."""

    def with_descriptor(self, descriptor: np.ndarray, correction: Sim3) -> TakenKeyframe:
        """Return it with what it shows, and with what loops have moved so far."""
        keyframe = dataclasses.replace(self.keyframe, descriptor=descriptor, correction=correction)
        return dataclasses.replace(self, keyframe=keyframe)


class MapRecorder:
    """Writes a keyframe when the camera has moved enough since the last one.

    A disk that takes nothing more is told once, and tried again at each keyframe; the stream goes on meanwhile.
    """

    def __init__(self, target: MapFile, spacing: float = 0.1, most: int = MOST_KEYFRAMES):
        """spacing: the turn in radians plus the way over the median depth, from one keyframe to the next."""
        if not (spacing > 0.0 and most >= 2):
            raise UserError(
                f'a spacing of {spacing} and at most {most} keyframes: expected more than 0, and at least 2'
            )
        self._map, self._spacing, self._most = target, spacing, most
        self._written = target.summary().keyframes
        self._taken_segment: int | None = None
        self._segment: int | None = None
        self._segment_in_map = 0
        self._last: np.ndarray | None = None
        self.lost = 0
        """Keyframes that could not be written."""
        self.thinned = 0
        """How often the map was thinned."""

    def observe(self, stamp_ns: int, stream: SegmentedStream) -> bool:
        """Take in the stream's latest frame; return whether it was written as a keyframe."""
        taken = self.take(stamp_ns, stream)
        return taken is not None and self.write(taken) is not None

    def take(self, stamp_ns: int, stream: SegmentedStream) -> TakenKeyframe | None:
        """Return the stream's latest frame for ``write`` if it is to be a keyframe; touches no file."""
        own = stream.own_prediction
        if stream.segment == self._taken_segment and self._last is not None:
            moved = motion(self._last, own.world_from_camera, float(own.depth.median()))
            if not moved >= self._spacing:
                return None
        self._last, self._taken_segment = own.world_from_camera, stream.segment
        edge = stream.edges[-1] if stream.segment > 0 else None
        return TakenKeyframe(_keyframe(stamp_ns, stream.segment, own), stream.world_from_segment, edge)

    def write(self, taken: TakenKeyframe) -> int | None:
        """Write a keyframe that was taken; return its number in the map, None if the map takes nothing."""
        try:
            if taken.keyframe.segment != self._segment:
                self._segment_in_map = self._map.add_segment(taken.world_from_segment, taken.edge)
                self._segment = taken.keyframe.segment
            number = self._map.add_keyframe(dataclasses.replace(taken.keyframe, segment=self._segment_in_map))
            self._written += 1
            if self._written > SLACK * self._most:
                self._written -= self._map.thin(self._most)
                self.thinned += 1
        except UserError as error:
            if not self.lost:
                _LOG.error('%s; keyframes are lost from here on until there is room', error)
            self.lost += 1
            return None
        return number


def _keyframe(stamp_ns: int, segment: int, own: Prediction) -> Keyframe:
    depth, confidence = (
        part[SHRINK // 2 :: SHRINK, SHRINK // 2 :: SHRINK].half().cpu().numpy() for part in (own.depth, own.confidence)
    )
    return Keyframe(
        stamp_ns, segment, own.world_from_camera, own.intrinsics, depth, confidence, own.image.cpu().numpy()
    )
