# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Run the demo: make the input bag, start the node, play, record, and export the outputs."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from evict3r_ros.cache import POLICIES
from evict3r_ros.cache.config import AUTO
from evict3r_ros.cli.demo.inputs import DemoInput, folder_input, synthetic_input
from evict3r_ros.cli.interruption import sigterm_as_keyboard_interrupt
from evict3r_ros.cli.options.node_parameters import NODE
from evict3r_ros.cli.output import UNTRAINED, format_bytes, print_files
from evict3r_ros.errors import UserError
from evict3r_ros.io.answer import AnswerTopics, collect_cloud, last_status, pick_rows, read_cameras, write_trajectory
from evict3r_ros.io.bag import BagReader, BagWriter
from evict3r_ros.io.contact_sheet import write_contact_sheet
from evict3r_ros.io.image_bag import CameraTopics, write_image_bag
from evict3r_ros.io.ply import VoxelCloud, write_ply
from evict3r_ros.io.run_folder import RunFolder
from evict3r_ros.io.scene_picture import UP_OF_BODY, PictureScene, write_scene_picture
from evict3r_ros.network.checkpoint import find_weights
from evict3r_ros.ros.tools.middleware import stay_on_this_machine
from evict3r_ros.ros.tools.node_process import NodeProcess
from evict3r_ros.ros.tools.replay import Replay, replay
from evict3r_ros.ros.tools.session import Session

_INPUT, _ANSWER, _LOG = 'input', 'answer', 'node.log'
_TRAJECTORY, _CLOUD, _PICTURE, _SHEET = 'trajectory.tum', 'points.ply', 'scene.png', 'contact_sheet.png'
_SUMMARY = 'summary.json'
_DESCRIPTIONS = {
    _ANSWER: "the node's outputs as a bag (mcap): depth, camera_info, confidence, points, odometry, tf, status",
    _TRAJECTORY: 'odometry, TUM format',
    _CLOUD: 'coloured cloud in the odom frame',
    _PICTURE: 'cloud, path and cameras from above',
    _SHEET: 'image, depth and confidence of some frames',
    _SUMMARY: 'these numbers',
    _INPUT: 'the bag that was played',
    _LOG: 'log of the node',
}

_TOKENS = 2500
"""A dozen frames of these images, so that the cache is soon full."""
_VOXEL, _MOST_POINTS = 0.01, 500_000
_SHEET_ROWS = 8
_ACTIVATION_S = 120.0


def run_demo(
    out: Path, images: Path | None, frames: int, weights: str, policy: str, rate: float | None, timeout_s: float
) -> None:
    """Run the demo and print a summary.

    images: a folder in the layout of io.image_folder, or None for a loop through synthetic rooms. rate: see
    ros.tools.replay. Raises UserError for invalid input, and if the node fails or does not answer in time.
    """
    if policy not in (AUTO, *POLICIES):
        raise UserError(f'--policy {policy} is not one of {", ".join((AUTO, *POLICIES))}')
    started = time.monotonic()
    if weights != 'random':
        find_weights(weights)  # downloads before the node starts, if needed
    # Small operations are slower on several threads than on one if another process needs the cores.
    torch.set_num_threads(1)
    source = synthetic_input(frames) if images is None else folder_input(images, frames)
    folder = RunFolder(out, 'evict3r demo', tuple(_DESCRIPTIONS))
    folder.prepare()
    with sigterm_as_keyboard_interrupt():
        _make_input(source, folder.file(_INPUT))
        result = _play(folder, source.count, weights, policy, rate, timeout_s)
        summary = _export(folder, source, result)
    summary['seconds'] = round(time.monotonic() - started, 1)
    folder.file(_SUMMARY).write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
    _print_summary(folder, summary)


def _make_input(source: DemoInput, path: Path) -> None:
    """Write the bag to play, with a progress bar."""
    frames = tqdm(source.frames(), desc=f'input bag ({source.kind})', total=source.count, unit='image')
    write_image_bag(path, frames, source.camera)


