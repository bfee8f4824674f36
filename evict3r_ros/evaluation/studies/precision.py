# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What speed costs: predictions of faster ways to run a stream against float32 in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from evict3r_ros import kernels
from evict3r_ros.cache import CacheConfig
from evict3r_ros.evaluation.studies.activations import walk_images
from evict3r_ros.network import StreamVGGT
from evict3r_ros.stream import Stream


@dataclass(frozen=True)
class Way:
    """A way to run the same stream."""

    dtype: str
    bits: int
    engine: str
    graph: bool


REFERENCE = Way('float32', 32, 'torch', False)
Kept = list[set[tuple[int, int]]]


def ways(device: torch.device) -> dict[str, Way]:
    """The ways worth comparing on a device, by what they add to the one before."""
    if device.type != 'cuda':
        return {
            'float32, 8 bits': Way('float32', 8, 'torch', False),
            'float32, 4 bits': Way('float32', 4, 'torch', False),
        }
    return {
        'float32, kernels and graph': Way('float32', 32, 'auto', True),
        'bfloat16 in plain torch': Way('bfloat16', 16, 'torch', False),
        'bfloat16, kernels and graph': Way('bfloat16', 16, 'auto', True),
        'bfloat16, kernels and graph, 4 bits': Way('bfloat16', 4, 'auto', True),
    }


def _run(
    network: StreamVGGT,
    config: CacheConfig,
    way: Way,
    images: list[torch.Tensor],
    size: tuple[int, int],
    progress: Callable[[], object],
) -> tuple[list[np.ndarray], np.ndarray, Kept]:
    """Depth of each frame, poses (frames, 4, 4), and what each layer keeps in the end."""
    kernels.use_engine(way.engine)
    depths, poses = [], []
    try:
        with Stream(network, replace(config, bits=way.bits), size, image_width=size[1], graph=way.graph) as stream:
            for image in images:
                answer = stream.step(image)
                depths.append(answer.depth.cpu().numpy())
                poses.append(answer.world_from_camera)
                progress()
            kept = [
                {tuple(token) for token in stream.cache.kept(layer).tolist()}
                for layer in range(stream.cache.shape.layers)
            ]
    finally:
        kernels.use_engine('auto')
    return depths, np.stack(poses), kept


def _relative(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def compare(
    load: Callable[[str], StreamVGGT],
    config: CacheConfig,
    frames: int,
    size: tuple[int, int],
    seed: int = 0,
    progress: Callable[[], object] = lambda: None,
) -> dict:
    """For each way, against the reference on the same walk: relative L2 errors of depth, translation and rotation matrix
    (median and largest over frames), and the share of kept tokens that both keep.

    load: the network in a precision, by its name; called anew for each way, so that one is in memory at a time.
    """
    images = walk_images(frames, seed, size)
    network = load(REFERENCE.dtype)
    device = network.device
    exact, exact_poses, exact_kept = _run(network, config, REFERENCE, images, size, progress)
    del network
    results = {}
    for name, way in ways(device).items():
        depths, poses, kept = _run(load(way.dtype), config, way, images, size, progress)
        errors = {
            'depth': [_relative(a, b) for a, b in zip(depths, exact, strict=True)],
            'translation': [_relative(a[:3, 3], b[:3, 3]) for a, b in zip(poses[1:], exact_poses[1:], strict=True)],
            'rotation': [_relative(a[:3, :3], b[:3, :3]) for a, b in zip(poses, exact_poses, strict=True)],
        }
        results[name] = {
            **{what: {'median': float(np.median(values)), 'largest': max(values)} for what, values in errors.items()},
            'kept_by_both': float(np.mean([len(a & b) / len(b) for a, b in zip(kept, exact_kept, strict=True)])),
        }
    return results


def markdown(results: dict) -> str:
    """The comparison as a table."""
    lines = ['| way | depth, median / largest | translation | rotation | kept by both |', '|---|---|---|---|---|']
    for name, row in results.items():
        errors = [
            f'{row[what]["median"]:.4f} / {row[what]["largest"]:.4f}' for what in ('depth', 'translation', 'rotation')
        ]
        lines.append(f'| {name} | {" | ".join(errors)} | {row["kept_by_both"]:.3f} |')
    return '\n'.join(lines)
