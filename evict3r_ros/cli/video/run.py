# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Run a video: predict frame by frame, continue an earlier run, and export the results."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from evict3r_ros import __version__, geometry
from evict3r_ros.cache import CacheConfig
from evict3r_ros.camera.view import ImageView
from evict3r_ros.cli.interruption import sigterm_as_keyboard_interrupt
from evict3r_ros.cli.options.cache import cache_config
from evict3r_ros.cli.options.inputs import selection
from evict3r_ros.cli.options.network import device_and_dtype, load, named_policy
from evict3r_ros.cli.output import UNTRAINED, format_bytes, print_files, print_notes
from evict3r_ros.errors import UserError
from evict3r_ros.io import video_export
from evict3r_ros.io.frame_source import DEFAULT_FPS, open_source
from evict3r_ros.io.frames import FrameSource, VideoFrame
from evict3r_ros.io.masks import SkyModel
from evict3r_ros.io.prediction_folder import FrameArrays, FrameRecord, PredictionFolder
from evict3r_ros.io.video_export import Exported, ExportSettings, Threshold, export
from evict3r_ros.network import preset_of
from evict3r_ros.network.checkpoint import find_weights
from evict3r_ros.stream import Stream

MAKER = 'evict3r video'
SUMMARY = 'summary.json'
_DERIVED = {
    video_export.TRAJECTORY: 'poses of the camera, TUM format',
    video_export.INTRINSICS: 'pinhole of each frame',
    video_export.CLOUD: 'coloured cloud',
    video_export.SCENE: 'cloud and cameras (glTF, y up)',
    video_export.PICTURE: 'cloud, path and cameras from above',
    video_export.DEPTH_VIDEO: 'images and depth side by side',
    video_export.SHEET: 'some frames on one page',
    video_export.PREDICTIONS: 'all frames in one file',
    SUMMARY: 'these numbers',
}
_STATS_EVERY_S = 0.5
"""Time between updates of the token count, each of which waits for the device."""


@dataclass
class Progress:
    """What a run did, for the summary."""

    answered: int = 0
    """Frames that were predicted and written."""
    replayed: int = 0
    """Frames that were predicted again without being written."""
    seconds: float = 0.0
    """For the frames that were written."""
    tokens: list[int] = field(default_factory=list)
    """Kept by each layer at the end."""
    cache_bytes: int = 0
    largest_difference: float = 0.0
    """Largest difference between entries of a replayed and the stored pose."""
    damaged: int = 0
    """Parts of the input that could not be decoded."""
    notes: list[str] = field(default_factory=list)
    """What a user should know of the input."""
    interrupted: bool = False


def run_video(args: argparse.Namespace) -> int:
    """Run it; return 130 if it was interrupted, after exporting the frames until then. Raises UserError if it fails."""
    export_settings = _export_settings(args)
    if not 0.0 < args.depth_scale < math.inf:
        raise UserError(f'--depth-scale {args.depth_scale:g} must be positive')
    folder = PredictionFolder(args.out, MAKER, tuple(_DERIVED), args.depth_scale)
    with sigterm_as_keyboard_interrupt(), folder:
        if args.export_only:
            settings, progress = _open_for_export(folder, args), Progress()
        else:
            settings, progress = _predict(folder, args)
        if progress.interrupted:
            print(f'\ninterrupted: exporting {folder.count} frames; Ctrl-C again skips this', file=sys.stderr)
        if not folder.count:
            raise UserError(
                'interrupted before the first frame' if progress.interrupted else f'{args.input}: no frames'
            )
        exported = _export(folder, export_settings, settings, args)
        summary = _summary(folder, settings, progress, exported)
        (folder.path / SUMMARY).write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
        _print_summary(folder, summary)
    return 130 if progress.interrupted else 0


def _export_settings(args: argparse.Namespace) -> ExportSettings:
    if args.voxel is not None and not 0.0 < args.voxel < math.inf:
        raise UserError(f'--voxel {args.voxel:g} must be positive')
    if args.max_points < 8:
        raise UserError(f'--max-points {args.max_points}: give 8 or more')
    if args.max_cameras < 0:
        raise UserError(f'--max-cameras {args.max_cameras}: give 0 or more')
    return ExportSettings(
        Threshold.parse(args.confidence),
        args.points,
        args.mask_black,
        args.mask_white,
        SkyModel(args.mask_sky) if args.mask_sky is not None else None,
        args.voxel,
        args.max_points,
        args.max_cameras if args.show_cameras else 0,
        args.predictions,
    )


