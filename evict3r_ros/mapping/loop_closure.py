# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether two stretches of keyframes show the same place, and how they lie to each other: by seeing them again.

A fresh short stream sees the old keyframes *backwards up to the matching view*, then the new ones from *their* matching
view on, so that the view passes smoothly from then to now; and, for the other direction, the same from now to then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from evict3r_ros import geometry
from evict3r_ros.errors import UserError
from evict3r_ros.mapping.recorder import SHRINK
from evict3r_ros.mapping.sim3 import (
    LEAST_FRAMES,
    WARM_UP,
    Edge,
    OverlapFrame,
    Sim3,
    align_overlap,
    depth_log_ratio,
    mean_rotation,
)
from evict3r_ros.stream import Prediction, Stream

SAME_DEPTH = 0.2
"""Logarithm of two depths' ratio under which they are of the same surface."""
LEAST_SEEN = 0.2
"""Share of a view's pixels that must fall into the other view, or its inliers say nothing."""


@dataclass(frozen=True)
class VerificationSettings:
    """The gates of a loop, all of which it has to pass."""

    window: int = 7
    """Keyframes of then, and of now, that the short stream sees."""
    inliers: float = 0.5
    """Of the pixels of one view that fall into the other: the share of the same depth there, both ways."""
    agree_turn: float = 0.15
    """Radians by which old to new and new to old, and two loops in a row, may disagree."""
    agree_log_scale: float = 0.25
    """The same of the logarithm of scale."""
    agree_way: float = 0.5
    """The same of position, over the median depth."""
    loop_turn: float = 0.05
    """Least standard deviation of a loop's rotation, radians: what the network cannot know better."""
    loop_way: float = 0.1
    """The same of its position, over the median depth."""
    loop_log_scale: float = 0.1
    """The same of the logarithm of its scale."""

    def __post_init__(self) -> None:
        if self.window < WARM_UP + LEAST_FRAMES:
            raise UserError(f'a window of {self.window} keyframes: at least {WARM_UP + LEAST_FRAMES} are needed')
        others = (
            self.agree_turn,
            self.agree_log_scale,
            self.agree_way,
            self.loop_turn,
            self.loop_way,
            self.loop_log_scale,
        )
        if not (0.0 <= self.inliers <= 1.0 and min(others) > 0.0):
            raise UserError('inliers must be a share, and tolerances and deviations of loops positive')


@dataclass(frozen=True)
class View:
    """A keyframe as odometry had it."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB, of the network's size."""
    pose: np.ndarray
    """world_from_camera (4, 4), in odometry's one gauge."""
    depth: np.ndarray
    """(h, w), in odometry's unit; every ``SHRINK``-th pixel of the image."""
    confidence: np.ndarray
    """(h, w)."""
    intrinsics: np.ndarray
    """K (3, 3) of the image."""


@dataclass(frozen=True)
class Measured:
    """What a verification says of two matching views."""

    old_from_new: Sim3
    """From the new camera's frame to the old one's."""
    deviation: np.ndarray
    """(7,): see ``pose_graph.LoopEdge``."""
    depth: float
    """Median of the old view, in odometry's unit: what ways are measured by."""


