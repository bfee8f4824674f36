# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Record what the global blocks attend to, and what the cache keeps, while a stream runs.

The maps are computed from the queries of each frame and the keys as the cache stores them. Attention with values that
are one for a group of keys and zero for all others is that group's share of the attention. So the maps use the same
kernels as the frame itself, in tiles, and the whole matrix of queries and keys is never in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from evict3r_ros import kernels
from evict3r_ros.cache import CacheConfig, KeyValueCache
from evict3r_ros.errors import UserError
from evict3r_ros.network import StreamVGGT
from evict3r_ros.stream import Stream


@dataclass(frozen=True)
class AttentionMaps:
    """Attention and kept tokens of a stream of T frames of N tokens each, for L chosen layers."""

    layers: list[int]
    layer_count: int
    """Number of all layers."""
    special_tokens: int
    patches: tuple[int, int]
    images: np.ndarray
    """(T, H, W, 3) uint8 RGB, as the network saw them."""
    frames: np.ndarray
    """(L, T, T) float32: share of the attention of a frame (row) to the tokens of another (column); mean over heads and
    queries, so rows sum to 1."""
    tokens: np.ndarray
    """(L, B, B) float32: attention from token to token, mean over heads, each row divided by its maximum; a pixel is
    the mean of ``tokens_per_pixel`` squared pairs. NaN where no key was attended: evicted, or in the future."""
    tokens_per_pixel: int
    kept: np.ndarray
    """(T, T, N) uint8: after each frame (first axis), the number of layers that keep each token of each frame."""

    @property
    def frame_tokens(self) -> int:
        """Return N, the number of tokens per frame."""
        return int(self.kept.shape[2])


def attention_to_groups(
    query: torch.Tensor, keys: torch.Tensor, valid: torch.Tensor, group: torch.Tensor, groups: int
) -> torch.Tensor:
    """Return the attention of each query to all keys of a group, mean over heads, (N, groups) float32.

    query (heads, N, head_dim), keys (heads, M, head_dim), valid (M,) bool, group (M,) int64 below ``groups``.
    """
    heads, count, head_dim = query.shape
    query, keys = query.float(), keys.float().contiguous()
    answer = torch.empty(count, groups, device=query.device)
    # As many groups at a time as a value has channels: not every engine takes values wider than keys.
    for first in range(0, groups, head_dim):
        values = (group[:, None] - first == torch.arange(head_dim, device=group.device)).float()
        shares = kernels.attention(query, keys, values.expand(heads, -1, -1).contiguous(), valid).mean(dim=0)
        answer[:, first : first + head_dim] = shares[:, : groups - first]
    return answer


class AttentionRecorder:
    """Records what the layers of a cache attend to and keep: a ``cache.CacheObserver``."""

    def __init__(self, cache: KeyValueCache, layers: Sequence[int], frames: int, pixels: int):
        """Record up to ``frames`` frames. pixels: most pixels on a side of a token map."""
        self._cache = cache
        self._layers = list(layers)
        self._frames, self._pixels = frames, pixels
        self._allocated = False

    def _allocate_maps(self) -> None:
        frame_tokens, count = self._cache.frame_tokens, len(self._layers)
        total = self._frames * frame_tokens
        self.tokens_per_pixel = -(-total // self._pixels)
        bins = -(-total // self.tokens_per_pixel)
        self.frame_shares = np.zeros((count, self._frames, self._frames), np.float32)
        self._sums = np.zeros((count, bins, bins), np.float64)
        self._counts = np.zeros((count, bins, bins), np.int32)
        self.kept = np.zeros((self._frames, self._frames, frame_tokens), np.uint8)
        self._allocated = True

    def attended(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """See CacheObserver.attended."""
        if layer in self._layers:
            if not self._allocated:
                self._allocate_maps()
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
        # Rows are binned as columns are; a pixel at the border of two frames gets rows of both.
        pixel_of_row = (now * count + np.arange(count)) // self.tokens_per_pixel
        weighted, present = (attention * keys_of_bin).double().cpu().numpy(), keys_of_bin.cpu().numpy()
        np.add.at(self._sums[row, :, :bins], pixel_of_row, weighted)
        np.add.at(self._counts[row, :, :bins], pixel_of_row, np.broadcast_to(present, (count, bins)))

    def frame_ended(self) -> None:
        """See CacheObserver.frame_ended."""
        for layer in range(self._cache.shape.layers):
            kept = self._cache.kept(layer).cpu().numpy()
            self.kept[self._cache.frames - 1, kept[:, 0], kept[:, 1]] += 1

    def token_maps(self) -> np.ndarray:
        """Return ``AttentionMaps.tokens``, (L, B, B)."""
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
    progress: Callable[[], object] = lambda: None,
) -> AttentionMaps:
    """Run up to ``count`` images (h, w, 3) uint8 RGB through a stream and record the chosen layers.

    pixels: most pixels on a side of a token map. Raises UserError for layers that the network does not have, and
    without images.
    """
    pairs = network.preset.pairs
    if not layers or not set(layers) <= set(range(pairs)) or len(set(layers)) != len(layers):
        raise UserError(f'layers {", ".join(map(str, layers)) or "(none)"}: give some of 0 to {pairs - 1}, each once')
    images = itertools.islice(images, count)
    first = next(images, None)
    if first is None:
        raise UserError('no images')
    seen = []
    # A replayed CUDA graph would not call the recorder.
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
