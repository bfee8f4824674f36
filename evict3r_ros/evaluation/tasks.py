# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The four tasks of the papers: a function for each, from one sequence to its metrics.

- monodepth: each image is its own stream; AbsRel, delta < 1.25 and more after one median scale per image.
- video-depth: the sequence is one stream; one alignment for all frames: by scale, by scale and shift, and none; and a
  median scale per frame, for all pixels, for the surer half and for the other, and for a constant depth.
- pose: ATE and RPE over one frame (root mean squares after Sim(3)), error over length, rotation error; and the same for
  a still camera and a random walk.
- mv-recon: few frames far apart; points from depth and pose, aligned to the true ones pixel by pixel (Umeyama's Sim(3))
  and by ICP; accuracy, completeness, normal consistency.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from evict3r_ros.cache import CacheConfig
from evict3r_ros.camera.view import ImageView
from evict3r_ros.errors import UserError
from evict3r_ros.evaluation.configurations import Configuration, parse_segments
from evict3r_ros.evaluation.datasets.sequence import TrueSequence
from evict3r_ros.evaluation.metrics import pose
from evict3r_ros.evaluation.metrics.depth import DepthErrors, depth_errors
from evict3r_ros.evaluation.streaming import open_stream, streams_of
from evict3r_ros.geometry import transform_points, unproject
from evict3r_ros.mapping import SegmentedStream
from evict3r_ros.network import StreamVGGT
from evict3r_ros.stream import Prediction, Stream

VIDEO_ALIGNMENTS = {'': 'scale', '_shift': 'scale&shift', '_metric': 'none'}
"""Alignment by suffix of the metric's name."""
RANDOM_DRAWS = 20
CROP = 224
"""Side of the central square of the network's image whose points count, as in Spann3R's protocol."""
MOST_POINTS = 500_000


@dataclass
class Runner:
    """Run a network with the settings of its cache; count frames and seconds."""

    network: StreamVGGT
    configuration: Configuration
    image_width: int
    progress: Callable[[], object] = lambda: None
    frames: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)
    cache_bytes: int = field(default=0, init=False)
    segments: int | None = field(default=None, init=False)
    """Streams that answered the last sequence; None without segments."""

    def stream(self, sequence: TrueSequence) -> Iterator[tuple[int, Prediction]]:
        """Yield frame numbers and predictions for a sequence as one stream."""
        first = sequence.read_image(0)
        view = ImageView.of(first.shape[:2], self.image_width)
        tokens = view.patches[0] * view.patches[1] + self.network.preset.special_tokens
        config = self.configuration.cache_config(len(sequence), tokens)
        segments = parse_segments(self.configuration.mapping)
        with open_stream(self.network, config, first.shape[:2], self.image_width, segments) as stream:
            for index in range(len(sequence)):
                yield index, self._step(stream, first if index == 0 else sequence.read_image(index), sequence, index)
            self.cache_bytes = max(self.cache_bytes, sum(each.stats().cache_bytes for each in streams_of(stream)))
            if isinstance(stream, SegmentedStream):
                self.segments = stream.stats().segments

    def singles(self, sequence: TrueSequence) -> Iterator[tuple[int, Prediction]]:
        """Yield frame numbers and predictions for a sequence, each image as its own stream."""
        with Stream(self.network, CacheConfig('unbounded', 1, bits=32), image_width=self.image_width) as stream:
            for index in range(len(sequence)):
                stream.reset()
                yield index, self._step(stream, sequence.read_image(index), sequence, index)

    def _step(
        self, stream: Stream | SegmentedStream, image: np.ndarray, sequence: TrueSequence, index: int
    ) -> Prediction:
        start = time.perf_counter()
        try:
            prediction = stream.step(image)
        except ValueError as error:
            raise UserError(f'{sequence.images[index]}: {error}') from error
        if self.network.device.type == 'cuda':
            torch.cuda.synchronize(self.network.device)
        self.seconds += time.perf_counter() - start
        self.frames += 1
        self.progress()
        return prediction


def _true_depth(sequence: TrueSequence, index: int, prediction: Prediction) -> np.ndarray:
    if sequence.read_depth is None:
        raise UserError(f'{sequence.name}: no true depth')
    depth = sequence.read_depth(index)
    if depth.shape != prediction.view.camera_size:
        raise UserError(
            f'{sequence.images[index]}: the image has {prediction.view.camera_size} (height, width), its '
            f'depth {depth.shape}'
        )
    return depth


def _true_poses(sequence: TrueSequence) -> np.ndarray:
    if sequence.world_from_camera is None:
        raise UserError(f'{sequence.name}: no true poses')
    return sequence.world_from_camera


