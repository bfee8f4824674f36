# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cache settings that an evaluation compares, as text that is valid for streams of any length."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from evict3r_ros.cache import POLICIES, CacheConfig, parse_bits
from evict3r_ros.errors import UserError
from evict3r_ros.mapping import MappingSettings, SegmentSettings, mapping_defaults, mapping_settings
from evict3r_ros.network.precision import check_weight_bits

OFF, ODOMETRY, MAPPING = 'off', 'odometry', 'mapping'
"""Mapping: one stream, segments that are chained, or these with a map whose loops are closed."""
WEIGHTS_BITS = '16'
"""Of a configuration that does not pack the network's weights."""
ALL = 'all'
"""Camera frames: as many as the stream has."""
_OWN_OPTIONS = ('policy', 'tokens', 'memory_mb', 'share', 'sequence_length', 'bits', 'camera_frames')


@dataclass(frozen=True)
class Configuration:
    """One row of a comparison. The fields are text, so that a percentage is valid for streams of any length."""

    policy: str
    """Name of a policy, then more settings of CacheConfig after colons: ``evict3r:scores=pooled``."""
    budget: str
    """Tokens a layer (``2500``), a share of all tokens of the stream (``10%``), or bytes (``12MiB``); '' if the
    policy is unbounded."""
    bits: str = '4'
    camera_frames: str = '96'
    """Frames in the cache of the camera head: a number, a share (``10%``) or ``all``."""
    mapping: str = OFF
    """``off``: one stream; ``odometry``: segments, then their settings after colons: ``odometry:length=48``;
    ``mapping``: loops closed as well, with settings of all parts: ``mapping:length=48:inliers=0.6``."""
    weights_bits: str = WEIGHTS_BITS
    """Of the network's linear layers: see ``load_network``."""

    @property
    def name(self) -> str:
        """Return a readable name."""
        budget = f' {self.budget}' if self.budget else ''
        mapping = f', mapping {self.mapping}' if self.mapping != OFF else ''
        weights = f', weights {self.weights_bits} bits' if self.weights_bits != WEIGHTS_BITS else ''
        return f'{self.policy}{budget}, {self.bits} bits, camera {self.camera_frames}{mapping}{weights}'

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary; without those that older records lack where they are as they were then."""
        then = {'mapping': OFF, 'weights_bits': WEIGHTS_BITS}
        return {name: value for name, value in asdict(self).items() if then.get(name) != value}

    def rank(self) -> tuple[Any, ...]:
        """Return the sort key for tables: policy in the order of POLICIES, then budget, bits and camera frames."""
        name, _ = parse_policy(self.policy)
        sizes = [
            (text.lstrip('0123456789.'), float(text.rstrip('%ABCIMabcim')) if text not in ('', ALL) else math.inf)
            for text in (self.budget, self.bits.split('/')[0], self.camera_frames)
        ]
        return list(POLICIES).index(name), self.policy, *sizes, self.bits, self.mapping, -int(self.weights_bits)

    def cache_config(self, frames: int, frame_tokens: int) -> CacheConfig:
        """Return the settings for a stream of ``frames`` frames of ``frame_tokens`` tokens.

        Raises UserError for invalid settings.
        """
        name, settings = parse_policy(self.policy)
        tokens, memory_mb = frames * frame_tokens, None
        if self.budget.endswith('%'):
            tokens = math.ceil(_percent(self.budget) * frames * frame_tokens)
        elif self.budget.lower().endswith('mib'):
            memory_mb = _number(self.budget[:-3], 'budget', self.budget)
        elif self.budget:
            tokens = _count(self.budget, 'budget')
        if self.camera_frames == ALL:
            remembered = max(3, frames)
        elif self.camera_frames.endswith('%'):
            remembered = max(3, math.ceil(_percent(self.camera_frames) * frames))
        else:
            remembered = _count(self.camera_frames, 'camera frames')
        return CacheConfig(
            name, tokens, memory_mb=memory_mb, bits=parse_bits(self.bits), camera_frames=remembered, **settings
        )


def _number(text: str, what: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise UserError(f'{what} {whole!r}: expected a positive number')
    return value


def _percent(text: str) -> float:
    value = _number(text[:-1], 'share', text)
    if value > 100.0:
        raise UserError(f'share {text!r}: a stream has 100%')
    return value / 100.0


def _count(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise UserError(
            f'{what} {text!r}: expected a whole number such as 2500, or a share of the stream such as 10%'
            f'{", or bytes such as 12MiB" if what == "budget" else f", or {ALL}"}'
        )
    return int(text)


def parse_policy(text: str) -> tuple[str, dict[str, Any]]:
    """Split a policy's name from its settings: ``ovggt:anchors=3`` -> ('ovggt', {'anchors': 3})."""
    name, *pairs = text.split(':')
    if name not in POLICIES:
        raise UserError(f'policy {name!r} is not one of {", ".join(POLICIES)}')
    known = {
        field.name: field.default
        for field in fields(CacheConfig)
        if field.name not in _OWN_OPTIONS and field.default is not MISSING
    }
    return name, _parse_settings(f'policy {text!r}', pairs, known)


