# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Public data sets by name, and the tasks of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evict3r_ros.evaluation.datasets import depth_sets, pose_sets, scene_sets
from evict3r_ros.evaluation.datasets.recording import recording
from evict3r_ros.evaluation.datasets.sequence import TrueSequence

TASKS = ('monodepth', 'video-depth', 'pose', 'mv-recon')


@dataclass(frozen=True)
class Dataset:
    """A data set: its title, its tasks, and how to read it."""

    title: str
    tasks: tuple[str, ...]
    load: Callable[[Path, str], list[TrueSequence]]
    """(folder, task) -> sequences; raises UserError that names what is missing."""
    every: int = 1
    """mv-recon: stride over the frames of each sequence, so that 3 to 5 (7-Scenes) or 2 to 4 (Neural RGB-D) are
    left, as in CUT3R (arXiv 2501.12387) and StreamVGGT."""


DATASETS = {
    'folder': Dataset('A recording', ('video-depth', 'pose'), recording),
    'sintel': Dataset('Sintel', ('monodepth', 'video-depth', 'pose'), depth_sets.sintel),
    'bonn': Dataset('Bonn', ('monodepth', 'video-depth'), depth_sets.bonn),
    'kitti': Dataset('KITTI', ('monodepth', 'video-depth'), depth_sets.kitti),
    'nyu': Dataset('NYU-v2', ('monodepth',), depth_sets.nyu),
    'tum': Dataset('TUM-dynamics', ('pose',), pose_sets.tum),
    'scannet': Dataset('ScanNet', ('pose',), pose_sets.scannet),
    'euroc': Dataset('EuRoC', ('pose',), pose_sets.euroc),
    'kitti-odometry': Dataset('KITTI odometry', ('pose',), pose_sets.kitti_odometry),
    '7-scenes': Dataset('7-Scenes', ('mv-recon',), scene_sets.seven_scenes, every=200),
    'nrgbd': Dataset('Neural RGB-D', ('mv-recon',), scene_sets.neural_rgbd, every=500),
}
