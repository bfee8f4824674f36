# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A run over a video: answer frame by frame, go on where an earlier run stopped, and write what people look at."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from evict3r_ros import __version__, geometry
from evict3r_ros.cache import CacheConfig
from evict3r_ros.camera.view import ImageView
from evict3r_ros.cli.byte_text import byte_text
from evict3r_ros.cli.options.cache import cache_config
from evict3r_ros.cli.options.inputs import selection
from evict3r_ros.cli.options.network import device_and_dtype, load
from evict3r_ros.cli.stopping import sigterm_like_ctrl_c
from evict3r_ros.errors import UserError
from evict3r_ros.io import video_export
from evict3r_ros.io.frames import FrameSource, VideoFrame, open_source
from evict3r_ros.io.masks import SkyModel
from evict3r_ros.io.prediction_folder import FrameArrays, FrameRecord, PredictionFolder
from evict3r_ros.io.video_export import Exported, ExportSettings, Threshold, export
from evict3r_ros.network import preset_of
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
    SUMMARY: 'these figures',
}
_STATS_EVERY_S = 0.5
"""How often the progress bar asks the device for tokens: each question waits for it."""


@dataclass
class Progress:
    """What a run did, for the summary."""

    answered: int = 0
    replayed: int = 0
    seconds: float = 0.0
    """Of answering, replays left out."""
    tokens: list[int] = field(default_factory=list)
    """Kept by each layer in the end."""
    cache_bytes: int = 0
    largest_difference: float = 0.0
    """Between a pose of a replay and the stored one, over all entries of the matrices."""
    damaged: int = 0
    """Parts of the input that could not be decoded."""
    interrupted: bool = False


def run_video(args: argparse.Namespace) -> int:
    """Run it; 130 if it was interrupted, and what was answered until then has been written. Raises UserError."""
    export_settings = _export_settings(args)
    if not 0.0 < args.depth_scale < math.inf:
        raise UserError(f'--depth-scale {args.depth_scale:g} must be positive')
    folder = PredictionFolder(args.out, MAKER, tuple(_DERIVED), args.depth_scale)
    with sigterm_like_ctrl_c(), folder:
        if args.export_only:
            settings, progress = _open_for_export(folder, args), Progress()
        else:
            settings, progress = _answer(folder, args)
        if progress.interrupted:
            print(
                f'\ninterrupted: writing what {folder.count} frames give; Ctrl-C again leaves it at the frames',
                file=sys.stderr,
            )
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
        raise UserError(f'{folder.path} was made without the point head: run it anew with --overwrite')
    folder.depth_scale = settings['depth_scale']
    folder.begin(settings, overwrite=False)
    return settings


def _answer(folder: PredictionFolder, args: argparse.Namespace) -> tuple[dict[str, Any], Progress]:
    """Answer all frames that are not there yet. Returns the settings that they were answered with."""
    source = open_source(args.input, selection(args), args.input_fps)
    frames = source.exact_count() if args.P is not None else None
    config = cache_config(args, frames)
    settings = _settings(args, source, config)
    folder.run_folder.check()
    earlier = None if args.overwrite else folder.settings()
    if earlier is not None:
        _refuse_other(folder, earlier, settings)
        if source.is_live:
            raise UserError(
                f'{folder.path} holds frames of a camera, which never comes back to where it was: choose '
                'another --out, --overwrite or --export-only'
            )
        end = {'end_s': args.end, 'count': args.frames}
        if earlier.get('complete') == end:
            folder.begin(earlier, overwrite=False)
            print(f'{folder.path}: all {folder.count} frames are there; only what is made of them is made again')
            return earlier, Progress()
    network = load(args, ('camera', 'depth', 'point') if args.points == 'head' else ('camera', 'depth'))
    settings |= {'complete': None, 'untrained': network.untrained, 'weights_source': network.source}
    if network.untrained:
        print('UNTRAINED weights: depth, points and poses will mean nothing', file=sys.stderr)
    progress = Progress()
    # Decoding begins before the folder is touched, so that a damaged input leaves nothing behind.
    images = source.frames()
    first = next(images, None)
    if first is None:
        raise UserError(f'{args.input}: no frames')
    with Stream(network, config, first.image.shape[:2], args.image_width) as stream:
        folder.begin(settings, args.overwrite)
        try:
            _run_stream(stream, _with(first, images), source.expected(), folder, progress)
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
            there = f' ({folder.count} frames are in {folder.path}: --export-only makes cloud and pictures of them)'
            raise UserError(f'{error}{there if folder.count else ""}') from error
        progress.damaged = source.damaged
        if not progress.interrupted and progress.answered == 0 and progress.replayed < folder.count:
            print(f'{folder.path} has {folder.count} frames, more than the {progress.replayed} asked for: all are used')
        stats = stream.stats()
        progress.tokens, progress.cache_bytes = stats.tokens, stats.cache_bytes
    return settings, progress