def parse_mapping(text: str) -> SegmentSettings | MappingSettings | None:
    """Return the settings of segments or of a map, None if mapping is off. Raises UserError for invalid text."""
    name, *pairs = text.split(':')
    if name not in (OFF, ODOMETRY, MAPPING):
        raise UserError(f'mapping {name!r} is not one of {OFF}, {ODOMETRY}, {MAPPING}')
    known: dict[str, Any] = {}
    if name == ODOMETRY:
        known = {field.name: field.default for field in fields(SegmentSettings)}
    elif name == MAPPING:
        known = mapping_defaults()
    settings = _parse_settings(f'mapping {text!r}', pairs, known)
    if name == MAPPING:
        return mapping_settings(settings)
    return SegmentSettings(**settings) if name == ODOMETRY else None


def parse_segments(text: str) -> SegmentSettings | None:
    """Return the settings of a stream or of segments; raises UserError for those that close loops."""
    mapping = parse_mapping(text)
    if isinstance(mapping, MappingSettings):
        raise UserError(f'--mapping {text}: loops are closed by eval synthetic and map; here it is off or odometry')
    return mapping


def _parse_settings(what: str, pairs: Sequence[str], known: dict[str, Any]) -> dict[str, Any]:
    """Return the values of ``key=value`` texts, each of the type of its default."""
    settings = {}
    for pair in pairs:
        key, _, value = pair.partition('=')
        if key not in known:
            raise UserError(f'{what}: {key!r} is not one of {", ".join(known) or "no settings"}')
        kind = int if known[key] is None else type(known[key])
        try:
            settings[key] = kind(value)
        except ValueError as error:
            raise UserError(f'{what}: {key} must be a {kind.__name__}, not {value!r}') from error
    return settings


def combinations(
    policies: Sequence[str],
    budgets: Sequence[str],
    bits: Sequence[str],
    camera_frames: Sequence[str],
    mappings: Sequence[str] = (OFF,),
    weights_bits: Sequence[str] = (WEIGHTS_BITS,),
) -> list[Configuration]:
    """Return every combination, in the order given; the last argument changes fastest.

    An unbounded policy appears once, not once for each budget. Raises UserError for invalid text.
    """
    found = []
    for policy, budget, bit, camera, mapping, weights in itertools.product(
        policies, budgets, bits, camera_frames, mappings, weights_bits
    ):
        grows = POLICIES[parse_policy(policy)[0]].grows
        configuration = Configuration(policy, '' if grows else budget, bit, camera, mapping, weights)
        check_weight_bits(_count(weights, 'weights bits'))
        parse_mapping(mapping)
        configuration.cache_config(1000, 1000)
        if configuration not in found:
            found.append(configuration)
    if not found:
        raise UserError('no policy, budget, bits, camera frames or mapping is left to compare')
    return found
