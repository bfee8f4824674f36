# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Report records of streams as Markdown tables, JSON and plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evict3r_ros.evaluation.configurations import OFF, WEIGHTS_BITS, Configuration
from evict3r_ros.evaluation.metrics.intervals import LEVEL, Interval, Statistic
from evict3r_ros.evaluation.reports.summary import (
    BASELINE_POLICY,
    BASELINE_WEIGHTS,
    ERRORS,
    METRICS,
    TITLES,
    Group,
    StreamSet,
    baseline_of,
    baselines,
)
from evict3r_ros.evaluation.streaming import ODOMETRY_FIGURES
from evict3r_ros.io.figures import new_figure, save

MIB = 2**20
MAPPING_COUNTS = (
    'keyframes',
    'segments',
    'failed',
    'map_keyframes',
    'loop_candidates',
    'loops_accepted',
    'loops_false',
)
"""Of streams in segments: means over clips; ``failed``: hand-overs that were given up. The rest is of maps."""
LAST_LAP: dict[str, Statistic] = {
    'last_lap_ate_over_length': np.median,
    'last_lap_rotation_deg': np.mean,
    **{name: np.median if name.endswith('ate_over_length') else np.mean for name in ODOMETRY_FIGURES},
}
"""Of loops gone round several times, and of maps, and how clips are brought together."""
DEFINITIONS = (
    'AbsRel and δ<1.25 after one scale per clip, median(truth) / median(depth); trajectory error: ATE after Sim(3) '
    'divided by the length of the true path, median over clips; rotation: mean angle to the true rotation relative to '
    f'the first frame. The others are means over clips. In brackets: {LEVEL:.0%} intervals, bootstrap over clips.'
)
_DIFFERENCES = ('rotation_deg', 'ate_over_length', 'absrel')
"""Metrics whose differences are shown; the first two decide between policies, fixed before the first comparison."""
_CURVES = (
    ('absrel', 'AbsRel, one scale per stream'),
    ('rotation_deg', 'rotation [°]'),
    ('position_over_length', 'position error / path length'),
)


def _number(value: float) -> str:
    return '-' if math.isnan(value) else f'{value:.2f}' if abs(value) >= 1.0 else f'{value:.3f}'


def _with_interval(found: Interval | None, signed: bool = False) -> str:
    if found is None:
        return '-'
    mark = '**' if signed and found.excludes_zero else ''
    value = ('+' if signed and found.value > 0 else '') + _number(found.value)
    return f'{mark}{value}{mark} [{_number(found.low)}, {_number(found.high)}]'


def _as_share(found: Interval | None, of: Interval | None) -> str:
    """Return a difference in percent of what it is a difference to."""
    if found is None or of is None or of.value == 0.0:
        return '-'
    mark = '**' if found.excludes_zero else ''
    value, low, high = (100.0 * part / of.value for part in (found.value, found.low, found.high))
    return f'{mark}{value:+.1f} %{mark} [{low:+.1f}, {high:+.1f}]'


def summary_row(group: Group, others: Sequence[Group]) -> dict[str, Any]:
    """Return metrics, intervals and cost of a configuration, and its differences to ``uniform`` if that was run."""
    found = group.summary()
    row = {
        'configuration': group.configuration.name,
        **vars(group.configuration),
        'streams': len(group.records),
        **{metric: math.nan if part is None else part.value for metric, part in found.items()},
        'intervals': {metric: part and [part.low, part.high] for metric, part in found.items()},
        'cache_mib': group.cost('cache_bytes') / MIB,
        'camera_cache_mib': group.cost('camera_cache_bytes') / MIB,
        'tokens': group.cost('tokens'),
    }
    records = list(group.records.values())
    row |= {
        name: float(np.mean([record['cost'][name] for record in records]))
        for name in MAPPING_COUNTS
        if name in records[0]['cost']
    }
    row |= {
        name: float(statistic(group.values(name)))
        for name, statistic in LAST_LAP.items()
        if name in records[0]['figures']
    }
    baseline = baseline_of(group, others)
    if baseline is not None:
        row['against_uniform'] = {
            metric: part and [part.value, part.low, part.high] for metric, part in group.against(baseline).items()
        }
    unpacked = baseline_of(group, others, BASELINE_WEIGHTS)
    if unpacked is not None:
        row['against_16_bits'] = {
            metric: part and [part.value, part.low, part.high] for metric, part in group.against(unpacked).items()
        }
    return row


