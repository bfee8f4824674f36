# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How a camera moves that is carried by hand, flown or driven: in six degrees of freedom along a closed way in space.

As in ``path``, everything is a smooth function of time in frames, lengths are metres, angles radians, and W worlds come
first in every shape. A way may go round several times before it is once round, so that places come back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evict3r_ros.synthetic.draws import Draws
from evict3r_ros.synthetic.path import look, spline, whole

GAZES = ('look-at', 'heading', 'pan')
LOOK_AT, HEADING, PAN = range(len(GAZES))
CONTROLS = 24
_DENSE = 8
_MARGIN = 0.08
"""Metres that a shake may carry a camera beyond what its way keeps to."""
_TURNS = np.array([6, 8, 12, CONTROLS])
"""Control points of one turn."""
_LEVELS = np.array([(60.0, 300.0), (15.0, 60.0), (3.0, 9.0)])
"""Periods of the slow, the middle and the fast waves, frames."""
STEEPEST = np.radians(80.0)


@dataclass(frozen=True)
class Wander:
    """Where the cameras of W worlds may go and what they may look at."""

    focus: np.ndarray
    """(W, 3): the point of interest."""
    radius: np.ndarray
    """(W, 2): least and greatest distance from it on an orbit."""
    middle: np.ndarray
    """(W, 3)"""
    reach: np.ndarray
    """(W, 3): half extents of a wander about the middle."""
    low: np.ndarray
    high: np.ndarray
    """(W, 3): what no control point leaves."""
    orbit: np.ndarray
    """(W,) bool: on an orbit, or on a wander."""
    scale: np.ndarray
    """(W,) metres: of speeds and of what is looked at; 1 in a living room."""


@dataclass(frozen=True)
class FreeMotion:
    """What each camera does; (W,) unless said otherwise."""

    controls: np.ndarray
    """(W, CONTROLS, 3)"""
    targets: np.ndarray
    """(W, CONTROLS, 3): what look-at looks at, at the same place of the way."""
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
    angles: np.ndarray
    """(W, 3): yaw, pitch and roll, of which look-at takes the roll alone and heading adds the yaw."""
    waves: np.ndarray
    """(W, 6, 3, 3): for yaw, pitch, roll, x, y and z three waves of reach, period and phase."""
    low: np.ndarray
    high: np.ndarray
    """(W, 3): what no camera leaves."""

    def _lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """Return places (n,) on the spline and how many metres (W, n) of way lie before each."""
        place = np.arange(CONTROLS * _DENSE + 1) / _DENSE
        steps = np.linalg.norm(np.diff(self._at_place(self.controls, place), axis=1), axis=-1)
        return place, np.concatenate([np.zeros((len(steps), 1)), np.cumsum(steps, axis=1)], axis=1)

    def _at_place(self, controls: np.ndarray, place: np.ndarray) -> np.ndarray:
        return spline(controls, np.broadcast_to(place, (len(controls), place.shape[-1])))

    def way(self) -> np.ndarray:
        """Return points (W, n, 3) close to each other all the way round, without shake."""
        return self._at_place(self.controls, np.arange(CONTROLS * _DENSE) / _DENSE)

    def poses(self, times: np.ndarray, loop: float | None = None) -> np.ndarray:
        """Return world_from_camera (W, F, 4, 4), OpenCV axes, at times (F,) or (W, F); see ``path.camera_poses``."""
        t = np.broadcast_to(np.asarray(times, dtype=np.float64), (len(self.start), np.shape(times)[-1]))
        place, lengths = self._lengths()
        total = lengths[:, -1:].clip(min=1e-6)
        period, speed = self.period[:, None], self.speed[:, None]
        if loop is not None:
            period, speed = whole(period, loop), total / loop
        phase = 2 * np.pi * t / period
        metres = self.start[:, None] + speed * (t - self.eagerness[:, None] * period / (2 * np.pi) * np.sin(phase))

        def place_of(at: np.ndarray) -> np.ndarray:
            return np.stack([np.interp(m, length, place) for m, length in zip(at % total, lengths, strict=True)])

        here = place_of(metres)
        ahead, behind = (spline(self.controls, place_of(metres + sign * 0.05 * total)) for sign in (1, -1))
        wave = self.waves[..., None, :]
        shake = (wave[..., 0] * np.sin(2 * np.pi * t[:, None, None] / whole(wave[..., 1], loop) + wave[..., 2])).sum(2)
        # A shake must not push the camera through a wall, behind which there is nothing to see.
        position = (spline(self.controls, here) + np.moveaxis(shake[:, 3:], 1, -1)).clip(
            self.low[:, None], self.high[:, None]
        )
        to_target = spline(self.targets, here) - position
        run = ahead - behind
        gaze, (yaw, pitch, roll) = self.gaze[:, None], (self.angles[:, axis, None] for axis in range(3))
        yaw = np.select(
            [gaze == LOOK_AT, gaze == HEADING],
            [np.arctan2(to_target[..., 1], to_target[..., 0]), np.arctan2(run[..., 1], run[..., 0]) + yaw],
            yaw,
        )
        level = np.linalg.norm(to_target[..., :2], axis=-1)
        pitch = np.where(gaze == LOOK_AT, np.arctan2(to_target[..., 2], level), pitch)
        pitch = np.clip(pitch + shake[:, 1], -STEEPEST, STEEPEST)
        return look(position, yaw + shake[:, 0], pitch, roll + shake[:, 2])


