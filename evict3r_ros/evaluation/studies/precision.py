# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Compare predictions of faster ways to run a stream with float32 in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from evict3r_ros import kernels
from evict3r_ros.cache import CacheConfig
from evict3r_ros.evaluation.studies.activations import walk_images
from evict3r_ros.network import StreamVGGT
from evict3r_ros.stream import Stream


@dataclass(frozen=True)
class RunMode:
    """A way to run a stream."""

    dtype: str
    bits: int
    engine: str
    graph: bool
    weights_bits: int = 16


REFERENCE = RunMode('float32', 32, 'torch', False)
Kept = list[set[tuple[int, ...]]]
"""For each layer, (frame, token) of the kept tokens."""


def run_modes(device: torch.device) -> dict[str, RunMode]:
    """Return the modes to compare on a device, by name."""
    if device.type != 'cuda':
        return {
            'float32, 8 bits': RunMode('float32', 8, 'torch', False),
            'float32, 4 bits': RunMode('float32', 4, 'torch', False),
            'float32, weights of 8 bits': RunMode('float32', 32, 'torch', False, 8),
            'float32, weights of 4 bits': RunMode('float32', 32, 'torch', False, 4),
        }
    return {
        'float32, kernels and graph': RunMode('float32', 32, 'auto', True),
        'bfloat16 in plain torch': RunMode('bfloat16', 16, 'torch', False),
        'bfloat16, kernels and graph': RunMode('bfloat16', 16, 'auto', True),
        'bfloat16, kernels and graph, 4 bits': RunMode('bfloat16', 4, 'auto', True),
        'bfloat16, kernels and graph, weights of 8 bits': RunMode('bfloat16', 16, 'auto', True, 8),
        'bfloat16, kernels and graph, weights of 4 bits': RunMode('bfloat16', 16, 'auto', True, 4),
    }


def _run(
    network: StreamVGGT,
    config: CacheConfig,
    mode: RunMode,
    images: list[torch.Tensor],
    size: tuple[int, int],
    progress: Callable[[], object],
) -> tuple[list[np.ndarray], np.ndarray, Kept]:
    """Return the depth of each frame, poses (frames, 4, 4), and the tokens that each layer keeps in the end."""
    kernels.use_engine(mode.engine)
    depths, poses = [], []
    try:
        with Stream(network, replace(config, bits=mode.bits), size, image_width=size[1], graph=mode.graph) as stream:
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
    load: Callable[[str, int], StreamVGGT],
    config: CacheConfig,
    frames: int,
    size: tuple[int, int],
    seed: int = 0,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Compare each mode with the reference on the same walk.

    Returns relative L2 errors of depth, translation and rotation matrix (median and largest over frames), and the share
    of kept tokens that both keep. load: returns the network in a precision, given by name, and with weights of so many
    bits; it is called for each mode, so that only one network is in memory.
    """
    images = walk_images(frames, seed, size)
    network = load(REFERENCE.dtype, REFERENCE.weights_bits)
    device = network.device
    exact, exact_poses, exact_kept = _run(network, config, REFERENCE, images, size, progress)
    del network
    results = {}
    for name, mode in run_modes(device).items():
        depths, poses, kept = _run(load(mode.dtype, mode.weights_bits), config, mode, images, size, progress)
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


def markdown(results: dict[str, Any]) -> str:
    """Return the comparison as a table."""
    lines = ['| way | depth, median / largest | translation | rotation | kept by both |', '|---|---|---|---|---|']
    for name, row in results.items():
        errors = [
            f'{row[what]["median"]:.4f} / {row[what]["largest"]:.4f}' for what in ('depth', 'translation', 'rotation')
        ]
        lines.append(f'| {name} | {" | ".join(errors)} | {row["kept_by_both"]:.3f} |')
    return '\n'.join(lines)
