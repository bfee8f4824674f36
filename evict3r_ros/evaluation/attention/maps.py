# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whom the global blocks attend to, and what the cache keeps, recorded beside a stream for pictures.

The maps are computed beside the frame, from its queries and from the keys as the cache stores them. Attention to values
that are one in one group of keys and zero elsewhere is that group's share of the attention: so the maps go through the
same door as the frame itself (``kernels``), in tiles, and the matrix of all queries and all keys is never whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evict3r_ros import kernels
from evict3r_ros.cache import CacheConfig, KeyValueCache
from evict3r_ros.errors import UserError
from evict3r_ros.network import StreamVGGT
from evict3r_ros.stream import Stream


@dataclass(frozen=True)
class AttentionMaps:
    """What a stream of T frames of N tokens each attended to and kept; L chosen layers, of all ``layer_count``."""

    layers: list[int]
    layer_count: int
    special_tokens: int
    patches: tuple[int, int]
    images: np.ndarray
    """(T, H, W, 3) uint8 RGB, as the network saw them."""
    frames: np.ndarray
    """(L, T, T) float32: the share of its attention that a frame (row) gives to the tokens of a frame (column); mean
    over heads and queries, so rows sum to 1."""
    tokens: np.ndarray
    """(L, B, B) float32: attention from token to token, mean over heads, each row over its own largest; a pixel is the
    mean of ``tokens_per_pixel`` squared pairs. NaN where no key was attended: evicted, or yet to come."""
    tokens_per_pixel: int
    kept: np.ndarray
    """(T, T, N) uint8: after each frame (first axis), how many of all layers keep each token of each frame."""

    @property
    def frame_tokens(self) -> int:
        """N."""
        return self.kept.shape[2]


def attention_to_groups(
    query: torch.Tensor, keys: torch.Tensor, valid: torch.Tensor, group: torch.Tensor, groups: int
) -> torch.Tensor:
    """(N, groups) float32: the attention that each query gives to all keys of a group, mean over heads.

    query (heads, N, head_dim), keys (heads, M, head_dim), valid (M,) bool, group (M,) int64 below ``groups``.
    """
    heads, count, head_dim = query.shape
    query, keys = query.float(), keys.float().contiguous()
    answer = torch.empty(count, groups, device=query.device)
    # As many groups at a time as a value has channels: an engine need not take values wider than keys.
    for first in range(0, groups, head_dim):
        values = (group[:, None] - first == torch.arange(head_dim, device=group.device)).float()
        shares = kernels.attention(query, keys, values.expand(heads, -1, -1).contiguous(), valid).mean(dim=0)
        answer[:, first : first + head_dim] = shares[:, : groups - first]
    return answer


class AttentionRecorder:
    """Follows a cache and records whom its layers attend to, and what they keep: a ``cache.CacheObserver``."""

    def __init__(self, cache: KeyValueCache, layers: Sequence[int], frames: int, pixels: int):
        """frames: how many will come; pixels: the most that a side of a token map may have."""
        self._cache = cache
        self._layers = list(layers)
        self._frames, self._pixels = frames, pixels
        self._maps: Any = None

    def _make_maps(self) -> None:
        frame_tokens, count = self._cache.frame_tokens, len(self._layers)
        total = self._frames * frame_tokens
        self.tokens_per_pixel = -(-total // self._pixels)
        bins = -(-total // self.tokens_per_pixel)
        self.frame_shares = np.zeros((count, self._frames, self._frames), np.float32)
        self._sums = np.zeros((count, bins, bins), np.float64)
        self._counts = np.zeros((count, bins, bins), np.int32)
        self.kept = np.zeros((self._frames, self._frames, frame_tokens), np.uint8)
        self._maps = True

    def attended(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """See CacheObserver.attended."""
        if layer in self._layers:
            if self._maps is None:
                self._make_maps()
            self._record(self._layers.index(layer), layer, query[0])

    def _record(self, row: int, layer: int, query: torch.Tensor) -> None:
        seen = self._cache.attended_tokens(layer)
        count, now, valid = self._cache.frame_tokens, self._cache.frames, seen.valid
        keys = seen.keys.transpose(0, 1)
        frame, token = seen.frame.long().masked_fill(~valid, 0), seen.token.long().masked_fill(~valid, 0)
        shares = attention_to_groups(query, keys, valid, frame, now + 1)
        self.frame_shares[row, now, : now + 1] = shares.mean(dim=0).cpu().numpy()
        pixel = (frame * count + token) // self.tokens_per_pixel
        bins = int(((now + 1) * count - 1) // self.tokens_per_pixel) + 1
        keys_of_bin = torch.bincount(pixel[valid], minlength=bins)
        attention = attention_to_groups(query, keys, valid, pixel, bins) / keys_of_bin.clamp(min=1)
        attention /= attention.amax(dim=1, keepdim=True).clamp(min=1e-30)
        # Rows fall into pixels as columns do; a pixel at the border of two frames gets rows of both.
        pixel_of_row = (now * count + np.arange(count)) // self.tokens_per_pixel
        weighted, present = (attention * keys_of_bin).double().cpu().numpy(), keys_of_bin.cpu().numpy()
        np.add.at(self._sums[row], (pixel_of_row, slice(0, bins)), weighted)
        np.add.at(self._counts[row], (pixel_of_row, slice(0, bins)), np.broadcast_to(present, (count, bins)))

    def frame_ended(self) -> None:
        """See CacheObserver.frame_ended."""
        for layer in range(self._cache.shape.layers):
            kept = self._cache.kept(layer).cpu().numpy()
            self.kept[self._cache.frames - 1, kept[:, 0], kept[:, 1]] += 1

    def token_maps(self) -> np.ndarray:
        """(L, B, B) of AttentionMaps."""
        with np.errstate(invalid='ignore'):
            return (self._sums / np.where(self._counts, self._counts, np.nan)).astype(np.float32)


def record(
    network: StreamVGGT,
    config: CacheConfig,
    images: Iterable[np.ndarray],
    count: int,
    layers: Sequence[int],
    image_width: int | None = None,
    pixels: int = 1000,
    progress: Callable[[], None] = lambda: None,
) -> AttentionMaps:
    """Run up to ``count`` images (h, w, 3) uint8 RGB through a stream and record the chosen layers.

    pixels: the most that a side of a token map may have. Raises UserError for layers that the network does not have,
    and without images.
    """
    pairs = network.preset.pairs
    if not layers or not set(layers) <= set(range(pairs)) or len(set(layers)) != len(layers):
        raise UserError(f'layers {", ".join(map(str, layers)) or "(none)"}: give some of 0 to {pairs - 1}, each once')
    images = itertools.islice(images, count)
    first = next(images, None)
    if first is None:
        raise UserError('no images to record the attention of')
    seen = []
    # A CUDA graph would pass the recorder by.
    with Stream(network, config, first.shape[:2], image_width, graph=False) as stream:
        recorder = AttentionRecorder(stream.cache, layers, count, pixels)
        stream.cache.observers.append(recorder)
        for image in itertools.chain([first], images):
            seen.append(stream.step(image).image.cpu().numpy())
            progress()
        cache, there = stream.cache, len(seen)
        bins = -(-there * cache.frame_tokens // recorder.tokens_per_pixel)
        return AttentionMaps(
            list(layers),
            pairs,
            cache.shape.special_tokens,
            cache.patches,
            np.stack(seen),
            recorder.frame_shares[:, :there, :there],
            recorder.token_maps()[:, :bins, :bins],
            recorder.tokens_per_pixel,
            recorder.kept[:there, :there],
        )