def as_json(which: StreamSet, found: Sequence[Group]) -> dict[str, Any]:
    """Return a stream set as an object: metrics of the first configuration at the top, of all under ``table``."""
    first = summary_row(found[0], found)
    base = baselines(found[0])
    return {
        **{metric: first[metric] for metric in METRICS},
        **{name: first[name] for name in (*MAPPING_COUNTS, *LAST_LAP) if name in first},
        'configuration': first['configuration'],
        'constant_depth': {'absrel': base['constant_absrel'], 'delta_1_25': base['constant_delta_1_25']},
        'still_camera': {'ate_over_length': base['still_ate_over_length'], 'rotation_deg': base['still_rotation_deg']},
        'alignment': {'depth': 'one scale per clip, median(truth) / median(depth)', 'trajectory': 'Sim(3)'},
        'brought_together': {metric: f'{statistic.__name__} over clips' for metric, statistic in METRICS.items()},
        'confidence': LEVEL,
        'clips': first['streams'],
        **vars(which),
        'table': [summary_row(group, found) for group in found],
        'curves': {
            group.configuration.name: {name: values.tolist() for name, values in group.curves().items()}
            for group in found
        },
        'prefixes': {
            'frames': found[0].records_of('prefixes')[0]['frames'],
            **{group.configuration.name: {metric: group.prefixes(metric) for metric in ERRORS} for group in found},
        },
    }


def _what(configuration: Configuration) -> str:
    mapping = f', mapping {configuration.mapping}' if configuration.mapping != OFF else ''
    weights = f', weights {configuration.weights_bits} bits' if configuration.weights_bits != WEIGHTS_BITS else ''
    return configuration.policy + mapping + weights


def _streams(found: Sequence[Group]) -> str:
    counts = [len(group.records) for group in found]
    return f'{min(counts)} to {max(counts)} streams' if min(counts) < max(counts) else f'{counts[0]} streams'


def table(which: StreamSet, found: Sequence[Group]) -> str:
    """Return a Markdown table of metrics with 95 % intervals, and the baselines."""
    base = baselines(found[0])
    lines = [f'### {which.title}; {_streams(found)}', '']
    if which.untrained:
        lines += ['**UNTRAINED: random weights, the figures say nothing about a model.**', '']
    lines += [
        '| policy | budget | bits | camera frames | cache + camera head [MiB] | '
        + ' | '.join(TITLES[metric] for metric in METRICS)
        + ' |',
        '|---' * (5 + len(METRICS)) + '|',
    ]
    for group in found:
        own, figures = group.configuration, group.summary()
        sizes = [_number(group.cost(what) / MIB) for what in ('cache_bytes', 'camera_cache_bytes')]
        lines.append(
            f'| {_what(own)} | {own.budget or "all"} | {own.bits} | {own.camera_frames} | '
            f'{" + ".join(sizes)} | ' + ' | '.join(_with_interval(figures[metric]) for metric in METRICS) + ' |'
        )
    lines += [
        f'| constant depth, still camera | | | | | {_number(base["constant_absrel"])} | '
        f'{_number(base["constant_delta_1_25"])} | {_number(base["still_ate_over_length"])} | '
        f'{_number(base["still_rotation_deg"])} |'
    ]
    return '\n'.join(lines)


def comparison_table(found: Sequence[Group], compared_with: str = BASELINE_POLICY) -> str:
    """Return a Markdown table of paired differences to baselines (``baseline_of``), or '' if there is no baseline."""
    rows = []
    for group in found:
        baseline = baseline_of(group, found, compared_with)
        if baseline is None:
            continue
        own, against = group.configuration, group.against(baseline)
        pairs = len(group.records.keys() & baseline.records.keys())
        rows.append(
            f'| {_what(own)} | {own.budget or "all"} | {own.bits} | {own.camera_frames} | {pairs} | '
            + ' | '.join(_with_interval(against[metric], signed=True) for metric in _DIFFERENCES)
            + ' |'
        )
    if not rows:
        return ''
    head = [
        f'Difference to `{compared_with}` on the same streams ({LEVEL:.0%} paired bootstrap over streams; '
        'negative is better; bold: zero is outside).',
        '',
        '| policy | budget | bits | camera frames | streams | '
        + ' | '.join(f'Δ {TITLES[metric]}' for metric in _DIFFERENCES)
        + ' |',
        '|---' * (5 + len(_DIFFERENCES)) + '|',
    ]
    return '\n'.join(head + rows)


def weights_table(found: Sequence[Group]) -> str:
    """Return a Markdown table of what packing the weights costs, in percent, paired; '' if nothing is packed."""
    rows = []
    for group in found:
        baseline = baseline_of(group, found, BASELINE_WEIGHTS)
        if baseline is None:
            continue
        against, base = group.against(baseline), baseline.summary()
        pairs = len(group.records.keys() & baseline.records.keys())
        cells = [_as_share(against[metric], base[metric]) for metric in _DIFFERENCES]
        rows.append(f'| {group.configuration.name} | {pairs} | ' + ' | '.join(cells) + ' |')
    if not rows:
        return ''
    head = [
        f'Difference to the same with weights of 16 bits, on the same streams, in percent of the error with these '
        f'({LEVEL:.0%} paired bootstrap over streams; negative is better; bold: zero is outside).',
        '',
        '| configuration | streams | ' + ' | '.join(f'Δ {TITLES[metric]}' for metric in _DIFFERENCES) + ' |',
        '|---' * (2 + len(_DIFFERENCES)) + '|',
    ]
    return '\n'.join(head + rows)


