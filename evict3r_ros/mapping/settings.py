# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""All that makes a map, as one set of settings and as names with values."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from evict3r_ros.errors import UserError
from evict3r_ros.mapping.candidates import CandidateSettings
from evict3r_ros.mapping.graph_settings import GraphSettings
from evict3r_ros.mapping.loop_closure import VerificationSettings
from evict3r_ros.mapping.map_file import MOST_KEYFRAMES
from evict3r_ros.mapping.segments import SegmentSettings


@dataclass(frozen=True)
class MappingSettings:
    """All that makes a map, part by part."""

    segments: SegmentSettings = field(default_factory=SegmentSettings)
    candidates: CandidateSettings = field(default_factory=CandidateSettings)
    verification: VerificationSettings = field(default_factory=VerificationSettings)
    graph: GraphSettings = field(default_factory=GraphSettings)
    spacing: float = 0.1
    """Of the map's keyframes: the turn in radians plus the way over the median depth."""
    most: int = MOST_KEYFRAMES
    """Keyframes that the map is thinned to."""
    rest: int = 4
    """Keyframes from one verification to the next."""

    def __post_init__(self) -> None:
        if self.rest < 1:
            raise UserError(f'{self.rest} keyframes from one verification to the next: at least 1 is needed')


_PARTS: dict[str, type[Any]] = {
    'segments': SegmentSettings,
    'candidates': CandidateSettings,
    'verification': VerificationSettings,
    'graph': GraphSettings,
}
"""The parts of MappingSettings that have settings of their own; no two have one of the same name."""


def mapping_defaults() -> dict[str, Any]:
    """Return each setting of a map by its name, with its default."""
    own = {each.name: each.default for each in fields(MappingSettings) if each.name not in _PARTS}
    return own | {each.name: each.default for part in _PARTS.values() for each in fields(part)}


def mapping_settings(values: dict[str, Any]) -> MappingSettings:
    """Return a map's settings, the defaults but for the named ones. Raises UserError for what cannot work."""
    parts = {
        name: part(**{each.name: values[each.name] for each in fields(part) if each.name in values})
        for name, part in _PARTS.items()
    }
    own = {each.name for each in fields(MappingSettings)} - set(_PARTS)
    return MappingSettings(**parts, **{name: value for name, value in values.items() if name in own})
