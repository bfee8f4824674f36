# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Run one clip with ground truth through a Stream, and measure the predictions.

Metrics, one value per stream:

- AbsRel and delta < 1.25: over all pixels of the clip, after one scale for the clip, median(truth) / median(depth).
- Trajectory error over length: ATE (root mean square) after Sim(3) alignment, divided by the length of the true path.
- Rotation: mean over all frames, the first included, of the angle between predicted and true rotation relative to the
  first frame, degrees.
- Last lap, of a repeated loop: the mean of the same angles over its frames; and the root mean square of the position
  errors over its frames, after the alignment of the whole path, divided by the length of the lap.
- Baselines: a constant depth after the same alignment, and a camera that never moves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evict3r_ros.cache import CacheConfig
from evict3r_ros.evaluation.mapped import loop_counts, passing_map
from evict3r_ros.evaluation.metrics import pose
from evict3r_ros.evaluation.metrics.depth import depth_errors
from evict3r_ros.mapping import MappingSettings, SegmentedStream, SegmentSettings
from evict3r_ros.mapping.path import corrected_path
from evict3r_ros.network import StreamVGGT
from evict3r_ros.stream import Stream

SHORTEST_PATH = 1e-3
"""Metres: no error over length for a shorter path."""
MOST_BINS = 128
"""Most points of a curve over a stream; for longer streams, each point is the mean of several frames."""
CURVE_ROWS = 42
"""Curves and prefixes use a stride over rows and columns that leaves about this many rows; metrics use all pixels."""
PREFIXES = (12, 24, 48, 96, 128, 192, 256, 384, 512, 768, 1000, 1500, 2000)
"""Numbers of frames after which the errors of the stream so far are measured."""


ODOMETRY_FIGURES = (
    'odometry_rotation_deg',
    'odometry_ate_over_length',
    'odometry_last_lap_rotation_deg',
    'odometry_last_lap_ate_over_length',
)
"""Of a map: the path as it was answered, before any loop was closed."""


class Stopped(Exception):
    """The evaluation was stopped in the middle of a stream."""


@dataclass(frozen=True)
class TrueClip:
    """Images and ground truth of one stream."""

    images: torch.Tensor
    """(frames, H, W, 3) uint8 RGB."""
    depth: torch.Tensor
    """(frames, H, W) float32 along the optical z axis."""
    world_from_camera: np.ndarray
    """(frames, 4, 4) float64, OpenCV axes."""
    intrinsics: np.ndarray
    """(3, 3)."""


@dataclass(frozen=True)
class ClipPredictions:
    """What a stream predicted for a clip."""

    depth: torch.Tensor
    """(frames, H, W) float32, at the clip's size, NaN outside the network's crop."""
    world_from_camera: np.ndarray
    """(frames, 4, 4) float64, OpenCV axes."""
    focal: np.ndarray
    """(frames,): predicted horizontal focal length in pixels of the clip's images."""
    cost: dict[str, Any]
    """Bytes of the caches, tokens per layer, seconds; of a map also keyframes, segments and loops."""
    odometry: np.ndarray | None = None
    """(frames, 4, 4): where ``world_from_camera`` is what loops made of it."""


def open_stream(
    network: StreamVGGT,
    config: CacheConfig,
    camera_size: tuple[int, int],
    image_width: int | None = None,
    segments: SegmentSettings | None = None,
) -> Stream | SegmentedStream:
    """Return one stream, or with ``segments`` two that relieve each other, for images of a size (height, width)."""
    if segments is None:
        return Stream(network, config, camera_size, image_width)
    return SegmentedStream.open(network, config, camera_size, image_width, settings=segments)


def streams_of(stream: Stream | SegmentedStream) -> tuple[Stream, ...]:
    """Return all streams that hold memory, the one that answers first."""
    return stream.streams if isinstance(stream, SegmentedStream) else (stream,)


