# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether odometry's covariance is that of its errors: fitted on one set of streams, judged on another.

The scale is aligned once a stream (Sim(3) of the whole path), because a single camera gives none. From several frames
of each stream an odometry starts, as the node's does, and its pose and covariance are compared with the truth after
each of GAPS frames; its twist after each frame. Normalised estimation error squared (NEES): error^T covariance^-1
error, 6 on average where the covariance is right, 3 for position or attitude alone (Bar-Shalom, Li, Kirubarajan 2001,
section 5.4).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from evict3r_ros import geometry
from evict3r_ros.evaluation.metrics import pose
from evict3r_ros.evaluation.studies.tracks import Track
from evict3r_ros.odometry.drift import DriftModel
from evict3r_ros.odometry.integrator import OdometryIntegrator, OdometryState
from evict3r_ros.odometry.scale import ScaleState

GAPS = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Frames after which a pose is compared; the last frame of a stream besides."""
STARTS = 12
"""Odometries that are started in each stream, evenly spread."""
STEP_NS = 100_000_000
"""Between two frames. No figure depends on it: a twist and its deviation are divided by the same time."""
ROUNDS = 200
NAMES = tuple(field.name for field in fields(DriftModel))
_PARTS = {'all': slice(0, 6), 'position': slice(0, 3), 'rotation': slice(3, 6)}


@dataclass(frozen=True)
class Errors:
    """Errors (n, 6), position first, of poses or twists after ``gap`` frames (n,), and where the constants stand.

    parts (n, constants, 6, 6): what each constant of the model, at 1, adds to the covariance, which is their sum, each
    weighted with the square of its constant.
    """

    error: np.ndarray
    parts: np.ndarray
    gap: np.ndarray

    def covariance(self, drift: DriftModel) -> np.ndarray:
        """Return the covariances (n, 6, 6) that constants give."""
        weights = np.array([getattr(drift, name) ** 2 for name in NAMES])
        covariance: np.ndarray = np.einsum('b,nbij->nij', weights, self.parts)
        return covariance

    def nees(self, drift: DriftModel, part: str = 'all') -> np.ndarray:
        """Return the normalised errors squared (n,): of all six degrees of freedom, or of three."""
        rows = _PARTS[part]
        error, covariance = self.error[:, rows], self.covariance(drift)[:, rows, rows]
        squared: np.ndarray = np.einsum('ni,ni->n', error, np.linalg.solve(covariance, error[..., None])[..., 0])
        return squared

    def where(self, chosen: np.ndarray) -> Errors:
        """Return some of them."""
        return Errors(self.error[chosen], self.parts[chosen], self.gap[chosen])


def join(errors: Iterable[Errors]) -> Errors:
    """Return errors of several tracks as one."""
    listed = list(errors)
    return Errors(
        np.concatenate([each.error for each in listed]),
        np.concatenate([each.parts for each in listed]),
        np.concatenate([each.gap for each in listed]),
    )


def pose_errors(track: Track) -> Errors:
    """Return the errors of odometries that start in several frames of a track, after GAPS frames."""
    poses = _in_metres(track)
    found = []
    for start in _starts(len(track)):
        gaps = [gap for gap in GAPS if start + gap < len(track)]
        if start == 0 and len(track) - 1 not in gaps:
            gaps.append(len(track) - 1)
        states = [_run(poses, start, gaps[-1], _only(name)) for name in NAMES]
        true = geometry.invert(track.truth[start]) @ track.truth[start : start + gaps[-1] + 1]
        for gap in gaps:
            at = states[0][gap].odom_from_child
            parts = np.stack([each[gap].pose_covariance for each in states])
            if start > 0:
                parts += _of_start(at[:3, 3])
            error = np.concatenate(
                [at[:3, 3] - true[gap][:3, 3], geometry.rotation_vector(at[:3, :3] @ true[gap][:3, :3].T)]
            )
            found.append(Errors(error[None], parts[None], np.array([gap])))
    return join(found)


def twist_errors(track: Track) -> Errors:
    """Return the errors of the twist of each frame but the first."""
    poses = _in_metres(track)
    states = [_run(poses, 0, len(track) - 1, _only(name)) for name in NAMES]
    found = []
    for index in range(1, len(track)):
        true = geometry.constant_twist(geometry.invert(track.truth[index - 1]) @ track.truth[index]) / (STEP_NS * 1e-9)
        parts = np.stack([each[index].twist_covariance for each in states])
        found.append(Errors((states[0][index].twist - true)[None], parts[None], np.array([1])))
    return join(found)


def _in_metres(track: Track) -> np.ndarray:
    """Return the poses with one scale for the track."""
    poses: np.ndarray = track.poses.copy()
    poses[:, :3, 3] *= pose.align(track.poses[:, :3, 3], track.truth[:, :3, 3]).scale
    return poses


def _starts(frames: int) -> list[int]:
    """Return the frames that odometries start in: each has one after it."""
    return sorted({int(share * (frames - 1)) for share in np.linspace(0.0, 1.0, STARTS, endpoint=False)})


def _only(name: str) -> DriftModel:
    """Return the model of which one constant is 1 and the others 0."""
    return DriftModel(**{each: float(each == name) for each in NAMES})


def _run(poses: np.ndarray, start: int, frames: int, drift: DriftModel) -> list[OdometryState]:
    """Return the states of an odometry of the camera itself that begins at a frame; poses are in metres."""
    odometry, metric = OdometryIntegrator(np.eye(4), drift=drift), ScaleState(1.0, 0.0, True, 'fixed')
    return [odometry.advance(index * STEP_NS, poses[start + index], metric) for index in range(frames + 1)]


def _of_start(position: np.ndarray) -> np.ndarray:
    """Return what the error of the pose where an odometry started adds to the covariance (constants, 6, 6) at a place.

    A stream's own first pose has none.
    """
    lever = np.eye(6)
    lever[:3, 3:] = -geometry.skew(position)
    floors = np.stack([np.diag(_only(name).floor) for name in NAMES])
    moved: np.ndarray = lever @ floors @ lever.T
    return moved


def fit(errors: Errors) -> DriftModel:
    """Return the constants under which normal errors are most likely, to four digits.

    Minorise and maximise for variance components (Zhou, Hu, Zhou, Lange, JCGS 2019, equation 2.3): each round is surely
    better than the one before, and no constant becomes negative.
    """
    drift = DriftModel()
    for _ in range(ROUNDS):
        inverse = np.linalg.inv(errors.covariance(drift))
        whitened = np.einsum('nij,nj->ni', inverse, errors.error)
        pull = np.einsum('ni,nbij,nj->b', whitened, errors.parts, whitened)
        weight = np.einsum('nij,nbji->b', inverse, errors.parts)
        drift = replace(
            drift,
            **{
                name: float(getattr(drift, name) * (pull[index] / weight[index]) ** 0.25)
                for index, name in enumerate(NAMES)
            },
        )
    return DriftModel(*(float(f'{getattr(drift, name):.4g}') for name in NAMES))


def judge(errors: Errors, models: dict[str, DriftModel]) -> dict[str, Any]:
    """Return mean and median NEES of each model: all degrees of freedom, position, rotation."""
    return {
        name: {
            part: {'mean': float(squared.mean()), 'median': float(np.median(squared))}
            for part in _PARTS
            for squared in (errors.nees(drift, part),)
        }
        for name, drift in models.items()
    }


def growth(errors: Errors, models: dict[str, DriftModel]) -> list[dict[str, Any]]:
    """Return for each gap the root mean squares of the errors and each model's mean NEES."""
    rows = []
    for gap in sorted(set(errors.gap.tolist())):
        some = errors.where(errors.gap == gap)
        rows.append(
            {
                'gap': gap,
                'poses': len(some.error),
                'position': pose.rms(np.linalg.norm(some.error[:, :3], axis=1)),
                'rotation_deg': float(np.degrees(pose.rms(np.linalg.norm(some.error[:, 3:], axis=1)))),
                'nees': judge(some, models),
            }
        )
    return rows


