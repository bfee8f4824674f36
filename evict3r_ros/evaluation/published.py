# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Published figures, to stand beside ours. Each names its table; what could not be found is not here.

Tables were read as text, not typed from memory: those of XStreamVGGT from the paper's own HTML, those of Evict3R,
OVGGT, StreamVGGT and TTT3R from public transcriptions of the papers' tables, which agree with each other where they
overlap. Look a figure up in its table before you build on it.
"""

from dataclasses import dataclass

EVICT3R = 'Evict3R, arXiv 2509.17650, Table'
XSTREAM = 'XStreamVGGT, arXiv 2602.21780, Table'
OVGGT = 'OVGGT, arXiv 2603.05959, Table'
STREAM = 'StreamVGGT, arXiv 2507.11539, Table'
TTT3R = 'TTT3R, arXiv 2509.26645, Table'


@dataclass(frozen=True)
class Published:
    """One method on one data set; figures by the names that our results have."""

    task: str
    dataset: str
    method: str
    figures: dict[str, float]
    source: str
    """Where: paper and table."""
    note: str = ''
    """How it differs from what our command does by default."""


def _depth(task: str, method: str, source: str, note: str = '', **sets: tuple[float, float]) -> list[Published]:
    return [Published(task, dataset, method, {'absrel': absrel, 'delta_1_25': delta}, source, note)
            for dataset, (absrel, delta) in sets.items()]


def _pose(dataset: str, method: str, source: str, ate: float, translation: float, rotation: float) -> Published:
    return Published('pose', dataset, method,
                     {'ate': ate, 'rpe_translation': translation, 'rpe_rotation_deg': rotation}, source)


def _points(dataset: str, method: str, source: str, means: tuple[float, float, float],
            medians: tuple[float, float, float] | None = None, note: str = '') -> Published:
    names = ('accuracy', 'completeness', 'normals')
    figures = {f'{name}_mean': value for name, value in zip(names, means, strict=True)}
    if medians is not None:
        figures |= {f'{name}_median': value for name, value in zip(names, medians, strict=True)}
    return Published('mv-recon', dataset, method, figures, source, note)


PUBLISHED = [
    *_depth('monodepth', 'StreamVGGT', f'{XSTREAM} 5', sintel=(.254, .685), bonn=(.052, .971), kitti=(.072, .947)),
    *_depth('monodepth', 'XStreamVGGT, 2K tokens', f'{XSTREAM} 5', sintel=(.254, .685), bonn=(.052, .971),
            kitti=(.072, .947)),
    *_depth('video-depth', 'StreamVGGT', f'{EVICT3R} I', sintel=(.323, .657), kitti=(.173, .721)),
    *_depth('video-depth', 'StreamVGGT', f'{XSTREAM} 6', sintel=(.328, .658), bonn=(.058, .972), kitti=(.094, .944)),
    *_depth('video-depth', 'Evict3R, P 0.2', f'{EVICT3R} I', sintel=(.335, .635), kitti=(.209, .620)),
    *_depth('video-depth', 'Evict3R, P 0.8', f'{EVICT3R} I', sintel=(.330, .650), kitti=(.174, .719)),
    *_depth('video-depth', 'XStreamVGGT, 2K tokens', f'{XSTREAM} 6', sintel=(.341, .619), bonn=(.073, .943),
            kitti=(.098, .943)),
    *_depth('video-depth', 'StreamVGGT', f'{OVGGT} 3', 'first 100 frames', bonn=(.055, .974), kitti=(.166, .740)),
    *_depth('video-depth', 'OVGGT, 200K tokens in all', f'{OVGGT} 3', 'first 100 frames', bonn=(.055, .974),
            kitti=(.128, .839)),
    _pose('sintel', 'StreamVGGT', f'{EVICT3R} V', .232, .095, .722),
    _pose('sintel', 'Evict3R, P 0.1', f'{EVICT3R} V', .244, .088, .931),
    _pose('sintel', 'Evict3R, P 0.4', f'{EVICT3R} V', .287, .101, .776),
    _pose('sintel', 'StreamVGGT', f'{TTT3R} 6', .251, .149, 1.894),
    _pose('tum', 'Evict3R, P 0.1', f'{EVICT3R} V', .027, .012, .314),
    _pose('tum', 'Evict3R, P 0.4', f'{EVICT3R} V', .028, .010, .314),
    _pose('tum', 'StreamVGGT', f'{XSTREAM} 4', .062, .033, 3.208),
    _pose('tum', 'XStreamVGGT, 2K tokens', f'{XSTREAM} 4', .068, .035, 3.184),
    _pose('scannet', 'StreamVGGT', f'{XSTREAM} 4', .160, .057, 3.688),
    _pose('scannet', 'XStreamVGGT, 2K tokens', f'{XSTREAM} 4', .171, .061, 3.837),
    _points('7-scenes', 'StreamVGGT', f'{STREAM} 1', (.129, .115, .751), (.056, .041, .865)),
    _points('7-scenes', 'StreamVGGT', f'{XSTREAM} 3', (.132, .116, .749), (.058, .042, .863)),
    _points('7-scenes', 'Evict3R, P 0.2', f'{EVICT3R} II', (.167, .151, .737)),
    _points('7-scenes', 'Evict3R, P 0.4', f'{EVICT3R} II', (.142, .124, .749)),
    _points('7-scenes', 'Evict3R, P 0.8', f'{EVICT3R} II', (.132, .117, .750)),
    _points('7-scenes', 'XStreamVGGT, 2K tokens', f'{XSTREAM} 3', (.142, .125, .734), (.068, .048, .848)),
    _points('7-scenes', 'StreamVGGT', f'{EVICT3R} IV', (.044, .031, .688), note='8 times as many frames; 18.63 GB'),
    _points('7-scenes', 'Evict3R, P 0.1', f'{EVICT3R} IV', (.047, .034, .688), note='8 times as many frames; 9.39 GB'),
    _points('7-scenes', 'OVGGT, 200K tokens in all', f'{OVGGT} 1', (.039, .020, .537), note='1000 frames'),
    _points('nrgbd', 'StreamVGGT', f'{EVICT3R} II', (.084, .074, .861)),
    _points('nrgbd', 'StreamVGGT', f'{XSTREAM} 2', (.085, .079, .862), (.044, .038, .986)),
    _points('nrgbd', 'Evict3R, P 0.2', f'{EVICT3R} II', (.190, .176, .815)),
    _points('nrgbd', 'Evict3R, P 0.4', f'{EVICT3R} II', (.095, .094, .860)),
    _points('nrgbd', 'Evict3R, P 0.8', f'{EVICT3R} II', (.084, .078, .862)),
    _points('nrgbd', 'XStreamVGGT, 2K tokens', f'{XSTREAM} 2', (.085, .075, .850), (.049, .038, .986)),
    _points('nrgbd', 'StreamVGGT', f'{EVICT3R} IV', (.088, .058, .816), note='10 times as many frames; 16.41 GB'),
    _points('nrgbd', 'Evict3R, P 0.1', f'{EVICT3R} IV', (.085, .050, .819), note='10 times as many frames; 8.77 GB'),
    _points('nrgbd', 'OVGGT, 200K tokens in all', f'{OVGGT} 1', (.054, .026, .637), note='500 frames'),
]


def published(task: str, dataset: str) -> list[Published]:
    """What is known of a task on a data set."""
    return [entry for entry in PUBLISHED if (entry.task, entry.dataset) == (task, dataset)]