def _play(folder: RunFolder, frames: int, weights: str, policy: str, rate: float | None, timeout_s: float) -> Replay:
    """Start the node, play the input to it, record its outputs, and end it."""
    domain = stay_on_this_machine()
    topics = CameraTopics()
    parameters = {
        'weights': weights,
        'cache.policy': policy,
        'cache.tokens': _TOKENS,
        'publish_tf': True,
        'use_sim_time': True,
        'save.folder': '',
    }
    ros_arguments = [word for name, value in parameters.items() for word in ('-p', f'{name}:={json.dumps(value)}')]
    ros_arguments += ['-r', f'image:={topics.image}', '-r', f'camera_info:={topics.camera_info}']
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(NodeProcess(['--localhost', '--ros-args', *ros_arguments], folder.file(_LOG)))
        session = stack.enter_context(Session('evict3r_demo', domain))
        print(f'starting the node (ROS domain {domain}, this machine only)', flush=True)
        process.wait_until_active(session.node, NODE, _ACTIVATION_S)
        played = stack.enter_context(BagReader(folder.file(_INPUT)))
        answer = stack.enter_context(BagWriter(folder.file(_ANSWER)))
        bar = stack.enter_context(tqdm(desc='played and answered', total=frames, unit='image'))
        return replay(
            session, process, played, topics.image, AnswerTopics.of_node(NODE), answer, rate, timeout_s, bar.update
        )


def _export(folder: RunFolder, source: DemoInput, result: Replay) -> dict[str, Any]:
    """Write trajectory, cloud and pictures from the recorded bag; return the summary."""
    topics = AnswerTopics.of_node(NODE)
    cloud = VoxelCloud(_VOXEL, _MOST_POINTS)
    with BagReader(folder.file(_INPUT)) as played, BagReader(folder.file(_ANSWER)) as recorded:
        status = last_status(recorded, topics)
        poses = write_trajectory(folder.file(_TRAJECTORY), recorded, topics)
        collect_cloud(cloud, recorded, played, topics)
        cameras = read_cameras(recorded, played, topics)
        rows = pick_rows(_SHEET_ROWS, recorded, played, CameraTopics().image, topics)
    if status is None or not rows or not result.answered:
        raise UserError(f'the node answered nothing: see {folder.file(_LOG)}')
    points, untrained = cloud.cloud(), bool(status.untrained)
    write_ply(folder.file(_CLOUD), points)
    path = np.array([camera.world_from_camera[:3, 3] for camera in cameras])
    scene = PictureScene(points, cloud.voxel, path, cameras)
    write_scene_picture(folder.file(_PICTURE), scene, UP_OF_BODY, untrained)
    title = f'evict3r demo: {source.origin}, {poses} of {source.count} images answered'
    node = f'{status.weights}, preset {status.preset}, policy {status.policy}, device {status.device}'
    write_contact_sheet(folder.file(_SHEET), rows, [title, node], untrained)
    latency = np.percentile(result.latencies_s, (50, 99)) * 1e3
    return {
        'input': {'kind': source.kind, 'origin': source.origin, 'frames': source.count},
        'node': {
            'weights': status.weights,
            'untrained': untrained,
            'preset': status.preset,
            'policy': status.policy,
            'device': status.device,
            'tokens_a_layer': status.budget.tolist(),
            'cache_bytes': int(status.cache_bytes),
        },
        'frames': {
            'played': result.played,
            'answered': result.answered,
            'received': int(status.frames_received),
            'processed': int(status.frames_processed),
            'dropped': int(status.frames_dropped),
            'failed': int(status.frames_failed),
        },
        'latency_ms': {'p50': round(float(latency[0]), 1), 'p99': round(float(latency[1]), 1)},
        'poses': poses,
        'points': len(cloud),
        'voxel_m': cloud.voxel,
        'written_bytes': folder.sizes(),
    }


def _print_summary(folder: RunFolder, summary: dict[str, Any]) -> None:
    frames, node, latency = summary['frames'], summary['node'], summary['latency_ms']
    print()
    if node['untrained']:
        print(UNTRAINED)
    print(
        f'frames   {frames["played"]} in, {frames["processed"]} processed, {frames["dropped"]} dropped,'
        f' {frames["failed"]} failed'
    )
    print(
        f'latency  p50 {latency["p50"]:.0f} ms, p99 {latency["p99"]:.0f} ms,'
        ' from publishing an image to its last output'
    )
    print(
        f'node     {node["weights"]}, preset {node["preset"]}, {node["device"]}; policy {node["policy"]},'
        f' {np.mean(node["tokens_a_layer"]):.0f} tokens per layer, cache {format_bytes(node["cache_bytes"])}'
    )
    print(f'took     {summary["seconds"]:.0f} s\n')
    print(f'written to {folder.path}/')
    counts = {_TRAJECTORY: f' ({summary["poses"]} poses)', _CLOUD: f' ({summary["points"]} points)'}
    print_files(folder, {name: what + counts.get(name, '') for name, what in _DESCRIPTIONS.items()})