class LoopVerifier:
    """Looks again at what may be a loop, with a stream of its own."""

    def __init__(self, stream: Stream, settings: VerificationSettings | None = None):
        self._stream = stream
        self.settings = settings or VerificationSettings()

    def verify(self, old: Sequence[View], new: Sequence[View]) -> Measured | str:
        """Return how two matching views lie to each other, or the reason why they do not.

        old, new: stretches of equal length that begin with the matching view and go on in the same direction.
        """
        there = self._measure(old, new)
        back = self._measure(new, old)
        if there is None or back is None:
            return 'no numbers'
        (forth, forth_deviation), (other, back_deviation) = there, back
        other = other.inverse()
        depth = float(np.median(old[0].depth))
        if disagreement(forth, other, depth, self.settings):
            return 'directions disagree'
        found = Sim3(
            float(np.sqrt(forth.scale * other.scale)),
            mean_rotation(np.stack([forth.rotation, other.rotation])),
            0.5 * (forth.translation + other.translation),
        )
        for first, second, second_from_first in ((new[0], old[0], found), (old[0], new[0], found.inverse())):
            if share_of_inliers(first, second, second_from_first) < self.settings.inliers:
                return 'depths disagree'
        settings = self.settings
        floor = np.array([*[settings.loop_turn] * 3, *[settings.loop_way] * 3, settings.loop_log_scale])
        deviation = np.maximum(floor, np.maximum(forth_deviation, back_deviation))
        deviation[3:6] *= depth
        return Measured(found, deviation, depth)

    def _measure(self, first: Sequence[View], second: Sequence[View]) -> tuple[Sim3, np.ndarray] | None:
        """Return first_from_second at the matching views, and its deviation, by a stream from the first to the second.

        The stretch that ends at the match comes first, backwards; each is joined to the stream by what it is far from
        its begin and from the match.
        """
        self._stream.reset()
        seen = [self._stream.step(view.image) for view in (*reversed(first), *second)]
        count = len(first)
        one = _joined(list(reversed(first)), seen[:count])
        two = _joined(list(reversed(second)), list(reversed(seen[count:])))
        if one is None or two is None:
            return None
        moved = one.old_from_new @ two.old_from_new.inverse()
        own = Sim3.rigid(first[0].pose).inverse() @ moved @ Sim3.rigid(second[0].pose)
        return own, np.hypot(one.deviation, two.deviation)


def disagreement(one: Sim3, other: Sim3, depth: float, settings: VerificationSettings) -> bool:
    """Return whether two measurements of old_from_new are too far apart; depth: of the old view."""
    turn = float(np.linalg.norm(geometry.rotation_vector(one.rotation.T @ other.rotation)))
    way = float(np.linalg.norm(one.translation - other.translation)) / max(depth, 1e-9)
    log_scale = abs(float(np.log(one.scale / other.scale)))
    # What is no number is no agreement.
    return not (turn <= settings.agree_turn and way <= settings.agree_way and log_scale <= settings.agree_log_scale)


def share_of_inliers(first: View, second: View, second_from_first: Sim3) -> float:
    """Return, of the pixels of the first view that fall into the second, the share that has the depth seen there.

    0 if too few fall into it to say anything.
    """
    camera = first.intrinsics.copy()
    # Every SHRINK-th pixel, from the middle of the first SHRINK on.
    camera[:2, 2] -= SHRINK // 2
    camera[:2] /= SHRINK
    points = geometry.unproject(first.depth.astype(np.float64), camera).reshape(-1, 3)
    points = second_from_first.scale * points @ second_from_first.rotation.T + second_from_first.translation
    known = np.isfinite(points).all(axis=1) & (points[:, 2] > 1e-6)
    points = points[known]
    pixels = points @ second.intrinsics.T
    places = np.round((pixels[:, :2] / pixels[:, 2:] - SHRINK // 2) / SHRINK)
    height, width = second.depth.shape
    inside = ((places >= 0) & (places < (width, height))).all(axis=1)
    if inside.sum() < LEAST_SEEN * first.depth.size:
        return 0.0
    columns, rows = places[inside].astype(int).T
    with np.errstate(divide='ignore', invalid='ignore'):
        ratio = np.log(points[inside, 2] / second.depth[rows, columns].astype(np.float64))
    return float((np.abs(ratio) < SAME_DEPTH).mean())


def _joined(views: Sequence[View], seen: Sequence[Prediction]) -> Edge | None:
    """Return how a stream lies in odometry, by views that both saw; the first ones are left out."""
    frames = []
    for view, prediction in zip(views, seen, strict=True):
        depth, confidence = (
            part[SHRINK // 2 :: SHRINK, SHRINK // 2 :: SHRINK].cpu()
            for part in (prediction.depth, prediction.confidence)
        )
        own_depth, own_confidence = (
            torch.from_numpy(part.astype(np.float32)) for part in (view.depth, view.confidence)
        )
        ratio = depth_log_ratio(own_depth, depth, own_confidence, confidence)
        frames.append(OverlapFrame(view.pose, prediction.world_from_camera, ratio))
    return align_overlap(frames, float(np.median(views[-1].depth)))
