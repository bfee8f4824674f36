# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How uncertain a pose becomes: with what the camera moves, and with time while it sees nothing. No ROS.

The constants of a network are measured (`evict3r study covariance`) and lie beside its weights.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

_LOG = logging.getLogger(__name__)
STRAIGHT_S = 10.0
"""For how long a robot that nobody sees may go straight on. An assumption, like the next."""
STANDS = 0.01
"""m/s and rad/s that it may move although it stood still."""
SUFFIX = '.drift.json'
"""Of the file beside the weights: `tiny.drift.json` is that of `tiny.safetensors`."""


@dataclass(frozen=True)
class DriftModel:
    """Standard deviations along each axis of what a network says of a camera's motion: a random walk.

    Each step errs in proportion to itself. So a pose that jumps, which is how a network errs most, is as uncertain as
    its jump is large, and a camera that stands still stays as certain as it was. The values here are for weights that
    nobody has measured.
    """

    position: float = 1.0
    """Of a step's translation, as a share of its length."""
    rotation: float = 0.7
    """Of a step's rotation, as a share of its angle."""
    floor_position: float = 0.02
    """Of each single position, in metres (in the network's unit, until metric); it does not add up."""
    floor_rotation: float = 0.01
    """Of each single attitude, in radians; it does not add up."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0.0 <= value < math.inf:
                raise ValueError(f'{name} must be 0 or more, not {value}')

    def step(self, length: float, turn: float) -> np.ndarray:
        """Return the (6,) variances, position first, that a step of a length in metres and an angle in radians adds.

        They are the same along all axes, so that it does not matter whose axes they are.
        """
        return np.array([(self.position * length) ** 2] * 3 + [(self.rotation * turn) ** 2] * 3)

    @property
    def floor(self) -> np.ndarray:
        """The (6,) variances, position first, of a single pose."""
        return np.array([self.floor_position**2] * 3 + [self.floor_rotation**2] * 3)


def coast(covariance: np.ndarray, speed: np.ndarray, seconds: float) -> np.ndarray:
    """Return the covariance (6, 6) of a pose that is said again ``seconds`` after it was seen.

    A robot that nobody sees may go on as fast as it lately was, speed (2,) in m/s and rad/s: straight on at first, and
    at random after that. From the covariance when it was last seen, not from one that has grown already. No turn is
    more uncertain than half a turn.
    """
    seconds = max(seconds, 0.0)
    reach = seconds if seconds < STRAIGHT_S else math.sqrt(seconds * STRAIGHT_S)
    linear, angular = (speed + STANDS) * reach
    grown: np.ndarray = covariance + np.diag([linear**2] * 3 + [min(angular, math.pi) ** 2] * 3)
    return grown


def drift_of(weights: Path | None) -> DriftModel:
    """Return the constants measured for a file of weights, or those for unknown weights.

    Warns where those beside the weights were measured on others.
    """
    path = None if weights is None else drift_file(weights)
    if weights is None or path is None or not (path.is_file() and weights.is_file()):
        return DriftModel()
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
        constants = DriftModel(**{field.name: float(found['constants'][field.name]) for field in fields(DriftModel)})
        measured = str(found['weights'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        _LOG.warning('%s: not the drift of weights (%s); the covariance is that of unknown weights', path, error)
        return DriftModel()
    if measured != digest(weights):
        _LOG.warning('%s: measured on other weights than %s: run `evict3r study covariance`', path, weights.name)
        return DriftModel()
    return constants


def write_drift(weights: Path, drift: DriftModel, about: dict[str, Any]) -> Path:
    """Write the constants measured for a file of weights beside it, and return where. Raises OSError.

    about: how they were measured and what held-out streams say of them; nothing reads it.
    """
    path = drift_file(weights)
    content = {'weights': digest(weights), 'constants': asdict(drift), 'about': about}
    path.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
    return path


def drift_file(weights: Path) -> Path:
    """Return where the constants of a file of weights lie."""
    return weights.with_name(weights.stem + SUFFIX)


def digest(weights: Path) -> str:
    """Return 16 hexadecimal digits of all bytes of a file."""
    with weights.open('rb') as file:
        hashed = hashlib.sha256()
        while part := file.read(1 << 20):
            hashed.update(part)
    return hashed.hexdigest()[:16]
