# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which keyframe of long ago may show what one of now shows: cheap, and for others to verify."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.mapping.descriptor import DescriptorIndex

NEAR = (3, 4, 5)
"""Keyframes back whose distance from a keyframe says how different neighbours are there."""


@dataclass(frozen=True)
class CandidateSettings:
    """What makes a candidate."""

    gap: int = 40
    """Keyframes that lie at least between the two."""
    distance: float = 0.7
    """Distance of the two descriptors at most, over that of keyframes four apart: no number of any one network."""
    neighbours: int = 4
    """Keyframes before the newer one whose counterparts have to be alike as well, on average."""

    def __post_init__(self) -> None:
        if self.gap <= max(NEAR) or not self.distance > 0.0 or self.neighbours < 0:
            raise UserError(
                f'candidates need a gap of more than {max(NEAR)} keyframes, a positive distance and no negative number '
                'of neighbours'
            )


@dataclass(frozen=True)
class Candidate:
    """Two keyframes that look alike."""

    old: int
    """Row of the older one in the index."""
    new: int
    direction: int
    """1: the place is passed as it was then; -1: the other way round."""
    distance: float
    """As in the settings, the mean over the neighbours."""


def find_candidate(index: DescriptorIndex, new: int, settings: CandidateSettings) -> Candidate | None:
    """Return the likeliest older keyframe of that in row ``new``, None if nothing is alike enough.

    Only the most alike of all older ones is looked at (so that its neighbours, which are alike too, are left out), and
    what came just before the two must be alike in the one direction or the other.
    """
    past = new - settings.gap + 1
    if past <= 0:
        return None
    rows = np.arange(new, new - max(settings.neighbours, *NEAR) - 1, -1)
    if rows[-1] < 0:
        return None
    # (n, neighbours): squared distances of unit vectors, by half.
    distances = 1.0 - index.similarities(rows)
    usual = float(np.median([distances[new - step, 0] for step in NEAR]))
    old = int(np.argmin(distances[:past, 0]))
    found = []
    for direction in (1, -1):
        counterparts = old - direction * np.arange(settings.neighbours + 1)
        inside = (counterparts >= 0) & (counterparts < past)
        if inside.sum() > settings.neighbours // 2:
            alike = distances[counterparts[inside], np.flatnonzero(inside)]
            found.append((float(alike.mean()) / max(usual, 1e-12), direction))
    if not found:
        return None
    distance, direction = min(found)
    return Candidate(old, new, direction, distance) if distance <= settings.distance else None