def stream_clip(
    network: StreamVGGT,
    config: CacheConfig,
    clip: TrueClip,
    image_width: int | None = None,
    progress: Callable[[], object] = lambda: None,
    mapping: SegmentSettings | MappingSettings | None = None,
) -> ClipPredictions:
    """Run the clip. ``progress`` is called after each frame; it may raise Stopped. mapping: instead of one stream."""
    frames, height, width = clip.depth.shape
    depth = torch.empty(clip.depth.shape, device=network.device)
    poses, focal = np.empty((frames, 4, 4)), np.empty(frames)
    start = time.perf_counter()
    segments = mapping.segments if isinstance(mapping, MappingSettings) else mapping
    with open_stream(network, config, (height, width), image_width, segments) as stream, ExitStack() as stack:
        mapper = None
        if isinstance(mapping, MappingSettings):
            mapper = stack.enter_context(passing_map(network, config, (height, width), image_width, mapping))
        for index in range(frames):
            prediction = stream.step(clip.images[index])
            depth[index] = prediction.view.to_camera(prediction.depth)
            poses[index] = prediction.world_from_camera
            focal[index] = prediction.view.to_camera_K(prediction.intrinsics)[0, 0]
            if mapper is not None and isinstance(stream, SegmentedStream):
                mapper.observe(index, stream)
            progress()
        if depth.is_cuda:
            torch.cuda.synchronize(depth.device)
        seconds = time.perf_counter() - start
        cost = _cost(stream, network.preset.pairs) | {'seconds': seconds}
        if mapper is None:
            return ClipPredictions(depth, poses, focal, cost)
        cost |= loop_counts(mapper, clip.depth, clip.world_from_camera, clip.intrinsics)
        corrected = corrected_path(np.arange(frames), poses, mapper.corrections())
    return ClipPredictions(depth, corrected, focal, cost, poses)


def _cost(stream: Stream | SegmentedStream, layers: int) -> dict[str, Any]:
    streams = streams_of(stream)
    cost: dict[str, Any] = {
        'cache_bytes': sum(each.cache.bytes for each in streams),
        'camera_cache_bytes': sum(each.camera_cache.bytes for each in streams),
        'tokens': sum(streams[0].stats().tokens) / layers,
        'budget': streams[0].config.tokens,
    }
    if isinstance(stream, SegmentedStream):
        stats = stream.stats()
        cost |= {'keyframes': stats.keyframes, 'segments': stats.segments, 'failed': sum(stats.failed.values())}
    return cost


