# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Aggregate records of streams: a group per configuration, with confidence intervals over streams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evict3r_ros.evaluation.configurations import WEIGHTS_BITS, Configuration
from evict3r_ros.evaluation.metrics.intervals import Interval, Statistic, interval, paired_difference
from evict3r_ros.evaluation.streaming import SHORTEST_PATH

METRICS: dict[str, Statistic] = {
    'absrel': np.mean,
    'delta_1_25': np.mean,
    'ate_over_length': np.median,
    'rotation_deg': np.mean,
}
"""Metrics of a comparison, and the statistic over streams."""
TITLES = {
    'absrel': 'AbsRel',
    'delta_1_25': 'δ<1.25',
    'ate_over_length': 'trajectory error over length',
    'rotation_deg': 'rotation [°]',
}
ERRORS = ('absrel', 'ate_over_length', 'rotation_deg')
"""Metrics where less is better."""
BASELINE_POLICY = 'uniform'
BASELINE_WEIGHTS = 'weights of 16 bits'
"""Baseline of configurations that pack the network's weights: the same without."""


@dataclass(frozen=True)
class StreamSet:
    """What the streams of one table have in common."""

    frames: int
    stride: int
    effects: bool
    loop: bool
    height: int
    width: int
    preset: str
    weights: str
    dtype: str
    untrained: bool
    laps: int = 1
    """Times that a loop is run through."""

    @classmethod
    def of(cls, record: dict[str, Any]) -> StreamSet:
        """Return the set that a record belongs to."""
        stream, network = record['stream'], record['network']
        return cls(
            **{name: stream[name] for name in ('frames', 'stride', 'effects', 'loop', 'height', 'width')},
            **{name: network[name] for name in ('preset', 'weights', 'dtype', 'untrained')},
            laps=stream.get('laps', 1),
        )

    @property
    def title(self) -> str:
        """Return a readable title."""
        return (
            f'{self.frames} frames, stride {self.stride}{", loops" if self.loop else ""}'
            f'{f" gone round {self.laps} times" if self.laps > 1 else ""}, '
            f'{"with" if self.effects else "without"} camera effects'
        )


class Group:
    """Records of one configuration on one stream set, by seed."""

    def __init__(self, configuration: Configuration, records: Iterable[dict[str, Any]]):
        self.configuration = configuration
        self.records = {record['stream']['seed']: record for record in records}

    def values(self, metric: str, seeds: Iterable[int] | None = None, section: str = 'figures') -> np.ndarray:
        """Return one value per stream, (n,), NaN for a failed stream.

        Metrics over length leave out streams whose path has no length.
        """
        chosen = self.records.values() if seeds is None else (self.records[seed] for seed in seeds)
        return np.array(
            [
                np.nan if record[section][metric] is None else record[section][metric]
                for record in chosen
                if not metric.endswith('over_length') or record['path_length'] > SHORTEST_PATH
            ]
        )

    def summary(self) -> dict[str, Interval | None]:
        """Return each metric with its interval, or None if no stream has a value."""
        found = {}
        for metric, statistic in METRICS.items():
            values = self.values(metric)
            found[metric] = interval(values, statistic) if len(values) else None
        return found

    def against(self, baseline: Group) -> dict[str, Interval | None]:
        """Return the difference of each metric to a baseline over the streams that both have."""
        seeds = [seed for seed in self.records if seed in baseline.records]
        found = {}
        for metric, statistic in METRICS.items():
            pair = self.values(metric, seeds), baseline.values(metric, seeds)
            found[metric] = paired_difference(*pair, statistic) if len(pair[0]) else None
        return found

    def cost(self, what: str) -> float:
        """Return the mean of a cost over streams."""
        return float(np.mean([record['cost'][what] for record in self.records.values()]))

    def records_of(self, section: str) -> list[dict[str, Any]]:
        """Return a section of every record."""
        return [record[section] for record in self.records.values()]

    def curves(self) -> dict[str, np.ndarray]:
        """Return means over streams against ``frame``; curves over length leave out streams without length."""
        curves: dict[str, np.ndarray] = {}
        for name in self.records_of('curves')[0]:
            rows = [
                record['curves'][name]
                for record in self.records.values()
                if not name.endswith('over_length') or record['path_length'] > SHORTEST_PATH
            ]
            curves[name] = np.array(rows, dtype=np.float64).mean(0) if rows else np.full_like(curves['frame'], np.nan)
        return curves

    def prefixes(self, metric: str) -> list[float]:
        """Return a metric after each number of frames of ``prefixes``, aggregated as for whole streams."""
        rows = np.array([row[metric] for row in self.records_of('prefixes')], dtype=np.float64)
        moved = np.array([row['path_length'] for row in self.records_of('prefixes')]) > SHORTEST_PATH
        aggregated = []
        for values, has_length in zip(rows.T, moved.T, strict=True):
            values = values[has_length] if metric.endswith('over_length') else values
            aggregated.append(float(METRICS[metric](values)) if len(values) else float('nan'))
        return aggregated


def groups(records: Iterable[dict[str, Any]]) -> dict[StreamSet, list[Group]]:
    """Group records by stream set and configuration, in the order of their first record."""
    sets: dict[StreamSet, dict[Configuration, list[dict[str, Any]]]] = {}
    for record in records:
        by_configuration = sets.setdefault(StreamSet.of(record), {})
        by_configuration.setdefault(Configuration(**record['configuration']), []).append(record)
    return {which: [Group(*item) for item in found.items()] for which, found in sets.items()}


def baseline_of(group: Group, others: Sequence[Group], baseline: str = BASELINE_POLICY) -> Group | None:
    """Return the group to compare with, or None if it is not among the others.

    baseline: a policy, with the group's own budget, bits and camera frames; or BASELINE_WEIGHTS; or the name of a
    configuration.
    """
    own = group.configuration
    alike = replace(own, weights_bits=WEIGHTS_BITS) if baseline == BASELINE_WEIGHTS else replace(own, policy=baseline)
    return next(
        (
            other
            for other in others
            if other is not group and (other.configuration == alike or other.configuration.name == baseline)
        ),
        None,
    )


def baselines(group: Group) -> dict[str, float]:
    """Return the errors of a constant depth and a still camera on the same streams."""

    def aggregate(metric: str, section_name: str) -> float:
        values = group.values(section_name, section='baselines')
        return float(METRICS[metric](values)) if len(values) else float('nan')

    return {
        'constant_absrel': aggregate('absrel', 'constant_absrel'),
        'constant_delta_1_25': aggregate('delta_1_25', 'constant_delta_1_25'),
        'still_ate_over_length': aggregate('ate_over_length', 'still_ate_over_length'),
        'still_rotation_deg': aggregate('rotation_deg', 'still_rotation_deg'),
    }
