# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Compare Evict3R's scores from pooled queries with those from all queries."""

from __future__ import annotations

from dataclasses import replace

import torch

from evict3r_ros import kernels
from evict3r_ros.cache import CacheConfig, CacheShape
from evict3r_ros.cache.config import Budget
from evict3r_ros.cache.ledger import Ledger
from evict3r_ros.cache.policies.evict3r import Evict3R
from evict3r_ros.cache.policies.policy import Observation, select_tokens
from evict3r_ros.cache.policies.pooled_queries import pool_queries
from evict3r_ros.evaluation.studies.activations import walk_images
from evict3r_ros.network import StreamVGGT
from evict3r_ros.stream import Stream


class _ScoreComparison(Evict3R):
    """Evict3R with exact scores, which decides, and the same policy with pooled scores, for comparison."""

    def __init__(self, budget: Budget, shape: CacheShape, slots: int):
        super().__init__(budget, shape, slots)
        pooled = replace(budget, config=replace(budget.config, scores='pooled'))
        self._pooled = Evict3R(pooled, shape, slots)
        self._mass = torch.zeros(shape.layers, 0)
        self.overlap: list[float] = []
        self.rank_correlation: list[float] = []

    def observe(self, layer: int, ledger: Ledger, seen: Observation) -> None:
        """Update both scores."""
        super().observe(layer, ledger, seen)
        columns = ledger.capacity + ledger.frame_tokens
        if self._mass.shape[1] < columns:
            self._mass = torch.zeros(len(self._mass), columns)
        pooled, counts = pool_queries(seen.query, ledger.special_tokens)
        kernels.cache_mass(
            pooled,
            counts,
            seen.keys,
            ledger.attended_lengths[layer],
            ledger.frame_tokens,
            self._mass[layer, : len(seen.keys)],
        )

    def frame_done(self, ledger: Ledger, mass: torch.Tensor | None) -> None:
        """Compare what both would keep, if tokens must be evicted."""
        super().frame_done(ledger, mass)
        self._pooled.frame_done(ledger, self._mass[:, : ledger.attended.shape[1]])
        budgets = self.budgets(ledger)
        if bool((ledger.valid.sum(1) > budgets).all()):
            free = ledger.valid & ~self.pinned(ledger)
            ranks, kept = [], []
            for policy in (self, self._pooled):
                priorities = policy.priorities(ledger)
                masked = priorities.masked_fill(policy.pinned(ledger), torch.inf)
                kept.append(select_tokens(masked, ledger.valid, budgets) & free)
                ranks.append(
                    [row[some].argsort().argsort().double() for row, some in zip(priorities, free, strict=True)]
                )
            self.overlap.append(float((kept[0] & kept[1]).sum() / kept[0].sum()))
            pairs = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*ranks, strict=True)]
            self.rank_correlation.append(float(torch.stack(pairs).mean()))


def compare(
    network: StreamVGGT, frames: int, size: tuple[int, int], budgets: list[int], seed: int = 0
) -> dict[int, dict[str, float]]:
    """Compare pooled with exact scores over a walk, for each budget in tokens per layer.

    ``overlap`` is the share of kept tokens, without pinned ones, that pooled scores would keep as well;
    ``rank_correlation`` is Spearman's of the scores; both are means over frames and layers. ``chance`` is the overlap
    of random tokens.
    """
    images = walk_images(frames, seed, size)
    results = {}
    for tokens in budgets:
        with Stream(network, CacheConfig('evict3r', tokens, bits=32), size, image_width=size[1]) as stream:
            comparison = stream.cache.specialise_policy(_ScoreComparison)
            for image in images:
                stream.step(image)
            count = stream.cache.shape.frame_tokens
        results[tokens] = {
            'frames_compared': len(comparison.overlap),
            'overlap': sum(comparison.overlap) / len(comparison.overlap),
            'rank_correlation': sum(comparison.rank_correlation) / len(comparison.rank_correlation),
            'chance': (tokens - count) / tokens,
        }
    return results


def markdown(results: dict[int, dict[str, float]]) -> str:
    """Return the comparison as a table."""
    lines = [
        '| tokens per layer | frames compared | kept by both | by chance | rank correlation |',
        '|---|---|---|---|---|',
    ]
    lines += [
        f'| {tokens} | {row["frames_compared"]} | {row["overlap"]:.3f} | {row["chance"]:.3f} | '
        f'{row["rank_correlation"]:.3f} |'
        for tokens, row in results.items()
    ]
    return '\n'.join(lines)