def prefix_table(found: Sequence[Group]) -> str:
    """Return a Markdown table of the errors after different numbers of frames."""
    counts = found[0].records_of('prefixes')[0]['frames']
    lines = [
        'The same after different numbers of frames: ' + ' / '.join(TITLES[metric] for metric in ERRORS) + '.',
        '',
        '| configuration | ' + ' | '.join(str(count) for count in counts) + ' |',
        '|---' * (1 + len(counts)) + '|',
    ]
    for group in found:
        rows = [group.prefixes(metric) for metric in ERRORS]
        cells = [' / '.join(_number(row[index]) for row in rows) for index in range(len(counts))]
        lines.append(f'| {group.configuration.name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


_STYLES = ('-', '--', ':', '-.')
_MARKERS = ('o', 's', '^', 'v', 'D')


@dataclass(frozen=True)
class _Line:
    """Line of a configuration in a plot: its colour stands for the policy, its style for bits and camera frames."""

    name: str
    colour: str
    style: str
    marker: str


def _lines(found: Sequence[Group]) -> dict[Configuration, _Line]:
    configurations = [group.configuration for group in found]
    policies = list(dict.fromkeys(one.policy for one in configurations))
    others = list(dict.fromkeys((one.bits, one.camera_frames) for one in configurations))
    more_bits, more_cameras = (len({pair[part] for pair in others}) > 1 for part in (0, 1))
    answer = {}
    for one in configurations:
        number = others.index((one.bits, one.camera_frames))
        name = (
            one.policy
            + (f', {one.bits} bits' if more_bits else '')
            + (f', camera {one.camera_frames}' if more_cameras else '')
        )
        answer[one] = _Line(
            name,
            f'C{policies.index(one.policy) % 10}',
            _STYLES[number % len(_STYLES)],
            _MARKERS[number % len(_MARKERS)],
        )
    return answer


def _legend(figure: Any, axes: Any) -> None:
    handles = {text: handle for axis in axes for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc='outside right center', fontsize='small')


def _title(which: StreamSet, found: Sequence[Group]) -> str:
    return f'{"UNTRAINED: " if which.untrained else ""}{which.title}; {_streams(found)}'


def plot_against_frame(which: StreamSet, found: Sequence[Group], path: Path) -> None:
    """Plot mean errors against the frame number as PNG: a row per metric, a column per budget."""
    budgets = list(dict.fromkeys(group.configuration.budget for group in found if group.configuration.budget)) or ['']
    figure = new_figure(3.5 + 4.5 * len(budgets), 9)
    axes = figure.subplots(len(_CURVES), len(budgets), squeeze=False, sharex=True, sharey='row')
    lines = _lines(found)
    for column, budget in enumerate(budgets):
        # Unbounded policies are drawn beside every budget.
        for group in (group for group in found if group.configuration.budget in (budget, '')):
            rows, line = group.curves(), lines[group.configuration]
            for row, (curve, _) in enumerate(_CURVES):
                axes[row][column].plot(
                    rows['frame'], rows[curve], color=line.colour, linestyle=line.style, linewidth=1.2, label=line.name
                )
        axes[0][column].set_title(f'budget {budget}' if budget else 'unbounded')
        axes[-1][column].set_xlabel('frame')
    for row, (_, title) in enumerate(_CURVES):
        axes[row][0].set_ylabel(title)
        axes[row][0].set_ylim(bottom=0.0)
    _legend(figure, axes[0])
    figure.suptitle(_title(which, found))
    save(figure, path)


def plot_against_bytes(which: StreamSet, found: Sequence[Group], path: Path) -> None:
    """Plot errors with intervals against the bytes of the cache as PNG: a panel per metric, a point per budget."""
    figure = new_figure(16, 4.8)
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    axes = figure.subplots(1, len(ERRORS))
    lines = _lines(found)
    points: dict[_Line, list[tuple[float, dict[str, Interval | None]]]] = {}
    for group in found:
        points.setdefault(lines[group.configuration], []).append((group.cost('cache_bytes') / MIB, group.summary()))
    for line, some in points.items():
        some.sort(key=lambda point: point[0])
        for axis, metric in zip(axes, ERRORS, strict=True):
            known = [(size, part) for size, parts in some if (part := parts[metric]) is not None]
            sizes = [size for size, _ in known]
            axis.plot(
                sizes,
                [part.value for _, part in known],
                color=line.colour,
                linestyle=line.style,
                marker=line.marker,
                markersize=4,
                linewidth=1.0,
                label=line.name,
            )
            axis.vlines(
                sizes, [part.low for _, part in known], [part.high for _, part in known], color=line.colour, alpha=0.25
            )
    for axis, metric in zip(axes, ERRORS, strict=True):
        axis.set(xlabel='keys and values, without the camera head [MiB]', ylabel=TITLES[metric], xscale='log')
        # Budgets span a decade or two, where labels of minor ticks would overlap.
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_ylim(bottom=0.0)
    _legend(figure, axes)
    figure.suptitle(f'{_title(which, found)}; {LEVEL:.0%} intervals')
    save(figure, path)
