# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Results of a task on a data set beside published ones: JSON, Markdown and plots of trajectories."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from evict3r_ros.evaluation.datasets import DATASETS
from evict3r_ros.evaluation.metrics.pose import align
from evict3r_ros.evaluation.reports.published import published
from evict3r_ros.evaluation.tasks import FIGURES, weighted_means
from evict3r_ros.geometry import quaternion_from_matrix
from evict3r_ros.io.figures import new_figure, save
from evict3r_ros.io.tum import TumWriter

GIB = 2**30


def summary(task: str, dataset: str, settings: dict[str, Any], records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one object: our metrics, those of each sequence, the cost, and published metrics."""
    frames, seconds = sum(record['frames'] for record in records), sum(record['seconds'] for record in records)
    found = {
        'task': task,
        'dataset': dataset,
        **settings,
        **weighted_means(records),
        'sequences': {record['sequence']: record['figures'] for record in records},
        'frames': frames,
        'left_out': sum(record.get('left_out', 0) for record in records),
        'frames_per_second': frames / seconds if seconds else math.nan,
        'peak_gib': max(record['peak_bytes'] for record in records) / GIB,
        'cache_gib': max(record['cache_bytes'] for record in records) / GIB,
        'published': [vars(entry) for entry in published(task, dataset)],
    }
    if 'segments' in records[0]:
        found['segments'] = {record['sequence']: record['segments'] for record in records}
    if task == 'pose':
        found |= {
            name: weighted_means(records, section)
            for name, section in (('still_camera', 'still'), ('random_walk', 'random'))
        }
    if task == 'video-depth':
        found['constant_depth'] = weighted_means(records, 'constant')
    return found


def markdown(found: dict[str, Any]) -> str:
    """Return the summary as a table."""
    columns = FIGURES[found['task']]

    def row(name: str, figures: dict[str, Any], source: str) -> str:
        values = [figures.get(column) for column in columns]
        cells = ['-' if value is None or math.isnan(value) else f'{value:.3f}' for value in values]
        return f'| {name} | ' + ' | '.join(cells) + f' | {source} |'

    lines = [f'### {DATASETS[found["dataset"]].title}, {found["task"]}', '']
    if found['untrained']:
        lines += ['**UNTRAINED: random weights, our figures say nothing about a model.**', '']
    lines += ['| method | ' + ' | '.join(columns.values()) + ' | source |', '|---' * (len(columns) + 2) + '|']
    for entry in found['published']:
        note = f' ({entry["note"]})' if entry['note'] else ''
        lines.append(row(entry['method'], entry['figures'], entry['source'] + note))
    ours = f'**evict3r_ros**, {found["weights"]}' + (f', {found["cache"]}' if found['task'] != 'monodepth' else '')
    lines.append(
        row(
            ours,
            found,
            f'sequences: {len(found["sequences"])}, frames: {found["frames"]}, '
            + (f'left out without a partner: {found["left_out"]}, ' if found['left_out'] else '')
            + f'{found["frames_per_second"]:.1f} frames/s, peak {found["peak_gib"]:.2f} GiB',
        )
    )
    if found['task'] == 'pose':
        lines += [row('a still camera', found['still_camera'], ''), row('a random walk', found['random_walk'], '')]
    if found['task'] == 'video-depth':
        lines.append(row('a constant depth', found['constant_depth'], ''))
    return '\n'.join(lines)


def write_trajectory(path: Path, poses: np.ndarray) -> None:
    """Write predicted poses (n, 4, 4) in the network's unit as TUM lines; the stamp is the frame number in seconds."""
    with TumWriter(path) as writer:
        for index, matrix in enumerate(poses):
            writer.write(index * 10**9, matrix[:3, 3], quaternion_from_matrix(matrix))


def plot_trajectory(path: Path, title: str, poses: np.ndarray, truth: np.ndarray) -> None:
    """Plot a predicted path (n, 4, 4) after Sim(3) alignment and the true one as PNG.

    One panel shows both along the direction in which the true path is thinnest, the other their coordinates against the
    frame number.
    """
    found, true = align(poses[:, :3, 3], truth[:, :3, 3]).points(poses[:, :3, 3]), truth[:, :3, 3]
    centre = true.mean(0)
    axes = np.linalg.svd(true - centre, full_matrices=False)[2]
    found, true = (found - centre) @ axes.T, (true - centre) @ axes.T
    figure = new_figure(12, 5)
    map_axis, time_axis = figure.subplots(1, 2)
    map_axis.plot(true[:, 0], true[:, 1], color='0.3', label='truth')
    map_axis.plot(found[:, 0], found[:, 1], color='C3', label='predicted, Sim(3)')
    map_axis.plot(*true[0, :2], 'o', color='0.3')
    map_axis.plot(*found[0, :2], 'o', color='C3')
    map_axis.set(xlabel='first principal axis of the path [m]', ylabel='second [m]', aspect='equal', title=title)
    map_axis.legend()
    for axis, name in enumerate(('first', 'second', 'third')):
        time_axis.plot(true[:, axis], color=f'C{axis}', linestyle='--')
        time_axis.plot(found[:, axis], color=f'C{axis}', label=name)
    time_axis.set(xlabel='frame', ylabel='[m]', title='principal axes; dashed: truth')
    time_axis.legend()
    save(figure, path)
