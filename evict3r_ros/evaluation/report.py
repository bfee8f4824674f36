# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What records of streams come to: Markdown tables, JSON, and plots."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evict3r_ros.errors import UserError
from evict3r_ros.evaluation.intervals import LEVEL, Interval
from evict3r_ros.evaluation.summary import BASELINE_POLICY, METRICS, TITLES, Group, StreamSet, baseline_of, baselines

MIB = 2 ** 20
_COMPARED = ('rotation_deg', 'ate_over_length')
"""The metrics that decide between policies, fixed before anything was compared."""
_CURVES = (('absrel', 'AbsRel, one factor a stream'), ('rotation_deg', 'rotation [°]'),
           ('position_over_length', 'position error / path length'))


def _number(value: float) -> str:
    return '-' if math.isnan(value) else f'{value:.2f}' if abs(value) >= 1.0 else f'{value:.3f}'


def _with_interval(found: Interval | None, signed: bool = False) -> str:
    if found is None:
        return '-'
    mark = '**' if signed and found.excludes_zero else ''
    value = ('+' if signed and found.value > 0 else '') + _number(found.value)
    return f'{mark}{value}{mark} [{_number(found.low)}, {_number(found.high)}]'


def summary_row(group: Group, others: Sequence[Group]) -> dict:
    """A configuration's figures, intervals and cost, and its differences to ``uniform`` where that was run too."""
    found = group.summary()
    row = {'configuration': group.configuration.name, **vars(group.configuration), 'streams': len(group.records),
           **{metric: math.nan if part is None else part.value for metric, part in found.items()},
           'intervals': {metric: part and [part.low, part.high] for metric, part in found.items()},
           'cache_mib': group.cost('cache_bytes') / MIB, 'camera_cache_mib': group.cost('camera_cache_bytes') / MIB,
           'tokens': group.cost('tokens')}
    baseline = baseline_of(group, others)
    if baseline is not None:
        row['against_uniform'] = {metric: part and [part.value, part.low, part.high]
                                  for metric, part in group.against(baseline).items()}
    return row


def as_json(which: StreamSet, found: Sequence[Group]) -> dict:
    """A stream set as an object: the first configuration's figures on top, all of them under ``table``."""
    first = summary_row(found[0], found)
    base = baselines(found[0])
    return {
        **{metric: first[metric] for metric in METRICS}, 'configuration': first['configuration'],
        'constant_depth': {'absrel': base['constant_absrel'], 'delta_1_25': base['constant_delta_1_25']},
        'still_camera': {'ate_over_length': base['still_ate_over_length'], 'rotation_deg': base['still_rotation_deg']},
        'alignment': {'depth': 'one factor a clip, median(truth) / median(depth)', 'trajectory': 'Sim(3)'},
        'brought_together': {metric: f'{statistic.__name__} over clips' for metric, statistic in METRICS.items()},
        'confidence': LEVEL, 'clips': first['streams'], **vars(which),
        'table': [summary_row(group, found) for group in found],
        'curves': {group.configuration.name: {section: {name: values.tolist() for name, values in
                                                        group.mean_rows(section).items()}
                                              for section in ('curves', 'prefixes')} for group in found}}


def table(which: StreamSet, found: Sequence[Group]) -> str:
    """A Markdown table: figures with 95 % intervals, and what constant depth and a still camera score."""
    base = baselines(found[0])
    streams = {len(group.records) for group in found}
    count = f'{min(streams)} to {max(streams)}' if len(streams) > 1 else f'{streams.pop()}'
    lines = [f'### {which.title}; {count} streams', '']
    if which.untrained:
        lines += ['**UNTRAINED: random weights, the figures say nothing about a model.**', '']
    lines += ['| policy | budget | bits | camera frames | cache + camera head [MiB] | '
              + ' | '.join(TITLES[metric] for metric in METRICS) + ' |', '|---' * (5 + len(METRICS)) + '|']
    for group in found:
        own, figures = group.configuration, group.summary()
        lines.append(f'| {own.policy} | {own.budget or "all"} | {own.bits} | {own.camera_frames} | '
                     f'{group.cost("cache_bytes") / MIB:.1f} + {group.cost("camera_cache_bytes") / MIB:.1f} | '
                     + ' | '.join(_with_interval(figures[metric]) for metric in METRICS) + ' |')
    lines += [f'| constant depth, still camera | | | | | {_number(base["constant_absrel"])} | '
              f'{_number(base["constant_delta_1_25"])} | {_number(base["still_ate_over_length"])} | '
              f'{_number(base["still_rotation_deg"])} |']
    return '\n'.join(lines)


def comparison_table(found: Sequence[Group]) -> str:
    """A Markdown table of each configuration against ``uniform`` under the same budget, paired; '' if none was run."""
    rows = []
    for group in found:
        baseline = baseline_of(group, found)
        if baseline is None:
            continue
        own, against = group.configuration, group.against(baseline)
        pairs = len(group.records.keys() & baseline.records.keys())
        rows.append(f'| {own.policy} | {own.budget or "all"} | {own.bits} | {own.camera_frames} | {pairs} | '
                    + ' | '.join(_with_interval(against[metric], signed=True) for metric in _COMPARED) + ' |')
    if not rows:
        return ''
    head = [f'Difference to `{BASELINE_POLICY}` on the same streams ({LEVEL:.0%} paired bootstrap over streams; negative '
            'is better; bold: zero is outside).', '',
            '| policy | budget | bits | camera frames | streams | '
            + ' | '.join(f'Δ {TITLES[metric]}' for metric in _COMPARED) + ' |', '|---' * (5 + len(_COMPARED)) + '|']
    return '\n'.join(head + rows)