def _depth_figures(errors: DepthErrors, suffix: str = '') -> dict[str, float]:
    names = ('absrel', 'delta_1_25', 'rmse', 'log_rmse')
    return {
        f'{name}{suffix}': value
        for name, value in zip(names, (errors.absrel, errors.deltas[0], errors.rmse, errors.log_rmse), strict=True)
    }


def monodepth(runner: Runner, sequence: TrueSequence) -> dict[str, Any]:
    """Return means over images; ``weight`` is their number."""
    rows = []
    for index, prediction in runner.singles(sequence):
        found = prediction.view.to_camera(prediction.depth).cpu()
        truth = torch.as_tensor(_true_depth(sequence, index, prediction))
        errors = depth_errors(found, truth, 'median', max_depth=sequence.max_depth)
        if errors.pixels:
            rows.append(_depth_figures(errors))
    if not rows:
        raise UserError(f'{sequence.name}: no image has a true depth')
    return {'figures': {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}, 'weight': len(rows)}


def video_depth(runner: Runner, sequence: TrueSequence) -> dict[str, Any]:
    """Return metrics over all pixels of the sequence; ``weight`` is their number, ``constant`` a constant depth's."""
    found, truth, rows, constant_rows = [], [], [], []
    for index, prediction in runner.stream(sequence):
        found.append(prediction.view.to_camera(prediction.depth).cpu())
        truth.append(torch.as_tensor(_true_depth(sequence, index, prediction)))
        confidence = prediction.view.to_camera(prediction.confidence).cpu()
        rows.append(_frame_figures(found[-1], truth[-1], confidence, sequence.max_depth))
        constant = torch.ones_like(found[-1])
        constant_rows.append(_frame_figures(constant, truth[-1], None, sequence.max_depth))
    figures: dict[str, float] = {}
    pixels, predicted, true = 0, torch.stack(found), torch.stack(truth)
    for suffix, how in VIDEO_ALIGNMENTS.items():
        errors = depth_errors(predicted, true, how, max_depth=sequence.max_depth)
        figures |= _depth_figures(errors, suffix)
        pixels = errors.pixels
    if not pixels:
        raise UserError(f'{sequence.name}: no image has a true depth')
    flat = depth_errors(torch.ones_like(predicted), true, 'scale', max_depth=sequence.max_depth)
    return {
        'figures': figures | _means(rows),
        'weight': pixels,
        'constant': _depth_figures(flat) | _means(constant_rows),
    }


def _frame_figures(
    depth: torch.Tensor, truth: torch.Tensor, confidence: torch.Tensor | None, max_depth: float
) -> dict[str, float]:
    """Return what a frame scores after a median of its own, and its errors where it is surest and elsewhere."""
    errors = depth_errors(depth, truth, 'median', max_depth=max_depth)
    if not errors.pixels:
        return {}
    figures = {'absrel_frame': errors.absrel, 'delta_1_25_frame': errors.deltas[0]}
    if confidence is not None:
        known = torch.isfinite(truth) & torch.isfinite(depth) & (truth > 0) & (truth < max_depth)
        relative = ((errors.scale * depth - truth).abs() / truth)[known][confidence[known].argsort(descending=True)]
        half = len(relative) // 2
        figures |= {'absrel_sure': float(relative[:half].mean()), 'absrel_unsure': float(relative[half:].mean())}
    return figures


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    known = [row for row in rows if row]
    return {name: float(np.mean([row[name] for row in known])) for name in (known[0] if known else ())}


def trajectory(runner: Runner, sequence: TrueSequence) -> dict[str, Any]:
    """Return metrics of the poses, and the predicted poses (n, 4, 4) as ``poses``."""
    if len(sequence) < 3:
        raise UserError(f'{sequence.name}: {len(sequence)} frames are no trajectory')
    poses = np.stack([prediction.world_from_camera for _, prediction in runner.stream(sequence)])
    truth = _true_poses(sequence)
    return {
        'figures': pose_figures(poses, truth),
        'weight': 1,
        'path_length': pose.path_length(truth),
        'poses': poses,
        'still': pose_figures(np.tile(np.eye(4), (len(truth), 1, 1)), truth),
        'random': random_figures(truth),
    }