def _open_for_export(folder: PredictionFolder, args: argparse.Namespace) -> dict[str, Any]:
    settings = folder.settings()
    if settings is None:
        raise UserError(f'{folder.path}: no frames of an earlier run there')
    if args.points == 'head' and settings['points'] != 'head':
        raise UserError(f'{folder.path} was made without the point head: start over with --overwrite')
    folder.depth_scale = settings['depth_scale']
    folder.begin(settings, overwrite=False)
    return settings


def _predict(folder: PredictionFolder, args: argparse.Namespace) -> tuple[dict[str, Any], Progress]:
    """Predict all missing frames, and return their settings."""
    source = open_source(args.input, selection(args), args.input_fps)
    frames = source.exact_count() if args.P is not None else None
    config = replace(cache_config(args, frames), policy=named_policy(args, args.policy))
    settings = _settings(args, source, config)
    folder.run_folder.check()
    earlier = None if args.overwrite else folder.settings()
    if earlier is not None:
        _check_settings(folder, earlier, settings)
        if source.is_live:
            raise UserError(
                f'{folder.path} holds frames of a camera, which cannot be continued: choose another --out, '
                '--overwrite or --export-only'
            )
        end = {'end_s': args.end, 'count': args.frames}
        if earlier.get('complete') == end:
            folder.begin(earlier, overwrite=False)
            print(f'{folder.path}: all {folder.count} frames exist; only the exports are made again')
            return earlier, Progress()
    network = load(args, ('camera', 'depth', 'point') if args.points == 'head' else ('camera', 'depth'))
    settings |= {'complete': None, 'untrained': network.untrained, 'weights_source': network.source}
    if network.untrained:
        print('UNTRAINED weights: depth, points and poses will mean nothing', file=sys.stderr)
    progress = Progress()
    # Decoding begins before the folder is made, so that a damaged input leaves nothing behind.
    images = source.frames()
    first = next(images, None)
    if first is None:
        raise UserError(f'{args.input}: no frames')
    with Stream(network, config, first.image.shape[:2], args.image_width) as stream:
        folder.begin(settings, args.overwrite)
        try:
            _run_stream(stream, itertools.chain([first], images), source.expected(), folder, progress)
            settings['complete'] = {'end_s': args.end, 'count': args.frames}
            folder.write_settings(settings)
        except KeyboardInterrupt:
            progress.interrupted = True
        except torch.cuda.OutOfMemoryError as error:
            raise UserError(
                f'{network.device} is out of memory after {folder.count} frames: give fewer --tokens or '
                '--bits (`evict3r plan` shows what fits)'
            ) from error
        except UserError as error:
            there = f' ({folder.count} frames are in {folder.path}: export them with --export-only)'
            raise UserError(f'{error}{there if folder.count else ""}') from error
        progress.damaged, progress.notes = source.damaged, source.notes
        if not progress.interrupted and progress.answered == 0 and progress.replayed < folder.count:
            print(f'{folder.path} has {folder.count} frames, more than the {progress.replayed} requested: all are used')
        stats = stream.stats()
        progress.tokens, progress.cache_bytes = stats.tokens, stats.cache_bytes
    return settings, progress


def _settings(args: argparse.Namespace, source: FrameSource, config: CacheConfig) -> dict[str, Any]:
    """Return all settings that the predictions depend on, as JSON values."""
    weights, path = args.weights, Path(args.weights).expanduser()
    if path.exists():
        path = find_weights(args.weights)
        weights = f'{path.resolve()} ({path.stat().st_size} bytes)'
    settings = {
        'version': __version__,
        'input': source.identity(),
        'input_fps': args.input_fps or DEFAULT_FPS,
        'weights': weights,
        'preset': preset_of(args.weights, args.preset),
        'image_width': args.image_width,
        'dtype': device_and_dtype(args)[1],
        'weights_bits': args.weights_bits,
        'points': args.points,
        'depth_scale': args.depth_scale,
        'cache': asdict(config),
    }
    values: dict[str, Any] = json.loads(json.dumps(settings))
    return values


