# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Do pooled queries choose the tokens that all queries would have chosen?"""

from __future__ import annotations

from dataclasses import replace

import torch

from evict3r_ros import kernels
from evict3r_ros.cache import CacheConfig, KeyValueCache
from evict3r_ros.cache.ledger import Ledger
from evict3r_ros.cache.policies.evict3r import Evict3R
from evict3r_ros.cache.policies.policy import Observation, choose
from evict3r_ros.cache.policies.pooled_queries import pool_queries
from evict3r_ros.evaluation.studies.activations import walk_images
from evict3r_ros.network import StreamVGGT
from evict3r_ros.stream import Stream


class _Shadow:
    """A policy with pooled scores that watches a cache whose own policy, with exact scores, decides."""

    def __init__(self, cache: KeyValueCache):
        budget = replace(cache.budget, config=replace(cache.config, scores='pooled'))
        self._cache, self._exact = cache, cache.policy
        self._pooled = Evict3R(budget, cache.shape, cache.pool.nowhere)
        self._observe, self._frame_done = cache.policy.observe, cache.policy.frame_done
        self._mass = torch.zeros(cache.shape.layers, cache.ledger.capacity + cache.shape.frame_tokens)
        self.overlap: list[float] = []
        self.rank_correlation: list[float] = []
        cache.policy.observe, cache.policy.frame_done = self.observe, self.frame_done

    def observe(self, layer, ledger, seen: Observation) -> None:
        """Both look."""
        self._observe(layer, ledger, seen)
        pooled, counts = pool_queries(seen.query, ledger.special_tokens)
        kernels.cache_mass(
            pooled,
            counts,
            seen.keys,
            ledger.seen_lengths[layer],
            ledger.frame_tokens,
            self._mass[layer, : len(seen.keys)],
        )

    def frame_done(self, ledger: Ledger, mass: torch.Tensor) -> None:
        """Compare what both would keep, where there is something to evict; the exact one decides."""
        self._frame_done(ledger, mass)
        self._pooled.frame_done(ledger, self._mass[:, : mass.shape[1]])
        budgets = self._exact.budgets(ledger)
        if bool((ledger.valid.sum(1) > budgets).all()):
            free = ledger.valid & ~self._exact.pinned(ledger)
            ranks, kept = [], []
            for policy in (self._exact, self._pooled):
                priorities = policy.priorities(ledger)
                kept.append(
                    choose(priorities.masked_fill(policy.pinned(ledger), torch.inf), ledger.valid, budgets) & free
                )
                ranks.append(
                    [row[some].argsort().argsort().double() for row, some in zip(priorities, free, strict=True)]
                )
            self.overlap.append(float((kept[0] & kept[1]).sum() / kept[0].sum()))
            pairs = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*ranks, strict=True)]
            self.rank_correlation.append(float(torch.stack(pairs).mean()))


def compare(network: StreamVGGT, frames: int, size: tuple[int, int], budgets: list[int], seed: int = 0) -> dict:
    """For each budget (tokens a layer), over a walk: the share of kept tokens, pinned ones apart, that pooled scores would
    have kept as well, and the rank correlation (Spearman) of the scores; means over frames and layers. ``chance`` is the
    share that a draw by lot would have in common.
    """
    images = walk_images(frames, seed, size)
    results = {}
    for tokens in budgets:
        with Stream(network, CacheConfig('evict3r', tokens, bits=32), size, image_width=size[1]) as stream:
            shadow = _Shadow(stream.cache)
            for image in images:
                stream.step(image)
            count = stream.cache.shape.frame_tokens
        results[tokens] = {
            'frames_compared': len(shadow.overlap),
            'overlap': sum(shadow.overlap) / len(shadow.overlap),
            'rank_correlation': sum(shadow.rank_correlation) / len(shadow.rank_correlation),
            'chance': (tokens - count) / tokens,
        }
    return results


def markdown(results: dict) -> str:
    """The comparison as a table."""
    lines = [
        '| tokens a layer | frames compared | kept by both | by chance | rank correlation |',
        '|---|---|---|---|---|',
    ]
    lines += [
        f'| {tokens} | {row["frames_compared"]} | {row["overlap"]:.3f} | {row["chance"]:.3f} | '
        f'{row["rank_correlation"]:.3f} |'
        for tokens, row in results.items()
    ]
    return '\n'.join(lines)
