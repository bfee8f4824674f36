# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Record queries, keys and values of a network on a walk through a synthetic world."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from evict3r_ros.cache import CacheConfig
from evict3r_ros.network import StreamVGGT
from evict3r_ros.stream import Stream
from evict3r_ros.synthetic.clips import WorldStream


@dataclass(frozen=True)
class LayerActivations:
    """Queries, keys and values of one global block over a whole walk, after norm and RoPE."""

    query: torch.Tensor
    """(heads, N, head_dim) of the last frame."""
    keys: torch.Tensor
    """(frames * N, heads, head_dim)."""
    values: torch.Tensor
    """(frames * N, heads, head_dim)."""


class _Recorder:
    """Records what passes through a cache: a ``cache.CacheObserver``."""

    def __init__(self, layers: int):
        self.recorded: list[list[tuple[torch.Tensor, ...]]] = [[] for _ in range(layers)]

    def attended(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """See CacheObserver.attended."""
        self.recorded[layer].append(tuple(part[0].float() for part in (query, key, value)))

    def frame_ended(self) -> None:
        """See CacheObserver.frame_ended."""


def walk_images(frames: int, seed: int, size: tuple[int, int]) -> list[torch.Tensor]:
    """Return images (h, w, 3) uint8 of a walk through the world of a seed; size is (height, width)."""
    return [torch.as_tensor(frame.image) for frame in WorldStream(seed, frames, size=size, effects=False)]


def record(network: StreamVGGT, frames: int, seed: int, size: tuple[int, int]) -> list[LayerActivations]:
    """Return the activations of every layer over a walk with an unbounded, unquantized cache."""
    with Stream(network, CacheConfig('unbounded', 1, bits=32), size, image_width=size[1]) as stream:
        recorder = _Recorder(stream.cache.shape.layers)
        stream.cache.observers.append(recorder)
        for image in walk_images(frames, seed, size):
            stream.step(image)
    return [
        LayerActivations(
            recorded[-1][0], *(torch.cat([parts[i] for parts in recorded], dim=1).transpose(0, 1) for i in (1, 2))
        )
        for recorded in recorder.recorded
    ]


def with_outlier_channels(
    layer: LayerActivations, count: int, factor: float, offset: float, generator: torch.Generator
) -> LayerActivations:
    """Widen and shift the keys in a few random channels of each head, as in trained transformers."""
    keys = layer.keys.clone()
    for head in range(keys.shape[1]):
        channels = torch.randperm(keys.shape[2], generator=generator)[:count]
        signs = torch.randn(count, generator=generator).sign()
        keys[:, head, channels] = keys[:, head, channels] * factor + offset * signs
    return LayerActivations(layer.query, keys, layer.values)