def _check_settings(folder: PredictionFolder, earlier: dict[str, Any], settings: dict[str, Any]) -> None:
    """Raise UserError, with the differences, if existing frames have other settings."""

    def flat(values: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value
            for key, inner in values.items()
            for name, value in (inner.items() if isinstance(inner, dict) else [(key, inner)])
        }

    old, new = flat({key: earlier.get(key) for key in settings}), flat(settings)
    differ = [f'{key} was {old.get(key)} and is {new.get(key)}' for key in new if old.get(key) != new.get(key)]
    if differ:
        raise UserError(
            f'{folder.path} holds frames of another run ({"; ".join(differ)}): choose another --out, or --overwrite'
        )


def _run_stream(
    stream: Stream, frames: Iterator[VideoFrame], expected: int | None, folder: PredictionFolder, progress: Progress
) -> None:
    """Predict the frames; existing ones are compared with the folder instead of being written."""
    existing, stored = folder.count, folder.records()
    if existing:
        print(f'{folder.path}: {existing} frames exist; they run through the network again, then the rest follows')
    last_update = 0.0
    with tqdm(total=expected, unit='frame', dynamic_ncols=True, disable=None) as bar:
        for index, frame in enumerate(frames):
            begin = time.monotonic()
            record, arrays = predict_frame(stream, index, frame)
            if index < existing:
                progress.largest_difference = max(progress.largest_difference, _compare(next(stored), record, folder))
                progress.replayed += 1
            else:
                folder.append(record, arrays)
                progress.answered += 1
                progress.seconds += time.monotonic() - begin
            if index == existing:
                _warn_of_a_full_disk(folder, (expected or 0) - index)
            bar.update()
            if time.monotonic() - last_update > _STATS_EVERY_S:
                stats, last_update = stream.stats(), time.monotonic()
                bar.set_postfix_str(
                    f'{"replay, " if index < existing else ""}{np.mean(stats.tokens):.0f} tokens per layer, '
                    f'{format_bytes(stats.cache_bytes)}'
                )


def predict_frame(stream: Stream, index: int, frame: VideoFrame) -> tuple[FrameRecord, FrameArrays]:
    """Return the predictions for a frame. Raises UserError if they are not finite."""
    try:
        return _predict_frame(stream, index, frame)
    except ValueError as error:
        raise UserError(
            f'{frame.name}: the network gives no answer ({error}); is the precision (--dtype) too low, or are the '
            'weights damaged?'
        ) from error


def _predict_frame(stream: Stream, index: int, frame: VideoFrame) -> tuple[FrameRecord, FrameArrays]:
    points = points_confidence = None
    if stream.network.point_head is None:
        prediction = stream.step(frame.image)
        pose, camera_matrix, view = prediction.world_from_camera, prediction.intrinsics, prediction.view
        depth_map, confidence, image = prediction.depth, prediction.confidence, prediction.image
    else:
        # A Prediction does not contain the output of the point head.
        view = ImageView.of(frame.image.shape[:2], stream.image_width)
        prepared = view.prepare(torch.from_numpy(frame.image).to(stream.network.device))
        output = stream.run(prepared)
        encoding = output.pose_encoding[0, 0].double().cpu().numpy()
        pose, camera_matrix = geometry.world_from_camera(encoding), geometry.intrinsics(encoding, view.network_size)
        depth_map, confidence = output.depth[0, 0], output.confidence[0, 0]
        if output.points is not None and output.points_confidence is not None:
            points, points_confidence = _array(output.points[0, 0]), _array(output.points_confidence[0, 0])
        image = prepared.mul(255.0).round_().to(torch.uint8).permute(1, 2, 0)
    depth = _array(depth_map)
    if not (np.isfinite(pose).all() and np.isfinite(camera_matrix).all() and np.isfinite(depth).any()):
        raise ValueError('values that are not finite')
    record = FrameRecord(index, frame.stamp_ns, frame.name, pose, camera_matrix, view.to_camera_K(camera_matrix))
    return record, FrameArrays(image.cpu().numpy(), depth, _array(confidence), points, points_confidence)


def _array(values: torch.Tensor) -> np.ndarray:
    return values.float().cpu().numpy()