def make_free_motions(draws: Draws, wander: Wander) -> FreeMotion:
    """Draw how the cameras move."""
    count = _TURNS[draws.choose((0.3, 0.3, 0.25, 0.15))]
    number = np.arange(CONTROLS) % count[:, None]

    def controls(*shape: int) -> np.ndarray:
        """Draw numbers in -1 … 1 for each control point, the same in every turn."""
        drawn = draws.uniform(-1.0, 1.0, CONTROLS, *shape)
        turns: np.ndarray = drawn[np.arange(len(drawn))[:, None], number]
        return turns

    round_about = draws.chance(0.3)[:, None]
    sweep = draws.log_uniform(0.15, np.pi)[:, None]
    azimuth = np.where(round_about, 2 * np.pi * number / count[:, None] + 0.4 * controls(), sweep * controls())
    azimuth = azimuth + draws.uniform(0, 2 * np.pi)[:, None]
    elevation = np.radians(draws.uniform(3, 65)[:, None] + 12 * controls()).clip(0.02, 1.35)
    distance = draws.uniform(wander.radius[:, 0], wander.radius[:, 1])[:, None] * (1 + 0.35 * controls())
    level = np.cos(elevation)
    around = np.stack([np.cos(azimuth) * level, np.sin(azimuth) * level, np.sin(elevation)], axis=-1)
    orbit = wander.focus[:, None] + around * distance[..., None]
    anywhere = wander.middle[:, None] + controls(3) * wander.reach[:, None]
    points = np.where(wander.orbit[:, None, None], orbit, anywhere).clip(wander.low[:, None], wander.high[:, None])
    roaming = draws.uniform(0.05, 0.6)[:, None, None] * wander.scale[:, None, None]
    targets = wander.focus[:, None] + controls(3) * roaming * (1.0, 1.0, 0.4)
    gaze = np.where(wander.orbit, draws.choose((0.85, 0.05, 0.1)), draws.choose((0.35, 0.35, 0.3)))
    steep = draws.chance(0.5)
    pitch = np.where(steep, draws.uniform(-60, 20), draws.uniform(-20, 8))
    bank = draws.choose((0.6, 0.28, 0.12))
    roll = np.choose(bank, [draws.uniform(-3, 3), draws.uniform(-15, 15), draws.uniform(-45, 45)])
    yaw = np.where(gaze == HEADING, draws.uniform(-0.6, 0.6), draws.uniform(0, 2 * np.pi))
    return FreeMotion(
        points,
        targets,
        draws.uniform(0, 100),
        draws.log_uniform(0.0015, 0.05) * wander.scale,
        draws.uniform(30, 150),
        draws.uniform(0.0, 1.0),
        gaze,
        np.stack([yaw, np.radians(pitch), np.radians(roll)], axis=-1),
        _waves(draws, wander.scale),
        wander.low - _MARGIN,
        wander.high + _MARGIN,
    )


def _waves(draws: Draws, scale: np.ndarray) -> np.ndarray:
    """Draw waves (W, 6, 3, 3): a few cameras are carried wildly, others stand on wheels."""
    worlds = len(draws)
    angles = np.log([(0.01, 0.6), (0.004, 0.16), (0.0005, 0.02)])
    places = np.log([(0.003, 0.08), (0.001, 0.02), (0.0002, 0.003)])
    low, high = np.moveaxis(np.stack([angles] * 3 + [places] * 3), -1, 0)
    # How wildly, from 0 to 1, is the same for all of a camera's waves, but for some scatter.
    wild = (draws.uniform(0, 1)[:, None, None] + draws.uniform(-0.25, 0.25, 6, 3)).clip(0, 1)
    reach = np.exp(low + (high - low) * wild)
    reach[:, 1:3] *= 0.5
    reach[:, 3:] *= scale[:, None, None] ** 0.5
    period = np.exp(draws.uniform(np.log(_LEVELS[:, 0]), np.log(_LEVELS[:, 1]), 6, 3))
    return np.stack([reach, period, draws.uniform(0, 2 * np.pi, 6, 3)], axis=-1).reshape(worlds, 6, 3, 3)
