# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A run of the demo: make the input bag, start the node, play, record, and write what people look at."""

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
from evict3r_ros.cli.byte_text import byte_text
from evict3r_ros.cli.demo.inputs import DemoInput, folder_input, synthetic_input
from evict3r_ros.cli.options.node_parameters import NODE
from evict3r_ros.cli.stopping import sigterm_like_ctrl_c
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
_WHAT = {
    _ANSWER: "the node's answers as a bag (mcap): depth, camera_info, confidence, points, odometry, tf, status",
    _TRAJECTORY: 'odometry, TUM format',
    _CLOUD: 'coloured cloud in the odom frame',
    _PICTURE: 'cloud, path and cameras from above',
    _SHEET: 'image, depth and confidence of some frames',
    _SUMMARY: 'these figures',
    _INPUT: 'the bag that was played',
    _LOG: 'what the node said',
}

# A dozen frames of these images: the cache is soon full, and eviction shows.
_TOKENS = 2500
_VOXEL, _MOST_POINTS = 0.01, 500_000
_SHEET_ROWS = 8
_ACTIVATION_S = 120.0


def run_demo(
    out: Path, images: Path | None, frames: int, weights: str, policy: str, rate: float | None, timeout_s: float
) -> None:
    """Run it and print a summary. images: a folder laid out as io.image_folder says, or None for a loop through
    synthetic rooms.

    rate: see ros.replay. Raises UserError for wrong input, and for a node that fails or falls silent.
    """
    if policy not in POLICIES:
        raise UserError(f'--policy {policy} is not one of {", ".join(POLICIES)}')
    started = time.monotonic()
    if weights != 'random':
        find_weights(weights)  # a download is not to wait inside the node
    # Small operations on several threads are slower than on one as soon as another process wants the cores.
    torch.set_num_threads(1)
    source = synthetic_input(frames) if images is None else folder_input(images, frames)
    folder = RunFolder(out, 'evict3r demo', tuple(_WHAT))
    folder.prepare()
    with sigterm_like_ctrl_c():
        _make_input(source, folder.file(_INPUT))
        result = _play(folder, source.count, weights, policy, rate, timeout_s)
        summary = _export(folder, source, result)
    summary['seconds'] = round(time.monotonic() - started, 1)
    folder.file(_SUMMARY).write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
    _print_summary(folder, summary)


def _make_input(source: DemoInput, path: Path) -> None:
    """Write the bag that is played, with a progress bar."""
    frames = tqdm(source.frames(), desc=f'input bag ({source.kind})', total=source.count, unit='image')
    write_image_bag(path, frames, source.camera)


def _play(folder: RunFolder, frames: int, weights: str, policy: str, rate: float | None, timeout_s: float) -> Replay:
    """Start the node, play the input into it and record its answers; the node is ended whatever happens."""
    domain = stay_on_this_machine()
    topics = CameraTopics()
    parameters = {
        'weights': weights,
        'device': 'cpu',
        'cache.policy': policy,
        'cache.tokens': _TOKENS,
        'allow_untrained_tf': True,
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
    """Write trajectory, cloud and picture from the recorded bag; returns the summary."""
    topics = AnswerTopics.of_node(NODE)
    cloud = VoxelCloud(_VOXEL, _MOST_POINTS)
    with BagReader(folder.file(_INPUT)) as played, BagReader(folder.file(_ANSWER)) as recorded:
        status = last_status(recorded, topics)
        poses = write_trajectory(folder.file(_TRAJECTORY), recorded, topics)
        collect_cloud(cloud, recorded, played, topics)
        cameras = read_cameras(recorded, played, topics)
        rows = pick_rows(_SHEET_ROWS, recorded, played, CameraTopics().image, topics)
    if status is None or not rows or not result.answered:
        raise UserError(f'nothing was answered: see {folder.file(_LOG)}')
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
        print('UNTRAINED: random weights. Depth, points and poses mean nothing; that they arrive is what this shows.\n')
    print(
        f'frames   {frames["played"]} in, {frames["processed"]} processed, {frames["dropped"]} dropped,'
        f' {frames["failed"]} failed'
    )
    print(
        f'latency  p50 {latency["p50"]:.0f} ms, p99 {latency["p99"]:.0f} ms,'
        ' from publishing an image to its last answer'
    )
    print(
        f'node     {node["weights"]}, preset {node["preset"]}, {node["device"]}; policy {node["policy"]},'
        f' {np.mean(node["tokens_a_layer"]):.0f} tokens a layer, cache {byte_text(node["cache_bytes"])}'
    )
    print(f'took     {summary["seconds"]:.0f} s\n')
    print(f'written to {folder.path}/')
    counts = {_TRAJECTORY: f' ({summary["poses"]} poses)', _CLOUD: f' ({summary["points"]} points)'}
    for name, size in folder.sizes().items():
        print(f'  {name:17} {byte_text(size):>8}  {_WHAT[name]}{counts.get(name, "")}')