def _with(first: VideoFrame, rest: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    yield first
    yield from rest


def _settings(args: argparse.Namespace, source: FrameSource, config: CacheConfig) -> dict[str, Any]:
    """All that the answers depend on, as JSON has it."""
    weights, path = args.weights, Path(args.weights).expanduser()
    if path.is_file():
        weights = f'{path.resolve()} ({path.stat().st_size} bytes)'
    settings = {
        'version': __version__,
        'input': source.identity(),
        'input_fps': args.input_fps,
        'weights': weights,
        'preset': preset_of(args.weights, args.preset),
        'image_width': args.image_width,
        'dtype': device_and_dtype(args)[1],
        'points': args.points,
        'depth_scale': args.depth_scale,
        'cache': asdict(config),
    }
    return json.loads(json.dumps(settings))


def _refuse_other(folder: PredictionFolder, earlier: dict[str, Any], settings: dict[str, Any]) -> None:
    """UserError, naming what differs, for frames that were answered with other settings."""

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
    """Answer the frames; those that the folder has already are compared with it instead of being written."""
    there, stored = folder.count, folder.records()
    if there:
        print(f'{folder.path}: {there} frames are there; they run through the network again, and the rest follows')
    last_look = 0.0
    with tqdm(total=expected, unit='frame', dynamic_ncols=True, disable=None) as bar:
        for index, frame in enumerate(frames):
            begin = time.monotonic()
            record, arrays = answer(stream, index, frame)
            if index < there:
                progress.largest_difference = max(progress.largest_difference, _compare(next(stored), record, folder))
                progress.replayed += 1
            else:
                folder.append(record, arrays)
                progress.answered += 1
                progress.seconds += time.monotonic() - begin
            if index == there:
                _warn_of_a_full_disk(folder, (expected or 0) - index)
            bar.update()
            if time.monotonic() - last_look > _STATS_EVERY_S:
                stats, last_look = stream.stats(), time.monotonic()
                bar.set_postfix_str(
                    f'{"replay, " if index < there else ""}{np.mean(stats.tokens):.0f} tokens a layer, '
                    f'{byte_text(stats.cache_bytes)}'
                )


def answer(stream: Stream, index: int, frame: VideoFrame) -> tuple[FrameRecord, FrameArrays]:
    """What the network says of a frame. Raises UserError where it says nothing finite."""
    try:
        return _answer_of(stream, index, frame)
    except ValueError as error:
        raise UserError(
            f'{frame.name}: the network gives no answer ({error}); too little precision (--dtype), or damaged weights?'
        ) from error


def _answer_of(stream: Stream, index: int, frame: VideoFrame) -> tuple[FrameRecord, FrameArrays]:
    points = points_confidence = None
    if stream.network.point_head is None:
        answered = stream.step(frame.image)
        pose, camera_matrix, view = answered.world_from_camera, answered.intrinsics, answered.view
        depth, confidence, image = answered.depth, answered.confidence, answered.image
    else:
        # What the point head says is no part of a Prediction.
        view = ImageView.of(frame.image.shape[:2], stream.image_width)
        prepared = view.prepare(torch.from_numpy(frame.image).to(stream.network.device))
        output = stream.run(prepared)
        encoding = output.pose_encoding[0, 0].double().cpu().numpy()
        pose, camera_matrix = geometry.world_from_camera(encoding), geometry.intrinsics(encoding, view.network_size)
        depth, confidence = output.depth[0, 0], output.confidence[0, 0]
        points, points_confidence = _array(output.points[0, 0]), _array(output.points_confidence[0, 0])
        image = prepared.mul(255.0).round_().to(torch.uint8).permute(1, 2, 0)
    depth = _array(depth)
    if not (np.isfinite(pose).all() and np.isfinite(camera_matrix).all() and np.isfinite(depth).any()):
        raise ValueError('numbers that are not finite')
    record = FrameRecord(index, frame.stamp_ns, frame.name, pose, camera_matrix, view.to_camera_K(camera_matrix))
    return record, FrameArrays(image.cpu().numpy(), depth, _array(confidence), points, points_confidence)


def _array(values: torch.Tensor) -> np.ndarray:
    return values.float().cpu().numpy()


def _compare(stored: FrameRecord, replayed: FrameRecord, folder: PredictionFolder) -> float:
    """How far a replay's pose is from the stored one. Raises UserError where the frame is another one."""
    if (stored.stamp_ns, stored.name) != (replayed.stamp_ns, replayed.name):
        was, now = (f'{record.name} at {record.stamp_ns / 1e9:g} s' for record in (stored, replayed))
        raise UserError(
            f'{folder.path}: frame {stored.index} was {was} and is now {now}: the input has changed; '
            '--overwrite begins anew'
        )
    return float(np.abs(stored.world_from_camera - replayed.world_from_camera).max())


def _warn_of_a_full_disk(folder: PredictionFolder, frames: int) -> None:
    index = folder.count - 1
    of_one = sum(file.stat().st_size for file in folder.path.glob(f'*/{index:06d}.*'))
    free = shutil.disk_usage(folder.path).free
    if of_one * frames > free:
        tqdm.write(
            f'evict3r: warning: {frames} more frames of {byte_text(of_one)} will need about '
            f'{byte_text(of_one * frames)}, and {folder.path} has {byte_text(free)} free',
            file=sys.stderr,
        )


def _export(
    folder: PredictionFolder, export_settings: ExportSettings, settings: dict[str, Any], args: argparse.Namespace
) -> Exported:
    cache = settings['cache']
    header = [
        f'{MAKER}: {args.input}, {folder.count} frames',
        f'{settings["weights_source"]}, preset {settings["preset"]}, policy {cache["policy"]}, '
        f'{cache["tokens"]} tokens a layer' + (f', P {cache["share"]:g}' if cache['share'] is not None else ''),
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
        print('UNTRAINED: random weights. Depth, points and poses mean nothing; the plumbing is what this shows.\n')
    rate = f', {summary["frames_per_s"]:.2f} frames/s with writing' if summary['frames_per_s'] else ''
    print(f'frames   {summary["frames"]} ({summary["answered_now"]} now{rate})')
    if summary['damaged_packets']:
        print(f'damaged  {summary["damaged_packets"]} parts of the input could not be decoded and were passed over')
    if summary['replayed']:
        print(
            f'replay   {summary["replayed"]} frames; poses differ from the stored ones by at most '
            f'{summary["replay_pose_difference"]:.2g}'
        )
    if summary['tokens_per_layer']:
        tokens = np.mean(summary['tokens_per_layer'])
        print(f'cache    {tokens:.0f} tokens a layer, {byte_text(summary["cache_bytes"])}')
    print(
        f'cloud    {summary["points"]} points, voxel {summary["voxel"]:.3g}, confidence from '
        f'{summary["min_confidence"]:.4g}, {summary["masked_share"]:.1%} of the pixels masked'
    )
    print(f'\nwritten to {folder.path}/  (image/, depth/, confidence/: a file a frame)')
    for name, size in folder.run_folder.sizes().items():
        if name in _DERIVED:
            print(f'  {name:18}{byte_text(size):>10}  {_DERIVED[name]}')