def measure(clip: TrueClip, predictions: ClipPredictions, laps: int = 1) -> dict[str, Any]:
    """Return metrics, curves and baselines of one stream as plain numbers (NaN if undefined)."""
    truth = clip.depth.to(predictions.depth.device)
    true_poses, poses = clip.world_from_camera, predictions.world_from_camera
    finite = bool(np.isfinite(poses).all())
    if not finite:
        poses = np.full_like(poses, np.nan)
    depth = depth_errors(predictions.depth, truth)
    length = pose.path_length(true_poses)
    rotation = pose.rotation_errors(poses, true_poses) if finite else np.full(len(poses), np.nan)
    position = pose.position_errors(poses, true_poses) if finite else np.full(len(poses), np.nan)
    relative = pose.relative_errors(poses, true_poses) if finite else (np.array([np.nan]),) * 2
    over_length = 1.0 / length if length > SHORTEST_PATH else math.nan
    figures = {
        'absrel': depth.absrel,
        'delta_1_25': depth.deltas[0],
        'log_rmse': depth.log_rmse,
        'ate_over_length': pose.rms(position) * over_length,
        'rotation_deg': float(rotation.mean()),
        'rpe_translation': pose.rms(relative[0]),
        'rpe_rotation_deg': pose.rms(relative[1]),
        'focal_error': float(np.abs(predictions.focal / clip.intrinsics[0, 0] - 1.0).mean()),
        'valid_pixels': depth.pixels / truth.numel(),
    }
    lap = slice(len(poses) - len(poses) // laps, None)
    if laps > 1:
        figures |= {
            'last_lap_rotation_deg': float(rotation[lap].mean()),
            'last_lap_ate_over_length': pose.rms(position[lap]) / max(pose.path_length(true_poses[lap]), SHORTEST_PATH),
        }
    if predictions.odometry is not None:
        figures |= _odometry_figures(predictions.odometry, true_poses, over_length, lap)
    step = max(1, min(truth.shape[1:]) // CURVE_ROWS)
    few_found, few_true = (maps[:, step // 2 :: step, step // 2 :: step] for maps in (predictions.depth, truth))
    absrel = torch.nanmean((depth.scale * few_found - few_true).abs() / few_true, dim=(1, 2)).cpu().numpy()
    own = np.array([depth_errors(found, true).absrel for found, true in zip(few_found, few_true, strict=True)])
    curves = {
        'absrel': absrel,
        'absrel_own_median': own,
        'rotation_deg': rotation,
        'position_over_length': position * over_length,
    }
    return {
        'figures': figures,
        'baselines': baselines(truth, true_poses, over_length),
        'path_length': length,
        'curves': _binned(curves),
        'prefixes': _prefixes(few_found, few_true, poses, true_poses, finite),
        'cost': predictions.cost,
    }


def _odometry_figures(found: np.ndarray, truth: np.ndarray, over_length: float, lap: slice) -> dict[str, float]:
    """Return what the path was before loops were closed, beside what it is."""
    if not np.isfinite(found).all():
        return dict.fromkeys(ODOMETRY_FIGURES, math.nan)
    rotation, position = pose.rotation_errors(found, truth), pose.position_errors(found, truth)
    lap_length = max(pose.path_length(truth[lap]), SHORTEST_PATH)
    values = (
        float(rotation.mean()),
        pose.rms(position) * over_length,
        float(rotation[lap].mean()),
        pose.rms(position[lap]) / lap_length,
    )
    return dict(zip(ODOMETRY_FIGURES, values, strict=True))


def baselines(truth: torch.Tensor, true_poses: np.ndarray, over_length: float) -> dict[str, Any]:
    """Return the errors of a constant depth and of a still camera."""
    constant = depth_errors(torch.ones_like(truth), truth)
    still = np.tile(np.eye(4), (len(true_poses), 1, 1))
    return {
        'constant_absrel': constant.absrel,
        'constant_delta_1_25': constant.deltas[0],
        'still_ate_over_length': pose.ate(still, true_poses) * over_length,
        'still_rotation_deg': float(pose.rotation_errors(still, true_poses).mean()),
    }


def _binned(curves: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return means over bins of equal length (the last may be shorter); ``frame`` is the middle of each bin."""
    frames = len(next(iter(curves.values())))
    size = -(-frames // MOST_BINS)
    starts = np.arange(0, frames, size)
    ends = np.minimum(starts + size, frames)
    binned = {'frame': ((starts + ends - 1) / 2.0).tolist()}
    for name, values in curves.items():
        binned[name] = [float(values[start:end].mean()) for start, end in zip(starts, ends, strict=True)]
    return binned


def _prefixes(
    depth: torch.Tensor, truth: torch.Tensor, poses: np.ndarray, true_poses: np.ndarray, finite: bool
) -> dict[str, Any]:
    """Return the metrics after each number of frames in PREFIXES, each with its own alignment."""
    frames = [count for count in PREFIXES if count < len(poses)] + [len(poses)]
    rows: dict[str, list[float]] = {'path_length': [], 'absrel': [], 'ate_over_length': [], 'rotation_deg': []}
    for count in frames:
        length = pose.path_length(true_poses[:count])
        moved = finite and length > SHORTEST_PATH
        rows['path_length'].append(length)
        rows['absrel'].append(depth_errors(depth[:count], truth[:count]).absrel)
        rows['ate_over_length'].append(pose.ate(poses[:count], true_poses[:count]) / length if moved else math.nan)
        rows['rotation_deg'].append(float(pose.rotation_errors(poses[:count], true_poses[:count]).mean()))
    return {'frames': frames, **rows}
