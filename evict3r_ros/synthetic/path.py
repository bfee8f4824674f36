# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How a camera moves along the way of its floor plan: when it goes, stops and turns, and where it looks.

Everything is a smooth function of time, counted in frames of a camera at rest speed (stride 1): a stride leaves frames
out, it does not change the path. Lengths in metres, angles in radians; W worlds come first in every shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evict3r_ros.synthetic.draws import Draws
from evict3r_ros.synthetic.layout import HALL, ROOM, Layout

GAZES = ('forward', 'aside', 'look-at', 'pan')
FORWARD, ASIDE, LOOK_AT, PAN = range(len(GAZES))
_DENSE = 16
"""Pieces that each piece of the spline is measured in."""


def spline(controls: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return points (W, n, d) of closed uniform cubic B-splines with controls (W, K, d) at place (W, n), in pieces."""
    pieces = controls.shape[1]
    piece = np.floor(place)
    t = (place - piece)[..., None]
    index = piece.astype(np.int64)
    row = np.arange(len(controls))[:, None]
    a, b, c, d = (controls[row, (index + shift) % pieces] for shift in range(4))
    points: np.ndarray = (
        (1 - t) ** 3 * a + (3 * t**3 - 6 * t**2 + 4) * b + (-3 * t**3 + 3 * t**2 + 3 * t + 1) * c + t**3 * d
    ) / 6
    return points


class Way:
    """The closed way through a plan, by length: ``at`` says where one is after so many metres."""

    def __init__(self, controls: np.ndarray):
        self._controls = controls
        pieces = controls.shape[1]
        self._place = np.arange(pieces * _DENSE + 1) / _DENSE
        self.dense = spline(controls, np.broadcast_to(self._place, (len(controls), len(self._place))))
        """(W, n, 2): points close to each other all the way round."""
        steps = np.linalg.norm(np.diff(self.dense, axis=1), axis=-1)
        self._length = np.concatenate([np.zeros((len(controls), 1)), np.cumsum(steps, axis=1)], axis=1)
        self.total = self._length[:, -1]
        """(W,) metres once round."""
        self._make_heading()

    def _make_heading(self) -> None:
        """Integrate the direction of travel over length, three times round."""
        run = np.diff(self.dense, axis=1)
        yaw = np.unwrap(np.arctan2(run[..., 1], run[..., 0]), axis=1)
        back = np.arctan2(np.sin(yaw[:, 0] - yaw[:, -1]), np.cos(yaw[:, 0] - yaw[:, -1]))
        self._winding = yaw[:, -1] - yaw[:, 0] + back
        turns = [yaw + turn * self._winding[:, None] for turn in (-1, 0, 1)]
        steps = np.tile(np.diff(self._length, axis=1), 3)
        self._heading = np.concatenate(
            [np.zeros((len(yaw), 1)), np.cumsum(np.concatenate(turns, 1) * steps, axis=1)], 1
        )
        self._heading_at = np.concatenate([np.zeros((len(yaw), 1)), np.cumsum(steps, axis=1)], 1) - self.total[:, None]

    def heading(self, metres: np.ndarray, behind: float, ahead: float) -> np.ndarray:
        """Return the mean direction of travel (W, n) from so far behind to so far ahead, continuous, radians."""
        turn = np.floor(metres / self.total[:, None])
        first, last = metres - turn * self.total[:, None] - behind, metres - turn * self.total[:, None] + ahead

        def integral(at: np.ndarray) -> np.ndarray:
            return np.stack([np.interp(*row) for row in zip(at, self._heading_at, self._heading, strict=True)])

        mean: np.ndarray = (integral(last) - integral(first)) / (behind + ahead) + turn * self._winding[:, None]
        return mean

    def at(self, metres: np.ndarray) -> np.ndarray:
        """Return the points (W, n, 2) after so many metres (W, n)."""
        metres = metres % self.total[:, None]
        place = np.stack([np.interp(m, length, self._place) for m, length in zip(metres, self._length, strict=True)])
        return spline(self._controls, place)


@dataclass(frozen=True)
class Motion:
    """What a world's camera does; (W,) unless said otherwise."""

    way: Way
    start: np.ndarray
    """Metres along the way."""
    speed: np.ndarray
    """Metres a frame, the mean."""
    period: np.ndarray
    """Frames from one stop to the next."""
    eagerness: np.ndarray
    """0: steady speed; 1: comes to rest once a period."""
    gaze: np.ndarray
    """int: index into GAZES."""
    target: np.ndarray
    """(W, 2): what look-at looks at."""
    aside: np.ndarray
    pan: np.ndarray
    """(W, 3): reach, period and phase of panning."""
    turn: np.ndarray
    """Turned on the spot at each stop."""
    height: np.ndarray
    """(W, 2): above the floor; reach of its slow change."""
    bob: np.ndarray
    """(W, 2): reach and period of the steps."""
    pitch: np.ndarray
    shake: np.ndarray
    """(W, 3, 2, 3): for yaw, pitch and roll two waves of reach, period and phase."""

    def poses(self, times: np.ndarray, loop: float | None = None) -> np.ndarray:
        """See ``camera_poses``."""
        return camera_poses(self, times, loop)


def make_motions(draws: Draws, layout: Layout, loop: bool) -> Motion:
    """Draw how the cameras move; on loops they look where they go, so that a round shows all of it."""
    way = Way(layout.way)
    single = np.isin(layout.kind, (ROOM, HALL))
    gaze = np.where(single, draws.choose((0.25, 0.2, 0.35, 0.2)), draws.choose((0.5, 0.3, 0.0, 0.2)))
    if loop:
        gaze = np.where(draws.chance(0.75), FORWARD, ASIDE)
    # A look-at target stands at the middle, which open ways go around, or at a wall, which they keep away from.
    angle = draws.uniform(0, 2 * np.pi)
    middle = draws.chance(0.5)[:, None]
    target = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * layout.size[:, :2] * np.where(middle, 0.04, 0.7)
    hurry = np.where(layout.kind == HALL, 1.6, 1.0)
    tall = layout.size[:, 2]
    reach = np.stack(
        [draws.log_uniform(0.004, 0.06, 2), draws.log_uniform(0.004, 0.05, 2), draws.log_uniform(0.002, 0.04, 2)],
        axis=1,
    )
    return Motion(
        way,
        draws.uniform(0, 1) * way.total,
        draws.log_uniform(0.016, 0.05) * hurry,
        draws.uniform(38, 90),
        draws.uniform(0.6, 1.0),
        gaze,
        target,
        draws.uniform(0.3, 1.3 if loop else 2.6) * np.sign(draws.uniform(-1, 1)),
        np.stack([draws.uniform(0.2, 1.0), draws.uniform(110, 260), draws.uniform(0, 2 * np.pi)], axis=-1),
        np.where(draws.chance(0.0 if loop else 0.25), draws.uniform(-1.1, 1.1), 0.0),
        np.stack([np.minimum(draws.uniform(0.4, 1.8), tall - 0.7), draws.uniform(0.0, 0.15)], axis=-1),
        np.stack([draws.uniform(0.0, 0.03), draws.uniform(14, 26)], axis=-1),
        draws.uniform(-0.3, 0.12),
        np.stack([reach, draws.log_uniform(25, 160, 3, 2), draws.uniform(0, 2 * np.pi, 3, 2)], axis=-1),
    )


def camera_poses(motion: Motion, times: np.ndarray, loop: float | None = None) -> np.ndarray:
    """Return world_from_camera (W, F, 4, 4), OpenCV axes, at the times (F,) or (W, F) in frames.

    loop: the number of frames after which the way has been gone round exactly once, whatever the speed.
    """
    t = np.broadcast_to(np.asarray(times, dtype=np.float64), (len(motion.start), np.shape(times)[-1]))
    period, speed = motion.period[:, None], motion.speed[:, None]
    if loop is not None:
        # Whole numbers of stops and steps, so that the last frame leads into the first.
        period = loop / np.maximum(1, np.round(loop / period))
        speed = motion.way.total[:, None] / loop
    phase = 2 * np.pi * t / period
    metres = motion.start[:, None] + speed * (t - motion.eagerness[:, None] * period / (2 * np.pi) * np.sin(phase))
    position = motion.way.at(metres)
    height = motion.height[:, :1] + motion.height[:, 1:] * np.sin(2 * np.pi * t / whole(period * 3, loop))
    height = height + motion.bob[:, :1] * np.sin(2 * np.pi * t / whole(motion.bob[:, 1:], loop))
    # Averaged over some way, a bend becomes a smooth turn that begins before it.
    forward = motion.way.heading(metres, behind=0.5, ahead=1.5)
    to_target = motion.target[:, None] - position
    look_at = np.arctan2(to_target[..., 1], to_target[..., 0])
    reach, pan_period, pan_phase = (motion.pan[:, i : i + 1] for i in range(3))
    pan = motion.aside[:, None] * 2 + reach * np.sin(2 * np.pi * t / whole(pan_period, loop) + pan_phase)
    gaze = motion.gaze[:, None]
    yaw = np.select(
        [gaze == FORWARD, gaze == ASIDE, gaze == LOOK_AT], [forward, forward + motion.aside[:, None], look_at], pan
    )
    yaw = yaw + motion.turn[:, None] * (t / period + np.sin(phase) / (2 * np.pi))
    wave = motion.shake[..., None, :]
    shake = (wave[..., 0] * np.sin(2 * np.pi * t[:, None, None] / whole(wave[..., 1], loop) + wave[..., 2])).sum(2)
    return look(
        np.concatenate([position, height[..., None]], axis=-1),
        yaw + shake[:, 0],
        motion.pitch[:, None] + shake[:, 1],
        shake[:, 2],
    )


def whole(period: np.ndarray, loop: float | None) -> np.ndarray:
    """Return the period itself, or on a loop the nearest one that divides it."""
    return period if loop is None else loop / np.maximum(1, np.round(loop / period))


def look(position: np.ndarray, yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Return world_from_camera (..., 4, 4): yaw about world z from x, pitch upwards, roll about the optical axis."""
    level = np.cos(pitch)
    forward = np.stack([np.cos(yaw) * level, np.sin(yaw) * level, np.sin(pitch)], axis=-1)
    right = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)], axis=-1)
    down = np.cross(forward, right)
    cos, sin = np.cos(roll)[..., None], np.sin(roll)[..., None]
    poses = np.zeros((*yaw.shape, 4, 4))
    poses[..., :3, 0] = cos * right + sin * down
    poses[..., :3, 1] = cos * down - sin * right
    poses[..., :3, 2] = forward
    poses[..., :3, 3] = position
    poses[..., 3, 3] = 1.0
    return poses