def pose_figures(poses: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the metrics of the papers (metres, degrees), ATE over length, and rotation relative to the first frame."""
    translation, rotation = pose.relative_errors(poses, truth)
    return {
        'ate': pose.ate(poses, truth),
        'rpe_translation': pose.rms(translation),
        'rpe_rotation_deg': pose.rms(rotation),
        'ate_over_length': pose.ate_over_length(poses, truth),
        'rotation_deg': float(pose.rotation_errors(poses, truth).mean()),
    }


def random_figures(truth: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Return mean metrics of walks with random steps and orientations."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(RANDOM_DRAWS):
        poses = np.tile(np.eye(4), (len(truth), 1, 1))
        poses[:, :3, 3] = rng.normal(size=(len(truth), 3)).cumsum(0)
        turns, _ = np.linalg.qr(rng.normal(size=(len(truth), 3, 3)))
        poses[:, :3, :3] = turns * np.linalg.det(turns)[:, None, None]
        rows.append(pose_figures(poses, truth))
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def mv_recon(runner: Runner, sequence: TrueSequence, crop: int = CROP) -> dict[str, Any]:
    """Return metrics of the points in metres. crop: side of the central square, or 0 for the whole image."""
    try:
        from evict3r_ros.evaluation.metrics.points import icp, point_errors
    except ModuleNotFoundError as error:
        raise UserError(f'mv-recon needs {error.name}: pip install {error.name}') from error
    truth = _true_poses(sequence)
    if sequence.intrinsics is None:
        raise UserError(f'{sequence.name}: no intrinsics')
    predicted_parts, true_parts = [], []
    for index, prediction in runner.stream(sequence):
        view = prediction.view
        true_depth = view.to_network(_true_depth(sequence, index, prediction)).astype(np.float64)
        depth = prediction.depth.double().cpu().numpy()
        rows, columns = (
            slice((side - crop) // 2, (side + crop) // 2) if 0 < crop < side else slice(None)
            for side in view.network_size
        )
        true_points = transform_points(truth[index], unproject(true_depth, view.to_network_K(sequence.intrinsics)))
        points = transform_points(prediction.world_from_camera, unproject(depth, prediction.intrinsics))
        known = (np.isfinite(true_depth) & (true_depth > 0) & np.isfinite(points).all(-1))[rows, columns]
        predicted_parts.append(points[rows, columns][known])
        true_parts.append(true_points[rows, columns][known])
    predicted, true = np.concatenate(predicted_parts), np.concatenate(true_parts)
    if len(true) < 100:
        raise UserError(f'{sequence.name}: only {len(true)} points with a true depth')
    stride = -(-len(true) // MOST_POINTS)
    predicted, true = predicted[::stride], true[::stride]
    aligned = pose.align(predicted, true).points(predicted)
    aligned = icp(aligned, true).points(aligned)
    return {'figures': vars(point_errors(aligned, true)), 'weight': 1, 'points': len(true)}


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    'monodepth': monodepth,
    'video-depth': video_depth,
    'pose': trajectory,
    'mv-recon': mv_recon,
}
FIGURES = {
    'monodepth': {'absrel': 'AbsRel', 'delta_1_25': 'δ<1.25'},
    'video-depth': {
        'absrel': 'AbsRel',
        'delta_1_25': 'δ<1.25',
        'absrel_shift': 'AbsRel, shift too',
        'delta_1_25_shift': 'δ<1.25, shift too',
        'absrel_metric': 'AbsRel, metric',
        'delta_1_25_metric': 'δ<1.25, metric',
        'absrel_frame': 'AbsRel, a median a frame',
        'delta_1_25_frame': 'δ<1.25, a median a frame',
        'absrel_sure': 'AbsRel of the surest half of a frame',
        'absrel_unsure': 'AbsRel of the other half',
    },
    'pose': {
        'ate': 'ATE [m]',
        'rpe_translation': 'RPE translation [m]',
        'rpe_rotation_deg': 'RPE rotation [°]',
        'ate_over_length': 'ATE / length',
        'rotation_deg': 'rotation [°]',
    },
    'mv-recon': {
        'accuracy_mean': 'Acc mean',
        'accuracy_median': 'Acc median',
        'completeness_mean': 'Comp mean',
        'completeness_median': 'Comp median',
        'normals_mean': 'NC mean',
        'normals_median': 'NC median',
    },
}
"""Metrics of each task and their titles in a table."""


def weighted_means(records: list[dict[str, Any]], section: str = 'figures') -> dict[str, float]:
    """Return means over sequences, weighted as the published scripts do.

    Monodepth is weighted by images, video depth by pixels; the other tasks count each sequence once.
    """
    weights = [record['weight'] for record in records]
    return {
        name: float(
            np.average(
                [math.nan if record[section][name] is None else record[section][name] for record in records],
                weights=weights,
            )
        )
        for name in records[0][section]
    }
