# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Published results for comparison, each with its table in the paper.

Tables were read as text, not typed from memory: those of XStreamVGGT from the paper's own HTML, those of Evict3R,
OVGGT, StreamVGGT and TTT3R from public transcriptions of the papers' tables, which agree with each other where they
overlap. Check a number in its table before you rely on it.
"""

from __future__ import annotations

from dataclasses import dataclass

EVICT3R = 'Evict3R, arXiv 2509.17650, Table'
XSTREAM = 'XStreamVGGT, arXiv 2602.21780, Table'
OVGGT = 'OVGGT, arXiv 2603.05959, Table'
STREAM = 'StreamVGGT, arXiv 2507.11539, Table'
TTT3R = 'TTT3R, arXiv 2509.26645, Table'


@dataclass(frozen=True)
class Published:
    """One method on one data set; metrics have the names of our results."""

    task: str
    dataset: str
    method: str
    figures: dict[str, float]
    source: str
    """Paper and table."""
    note: str = ''
    """Difference from the default of our command."""


def _depth(task: str, method: str, source: str, note: str = '', **sets: tuple[float, float]) -> list[Published]:
    return [
        Published(task, dataset, method, {'absrel': absrel, 'delta_1_25': delta}, source, note)
        for dataset, (absrel, delta) in sets.items()
    ]


def _pose(dataset: str, method: str, source: str, ate: float, translation: float, rotation: float) -> Published:
    return Published(
        'pose', dataset, method, {'ate': ate, 'rpe_translation': translation, 'rpe_rotation_deg': rotation}, source
    )


def _points(
    dataset: str,
    method: str,
    source: str,
    means: tuple[float, float, float],
    medians: tuple[float, float, float] | None = None,
    note: str = '',
) -> Published:
    names = ('accuracy', 'completeness', 'normals')
    figures = {f'{name}_mean': value for name, value in zip(names, means, strict=True)}
    if medians is not None:
        figures |= {f'{name}_median': value for name, value in zip(names, medians, strict=True)}
    return Published('mv-recon', dataset, method, figures, source, note)


PUBLISHED = [
    *_depth(
        'monodepth', 'StreamVGGT', f'{XSTREAM} 5', sintel=(0.254, 0.685), bonn=(0.052, 0.971), kitti=(0.072, 0.947)
    ),
    *_depth(
        'monodepth',
        'XStreamVGGT, 2K tokens',
        f'{XSTREAM} 5',
        sintel=(0.254, 0.685),
        bonn=(0.052, 0.971),
        kitti=(0.072, 0.947),
    ),
    *_depth('video-depth', 'StreamVGGT', f'{EVICT3R} I', sintel=(0.323, 0.657), kitti=(0.173, 0.721)),
    *_depth(
        'video-depth', 'StreamVGGT', f'{XSTREAM} 6', sintel=(0.328, 0.658), bonn=(0.058, 0.972), kitti=(0.094, 0.944)
    ),
    *_depth('video-depth', 'Evict3R, P 0.2', f'{EVICT3R} I', sintel=(0.335, 0.635), kitti=(0.209, 0.620)),
    *_depth('video-depth', 'Evict3R, P 0.8', f'{EVICT3R} I', sintel=(0.330, 0.650), kitti=(0.174, 0.719)),
    *_depth(
        'video-depth',
        'XStreamVGGT, 2K tokens',
        f'{XSTREAM} 6',
        sintel=(0.341, 0.619),
        bonn=(0.073, 0.943),
        kitti=(0.098, 0.943),
    ),
    *_depth('video-depth', 'StreamVGGT', f'{OVGGT} 3', 'first 100 frames', bonn=(0.055, 0.974), kitti=(0.166, 0.740)),
    *_depth(
        'video-depth',
        'OVGGT, 200K tokens in all',
        f'{OVGGT} 3',
        'first 100 frames',
        bonn=(0.055, 0.974),
        kitti=(0.128, 0.839),
    ),
    _pose('sintel', 'StreamVGGT', f'{EVICT3R} V', 0.232, 0.095, 0.722),
    _pose('sintel', 'Evict3R, P 0.1', f'{EVICT3R} V', 0.244, 0.088, 0.931),
    _pose('sintel', 'Evict3R, P 0.4', f'{EVICT3R} V', 0.287, 0.101, 0.776),
    _pose('sintel', 'StreamVGGT', f'{TTT3R} 6', 0.251, 0.149, 1.894),
    _pose('tum', 'Evict3R, P 0.1', f'{EVICT3R} V', 0.027, 0.012, 0.314),
    _pose('tum', 'Evict3R, P 0.4', f'{EVICT3R} V', 0.028, 0.010, 0.314),
    _pose('tum', 'StreamVGGT', f'{XSTREAM} 4', 0.062, 0.033, 3.208),
    _pose('tum', 'XStreamVGGT, 2K tokens', f'{XSTREAM} 4', 0.068, 0.035, 3.184),
    _pose('scannet', 'StreamVGGT', f'{XSTREAM} 4', 0.160, 0.057, 3.688),
    _pose('scannet', 'XStreamVGGT, 2K tokens', f'{XSTREAM} 4', 0.171, 0.061, 3.837),
    _points('7-scenes', 'StreamVGGT', f'{STREAM} 1', (0.129, 0.115, 0.751), (0.056, 0.041, 0.865)),
    _points('7-scenes', 'StreamVGGT', f'{XSTREAM} 3', (0.132, 0.116, 0.749), (0.058, 0.042, 0.863)),
    _points('7-scenes', 'Evict3R, P 0.2', f'{EVICT3R} II', (0.167, 0.151, 0.737)),
    _points('7-scenes', 'Evict3R, P 0.4', f'{EVICT3R} II', (0.142, 0.124, 0.749)),
    _points('7-scenes', 'Evict3R, P 0.8', f'{EVICT3R} II', (0.132, 0.117, 0.750)),
    _points('7-scenes', 'XStreamVGGT, 2K tokens', f'{XSTREAM} 3', (0.142, 0.125, 0.734), (0.068, 0.048, 0.848)),
    _points('7-scenes', 'StreamVGGT', f'{EVICT3R} IV', (0.044, 0.031, 0.688), note='8 times as many frames; 18.63 GB'),
    _points(
        '7-scenes', 'Evict3R, P 0.1', f'{EVICT3R} IV', (0.047, 0.034, 0.688), note='8 times as many frames; 9.39 GB'
    ),
    _points('7-scenes', 'OVGGT, 200K tokens in all', f'{OVGGT} 1', (0.039, 0.020, 0.537), note='1000 frames'),
    _points('nrgbd', 'StreamVGGT', f'{EVICT3R} II', (0.084, 0.074, 0.861)),
    _points('nrgbd', 'StreamVGGT', f'{XSTREAM} 2', (0.085, 0.079, 0.862), (0.044, 0.038, 0.986)),
    _points('nrgbd', 'Evict3R, P 0.2', f'{EVICT3R} II', (0.190, 0.176, 0.815)),
    _points('nrgbd', 'Evict3R, P 0.4', f'{EVICT3R} II', (0.095, 0.094, 0.860)),
    _points('nrgbd', 'Evict3R, P 0.8', f'{EVICT3R} II', (0.084, 0.078, 0.862)),
    _points('nrgbd', 'XStreamVGGT, 2K tokens', f'{XSTREAM} 2', (0.085, 0.075, 0.850), (0.049, 0.038, 0.986)),
    _points('nrgbd', 'StreamVGGT', f'{EVICT3R} IV', (0.088, 0.058, 0.816), note='10 times as many frames; 16.41 GB'),
    _points('nrgbd', 'Evict3R, P 0.1', f'{EVICT3R} IV', (0.085, 0.050, 0.819), note='10 times as many frames; 8.77 GB'),
    _points('nrgbd', 'OVGGT, 200K tokens in all', f'{OVGGT} 1', (0.054, 0.026, 0.637), note='500 frames'),
]


def published(task: str, dataset: str) -> list[Published]:
    """Return the published results of a task on a data set."""
    return [entry for entry in PUBLISHED if (entry.task, entry.dataset) == (task, dataset)]