def markdown(nees: dict[str, Any]) -> str:
    """Return what ``judge`` said of several sets of errors, by name, as a table."""
    lines = [
        '| errors | constants | NEES, mean / median (expected: 6 / 5.3) | position (3 / 2.4) | rotation (3 / 2.4) |',
        '|---|---|---|---|---|',
    ]
    for name, models in nees.items():
        for model, row in models.items():
            cells = [f'{row[part]["mean"]:.1f} / {row[part]["median"]:.1f}' for part in _PARTS]
            lines.append(f'| {name} | {model} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def growth_table(rows: list[dict[str, Any]]) -> str:
    """Return what ``growth`` said as a table."""
    models = list(rows[0]['nees'])
    lines = [
        f'| after frames | poses | position [m] | rotation [°] | {" | ".join(f"NEES, {model}" for model in models)} |',
        '|---' * (4 + len(models)) + '|',
    ]
    for row in rows:
        cells = [f'{row["nees"][model]["all"][what]:.1f}' for model in models for what in ('mean', 'median')]
        pairs = [f'{mean} / {median}' for mean, median in zip(cells[::2], cells[1::2], strict=True)]
        lines.append(
            f'| {row["gap"]} | {row["poses"]} | {row["position"]:.3f} | {row["rotation_deg"]:.2f} | '
            f'{" | ".join(pairs)} |'
        )
    return '\n'.join(lines)