def prefix_table(found: Sequence[Group], frames: Sequence[int]) -> str:
    """A Markdown table of the error if the stream had ended after so many frames."""
    known = found[0].mean_rows('prefixes')['frames'].astype(int).tolist()
    chosen = [known.index(count) for count in frames if count in known]
    lines = ['If the stream had ended after so many frames: AbsRel / trajectory error over length / rotation, means.', '',
             '| configuration | ' + ' | '.join(str(known[index]) for index in chosen) + ' |', '|---' * (1 + len(chosen)) + '|']
    for group in found:
        rows = group.mean_rows('prefixes')
        cells = [' / '.join(_number(rows[name][index]) for name in ('absrel', 'ate_over_length', 'rotation_deg'))
                 for index in chosen]
        lines.append(f'| {group.configuration.name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def _pyplot():
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise UserError("plots need matplotlib: pip install 'evict3r_ros[plots]'") from error
    matplotlib.use('Agg')
    from matplotlib import pyplot
    return pyplot


def _save(figure, path: Path) -> None:
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: the plot could not be written: {error}') from error


def plot_against_frame(which: StreamSet, found: Sequence[Group], path: Path) -> None:
    """Errors against the frame number as PNG: a row a metric, a column a budget, a line a policy."""
    pyplot = _pyplot()
    budgets = list(dict.fromkeys(group.configuration.budget for group in found if group.configuration.budget)) or ['']
    figure, axes = pyplot.subplots(len(_CURVES), len(budgets), squeeze=False, sharex=True, sharey='row',
                                   figsize=(3.5 + 4.5 * len(budgets), 9), layout='constrained')
    kinds = list(dict.fromkeys(_line_name(group, found) for group in found))
    for column, budget in enumerate(budgets):
        for group in found:
            if group.configuration.budget not in (budget, ''):
                continue
            rows, name = group.mean_rows('curves'), _line_name(group, found)
            colour = f'C{kinds.index(name) % 10}'
            for row, (curve, _) in enumerate(_CURVES):
                axes[row][column].plot(rows['frame'], rows[curve], color=colour, linewidth=1.2, label=name,
                                       linestyle='--' if not group.configuration.budget else '-')
        axes[0][column].set_title(f'budget {budget}' if budget else 'no bound')
        axes[-1][column].set_xlabel('frame')
    for row, (_, title) in enumerate(_CURVES):
        axes[row][0].set_ylabel(title)
        axes[row][0].set_ylim(bottom=0.0)
    handles = {text: handle for some in axes[0] for handle, text in zip(*some.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc='outside right upper', fontsize='small')
    figure.suptitle(f'{"UNTRAINED: " if which.untrained else ""}{which.title}; mean of '
                    f'{len(found[0].records)} streams')
    _save(figure, path)
    pyplot.close(figure)


def _line_name(group: Group, found: Sequence[Group]) -> str:
    """The policy, and what else of the configuration differs among those found, but for the budget."""
    own, others = group.configuration, [other.configuration for other in found]
    name = own.policy
    if len({other.bits for other in others}) > 1:
        name += f', {own.bits} bits'
    if len({other.camera_frames for other in others}) > 1:
        name += f', camera {own.camera_frames}'
    return name


def plot_against_bytes(which: StreamSet, found: Sequence[Group], path: Path) -> None:
    """Errors against the bytes of both caches as PNG: a panel a metric, a line a policy, a point a budget."""
    pyplot = _pyplot()
    metrics = ('absrel', 'ate_over_length', 'rotation_deg')
    figure, axes = pyplot.subplots(1, len(metrics), figsize=(15, 4.8), layout='constrained')
    kinds = list(dict.fromkeys(_line_name(group, found) for group in found))
    for kind in kinds:
        points = []
        for group in (group for group in found if _line_name(group, found) == kind):
            figures = group.summary()
            size = (group.cost('cache_bytes') + group.cost('camera_cache_bytes')) / MIB
            points.append((size, [figures[metric] for metric in metrics]))
        points.sort(key=lambda point: point[0])
        for number, axis in enumerate(axes):
            some = [(size, parts[number]) for size, parts in points if parts[number] is not None]
            if not some:
                continue
            values = np.array([part.value for _, part in some])
            below = values - [part.low for _, part in some]
            above = [part.high for _, part in some] - values
            axis.errorbar([size for size, _ in some], values, yerr=np.maximum([below, above], 0.0), marker='o',
                          markersize=4, capsize=2, linewidth=1.0, color=f'C{kinds.index(kind) % 10}', label=kind)
    for axis, metric in zip(axes, metrics, strict=True):
        axis.set(xlabel='keys and values, camera head included [MiB]', ylabel=TITLES[metric], xscale='log')
        axis.set_ylim(bottom=0.0)
    handles, texts = axes[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc='outside right upper', fontsize='small')
    figure.suptitle(f'{"UNTRAINED: " if which.untrained else ""}{which.title}; {LEVEL:.0%} intervals')
    _save(figure, path)
    pyplot.close(figure)