def _compare(stored: FrameRecord, replayed: FrameRecord, folder: PredictionFolder) -> float:
    """Return the largest difference of a replayed pose. Raises UserError if the frame is another one."""
    if (stored.stamp_ns, stored.name) != (replayed.stamp_ns, replayed.name):
        was, now = (f'{record.name} at {record.stamp_ns / 1e9:g} s' for record in (stored, replayed))
        raise UserError(
            f'{folder.path}: frame {stored.index} was {was} and is now {now}: the input has changed; '
            'start over with --overwrite'
        )
    return float(np.abs(stored.world_from_camera - replayed.world_from_camera).max())


def _warn_of_a_full_disk(folder: PredictionFolder, frames: int) -> None:
    index = folder.count - 1
    of_one = sum(file.stat().st_size for file in folder.path.glob(f'*/{index:06d}.*'))
    free = shutil.disk_usage(folder.path).free
    if of_one * frames > free:
        tqdm.write(
            f'evict3r: warning: {frames} more frames of {format_bytes(of_one)} will need about '
            f'{format_bytes(of_one * frames)}, and {folder.path} has {format_bytes(free)} free',
            file=sys.stderr,
        )


def _export(
    folder: PredictionFolder, export_settings: ExportSettings, settings: dict[str, Any], args: argparse.Namespace
) -> Exported:
    cache = settings['cache']
    header = [
        f'{MAKER}: {args.input}, {folder.count} frames',
        f'{settings["weights_source"]}, preset {settings["preset"]}, policy {cache["policy"]}, '
        f'{cache["tokens"]} tokens per layer' + (f', P {cache["share"]:g}' if cache['share'] is not None else ''),
    ]
    total = 2 * folder.count
    with tqdm(total=total, desc='cloud, scene, video', unit='frame', dynamic_ncols=True, disable=None) as bar:
        return export(folder, export_settings, settings['untrained'], header, bar.update)


def _summary(
    folder: PredictionFolder, settings: dict[str, Any], progress: Progress, exported: Exported
) -> dict[str, Any]:
    return {
        'settings': settings,
        'frames': folder.count,
        'answered_now': progress.answered,
        'replayed': progress.replayed,
        'replay_pose_difference': progress.largest_difference,
        'frames_per_s': round(progress.answered / progress.seconds, 3) if progress.seconds else None,
        'tokens_per_layer': progress.tokens,
        'cache_bytes': progress.cache_bytes,
        'damaged_packets': progress.damaged,
        'notes': progress.notes,
        'interrupted': progress.interrupted,
        'untrained': settings['untrained'],
        'points': exported.points,
        'voxel': exported.voxel,
        'min_confidence': exported.min_confidence,
        'masked_share': exported.masked_share,
        'median_depth': exported.median_depth,
        'video_fps': exported.video_fps,
        'written_bytes': folder.run_folder.sizes(),
    }


def _print_summary(folder: PredictionFolder, summary: dict[str, Any]) -> None:
    print()
    if summary['untrained']:
        print(UNTRAINED)
    rate = f', {summary["frames_per_s"]:.2f} frames/s, including writing' if summary['frames_per_s'] else ''
    print(f'frames   {summary["frames"]} ({summary["answered_now"]} now{rate})')
    if summary['damaged_packets']:
        print(f'damaged  {summary["damaged_packets"]} parts of the input could not be decoded and were skipped')
    print_notes(summary['notes'])
    if summary['replayed']:
        print(
            f'replay   {summary["replayed"]} frames; poses differ from the stored ones by at most '
            f'{summary["replay_pose_difference"]:.2g}'
        )
    if summary['tokens_per_layer']:
        tokens = np.mean(summary['tokens_per_layer'])
        print(f'cache    {tokens:.0f} tokens per layer, {format_bytes(summary["cache_bytes"])}')
    print(
        f'cloud    {summary["points"]} points, voxel {summary["voxel"]:.3g}, confidence from '
        f'{summary["min_confidence"]:.4g}, {summary["masked_share"]:.1%} of the pixels masked'
    )
    print(f'\nwritten to {folder.path}/  (image/, depth/, confidence/: one file per frame)')
    print_files(folder.run_folder, _DERIVED)
