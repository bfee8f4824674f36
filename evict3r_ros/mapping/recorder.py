# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keyframes of a segmented stream into a map file, as they come."""

from __future__ import annotations

import logging

import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.mapping.map_file import MOST_KEYFRAMES, Keyframe, MapFile
from evict3r_ros.mapping.segments import SegmentedStream
from evict3r_ros.stream import Prediction
from evict3r_ros.stream.anchors import motion

_LOG = logging.getLogger(__name__)
SHRINK = 4
"""Rows and columns of an image for one of the depth that is kept."""
SLACK = 1.1
"""How much over its cap a map may grow before it is thinned, so that it is not thinned with each keyframe."""


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
        self._segment: int | None = None
        self._segment_in_map = 0
        self._last: np.ndarray | None = None
        self.lost = 0
        """Keyframes that could not be written."""

    def observe(self, stamp_ns: int, stream: SegmentedStream) -> bool:
        """Take in the stream's latest frame; return whether it was written as a keyframe."""
        own = stream.own_prediction
        depth = float(own.depth.median())
        is_new_segment = stream.segment != self._segment
        if not is_new_segment and self._last is not None:
            moved = motion(self._last, own.world_from_camera, depth)
            if not moved >= self._spacing:
                return False
        self._last = own.world_from_camera
        try:
            if is_new_segment:
                edge = stream.edges[-1] if stream.segment > 0 else None
                self._segment_in_map = self._map.add_segment(stream.world_from_segment, edge)
                self._segment = stream.segment
            self._map.add_keyframe(_keyframe(stamp_ns, self._segment_in_map, own))
            self._written += 1
            if self._written > SLACK * self._most:
                self._written -= self._map.thin(self._most)
        except UserError as error:
            if not self.lost:
                _LOG.error('%s; keyframes are lost from here on until there is room', error)
            self.lost += 1
            return False
        return True


def _keyframe(stamp_ns: int, segment: int, own: Prediction) -> Keyframe:
    depth, confidence = (
        part[SHRINK // 2 :: SHRINK, SHRINK // 2 :: SHRINK].half().cpu().numpy() for part in (own.depth, own.confidence)
    )
    return Keyframe(
        stamp_ns, segment, own.world_from_camera, own.intrinsics, depth, confidence, own.image.cpu().numpy()
    )
