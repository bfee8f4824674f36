# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A stream for hours: short streams that overlap and follow each other, and leave as one.

A stream that has gone far from its first frame drifts, in what it says of turns above all. So a second one begins while
the first still runs; both see the frames of an overlap; the second takes over, and its gauge is chained to the first's.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch

from evict3r_ros import geometry
from evict3r_ros.cache import CacheConfig
from evict3r_ros.camera.health import LEAST_CONTRAST, contrast
from evict3r_ros.errors import UserError
from evict3r_ros.mapping.keyframes import KeyframeChooser
from evict3r_ros.mapping.sim3 import LEAST_FRAMES, WARM_UP, Edge, OverlapFrame, Sim3, align_overlap, depth_log_ratio
from evict3r_ros.network import StreamVGGT
from evict3r_ros.stream import Prediction, Stream, StreamStats
from evict3r_ros.stream.anchors import motion

_LOG = logging.getLogger(__name__)
ALL, KEYFRAMES = 'all', 'keyframes'
"""What is remembered."""
MOST_EDGES = 1000
"""Edges that are remembered to be looked at; the chain itself is one similarity."""
RATE_FRAMES = 5
"""Frames over which the rate of turning is taken."""


@dataclass(frozen=True)
class SegmentSettings:
    """When a new stream begins, and how it takes over."""

    length: int = 96
    """Keyframes of a stream from its first to the one that the next stream begins at."""
    overlap: int = 16
    """Frames that both streams see."""
    motion: float = 0.01
    """What makes a keyframe: the turn in radians since the last one, plus the way over the median depth."""
    coverage: float = 0.8
    """What makes one as well: less than this share of the last one's points is still in sight."""
    remember: str = ALL
    """What enters the streams' caches: ``all`` frames, or ``keyframes``, and the others are answered only."""
    most_turn: float = 0.03
    """Radians a frame: a camera that turns faster is in mid-turn, and a new stream waits."""
    patience: int = 32
    """Keyframes that a new stream waits at most for the end of a turn; it does not wait for ever."""
    ease: int = 16
    """Frames over which what is left between the two streams at the hand-over is spread, so that the pose is smooth."""

    def __post_init__(self) -> None:
        if self.overlap < WARM_UP + LEAST_FRAMES:
            raise UserError(f'an overlap of {self.overlap} frames: at least {WARM_UP + LEAST_FRAMES} are needed')
        if self.length <= self.overlap:
            raise UserError(f'segments of {self.length} keyframes must be longer than their overlap, {self.overlap}')
        if self.remember not in (ALL, KEYFRAMES):
            raise UserError(f'remember {self.remember!r} is not one of {ALL}, {KEYFRAMES}')
        if not 0.0 <= self.coverage <= 1.0:
            raise UserError(f'a coverage of {self.coverage}: expected 0 to 1')
        if not (self.motion >= 0.0 and self.most_turn > 0.0 and self.patience >= 0 and self.ease >= 0):
            raise UserError('motion, patience and ease must not be negative, and most_turn must be positive')


@dataclass(frozen=True)
class SegmentedStreamStats:
    """Figures of a segmented stream so far."""

    frames: int
    keyframes: int
    segments: int
    """Streams that have answered, the present one included."""
    failed: dict[str, int]
    """Overlaps that were given up, by reason."""
    streams: tuple[StreamStats, StreamStats]
    """The one that answers, and the one that is next."""


class SegmentedStream:
    """Two streams that relieve each other; used as a ``Stream`` is.

    Poses and depths leave in one gauge, that of the first frame: scales are carried over, and the pose does not jump at
    a hand-over. Both streams' memory is allocated at the start, nothing grows. Not thread-safe.
    """

    def __init__(self, first: Stream, second: Stream, settings: SegmentSettings | None = None):
        self.settings = settings or SegmentSettings()
        self._now, self._next = first, second
        self._chooser = KeyframeChooser(self.settings.motion, self.settings.coverage)
        self._begin()

    @classmethod
    def open(
        cls,
        network: StreamVGGT,
        config: CacheConfig,
        camera_size: tuple[int, int] | None = None,
        image_width: int | None = None,
        graph: bool = True,
        settings: SegmentSettings | None = None,
    ) -> SegmentedStream:
        """Make both streams, each as ``Stream`` would be. Raises UserError for settings that cannot work."""
        streams = [Stream(network, config, camera_size, image_width, graph) for _ in range(2)]
        return cls(streams[0], streams[1], settings)

    def __enter__(self) -> SegmentedStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the memory of both streams back."""
        self._now.close()
        self._next.close()

    def reset(self) -> None:
        """Forget everything; the next image, of any size, is the first."""
        self._now.reset()
        self._next.reset()
        self._begin()

    def _begin(self) -> None:
        self._chain = Sim3.identity()
        self.world_from_segment = self._chain
        """The gauge of the stream that answered the latest frame in that of the first."""
        self._own: Prediction | None = None
        self._left_over = np.eye(4)
        self._eased = self.settings.ease
        self._overlap: list[OverlapFrame] | None = None
        self._overlap_keyframes = 0
        self._frames = self._keyframes = 0
        self._segments = 1
        self._segment = 0
        self._failed: dict[str, int] = {}
        self.edges: deque[Edge] = deque(maxlen=MOST_EDGES)
        """Of the latest hand-overs, oldest first."""
        self._recent: deque[np.ndarray] = deque(maxlen=RATE_FRAMES + 1)
        self._age = 0
        self._chooser.reset()
        self.last_is_keyframe = False
        """Whether the latest frame is a keyframe."""

    @property
    def streams(self) -> tuple[Stream, Stream]:
        """The one that answers, and the one that is next."""
        return self._now, self._next

    @property
    def segment(self) -> int:
        """Number of the stream that answered the latest frame, from 0."""
        return self._segment

    @property
    def own_prediction(self) -> Prediction:
        """Return the latest frame's prediction in the gauge of its segment. Raises ValueError before the first."""
        if self._own is None:
            raise ValueError('no frame has come yet')
        return self._own

    def step(self, image: np.ndarray | torch.Tensor) -> Prediction:
        """Return the prediction for the next image (h, w, 3) uint8 RGB, as ``Stream.step`` does.

        A frame that fails leaves the stream to be ``reset``.
        """
        self._segment = self._segments - 1
        self.world_from_segment = self._chain
        remember = self._chooser.is_due or self.settings.remember == ALL
        own = self._now.step(image, remember)
        self._own = own
        self._observe(own, remember)
        answer = self._in_one_gauge(own)
        if self._overlap is None and self._is_time(own, image):
            self._overlap, self._overlap_keyframes = [], 0
        if self._overlap is not None:
            self._continue_overlap(self._overlap, own, answer, image, remember)
        return answer

    def _observe(self, own: Prediction, remembered: bool) -> None:
        """Take in how the camera moved, in the gauge of the stream that answers."""
        self._frames += 1
        self._recent.append(own.world_from_camera)
        self.last_is_keyframe = self._chooser.observe(own, remembered)
        self._keyframes += self.last_is_keyframe
        self._age += self.last_is_keyframe

    def _in_one_gauge(self, own: Prediction) -> Prediction:
        """Return a prediction in the gauge of the first frame, with what was left at the last hand-over eased out."""
        pose = self._chain.pose(own.world_from_camera)
        if self._eased < self.settings.ease:
            self._eased += 1
            share = self._eased / self.settings.ease
            pose = pose @ geometry.interpolate_pose(self._left_over, np.eye(4), share)
        depth = own.depth if self._chain.scale == 1.0 else own.depth * self._chain.scale
        return dataclasses.replace(own, index=self._frames - 1, world_from_camera=pose, depth=depth)

    def _is_time(self, own: Prediction, image: np.ndarray | torch.Tensor) -> bool:
        """Whether a new stream should begin at this frame."""
        settings = self.settings
        if self._age <= settings.length or not self.last_is_keyframe or not _shows_something(image):
            return False
        if self._age > settings.length + settings.patience:
            return True
        turn = motion(
            geometry.transform(self._recent[0][:3, :3], np.zeros(3)),
            geometry.transform(own.world_from_camera[:3, :3], np.zeros(3)),
            1.0,
        )
        return turn <= settings.most_turn * (len(self._recent) - 1)

    def _continue_overlap(
        self,
        overlap: list[OverlapFrame],
        own: Prediction,
        answer: Prediction,
        image: np.ndarray | torch.Tensor,
        remember: bool,
    ) -> None:
        """Let the second stream see the frame; at the end of the overlap it takes over."""
        if not _shows_something(image):
            self._give_up('blank image')
            return
        try:
            new = self._next.step(image, remember)
        except torch.OutOfMemoryError:
            self._give_up('out of memory')
            return
        ratio = depth_log_ratio(own.depth, new.depth, own.confidence, new.confidence)
        overlap.append(OverlapFrame(own.world_from_camera, new.world_from_camera, ratio))
        self._overlap_keyframes += self.last_is_keyframe
        if len(overlap) < self.settings.overlap:
            return
        edge = align_overlap(overlap, float(own.depth.median()))
        if edge is None:
            self._give_up('no numbers')
        else:
            self._hand_over(edge, new, answer)

    def _hand_over(self, edge: Edge, new: Prediction, answer: Prediction) -> None:
        self.edges.append(edge)
        self._chain = self._chain @ edge.old_from_new
        self._now, self._next = self._next, self._now
        self._next.reset()
        # The answer of this frame, seen from where the new stream puts it.
        self._left_over = geometry.invert(self._chain.pose(new.world_from_camera)) @ answer.world_from_camera
        self._eased = 0
        self._overlap = None
        self._segments += 1
        self._age = self._overlap_keyframes
        self._recent.clear()
        self._recent.append(new.world_from_camera)
        self._chooser.restart(new)

    def _give_up(self, reason: str) -> None:
        """Drop the second stream and let the first go on; another attempt comes some keyframes later."""
        self._next.reset()
        self._overlap = None
        self._failed[reason] = self._failed.get(reason, 0) + 1
        _LOG.warning('no hand-over to a new stream (%s): the present one goes on', reason)
        self._age = self.settings.length - self.settings.overlap

    def stats(self) -> SegmentedStreamStats:
        """Return figures for a status line; reads from the device, so not for every frame."""
        return SegmentedStreamStats(
            self._frames, self._keyframes, self._segments, dict(self._failed), (self._now.stats(), self._next.stats())
        )


def _shows_something(image: np.ndarray | torch.Tensor) -> bool:
    """Whether an image (h, w, 3) uint8 is more than one flat colour."""
    pixels = image.numpy(force=True) if isinstance(image, torch.Tensor) else image
    return contrast(pixels) >= LEAST_CONTRAST
