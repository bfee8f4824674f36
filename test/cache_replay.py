# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A cache driven by random keys and values, with an explicit list of every token beside it."""

from __future__ import annotations

import torch

from evict3r_ros.cache import CacheConfig, CacheShape, KeyValueCache


def shape(layers=3, patches=(2, 3)) -> CacheShape:
    """Frames of two special tokens and the patches: eight tokens."""
    return CacheShape(layers, 2, 8, 2, patches, torch.float32, torch.device('cpu'))


class Replay:
    """Drives a cache with random tokens and keeps every token ever seen in an explicit list beside it."""

    def __init__(self, config: CacheConfig, cache_shape: CacheShape, seed: int = 0):
        self.cache = KeyValueCache(config, cache_shape)
        self.shape = cache_shape
        self.generator = torch.Generator().manual_seed(seed)
        self.past = [{} for _ in range(cache_shape.layers)]
        self.frame = 0
        self.exact = config.bits == 32 and config.budget == 'fixed'
        self.cache.reset(cache_shape.patches)

    def random(self) -> torch.Tensor:
        return torch.randn(
            1, self.shape.heads, self.cache.ledger.frame_tokens, self.shape.head_dim, generator=self.generator
        )

    def step(self) -> None:
        """One frame; attention must equal attention over the list of what was kept."""
        kept_before = [self.kept(layer) for layer in range(self.shape.layers)]
        self.cache.begin_frame()
        for layer in range(self.shape.layers):
            query, key, value = 2 * self.random(), self.random(), self.random()
            answer = self.cache.attend(layer, query, key, value)
            if self.exact:
                for token in range(key.shape[2]):
                    self.past[layer][self.frame, token] = key[0, :, token], value[0, :, token]
                seen = [*kept_before[layer], *((self.frame, token) for token in range(key.shape[2]))]
                keys = torch.stack([self.past[layer][name][0] for name in seen], dim=1)
                values = torch.stack([self.past[layer][name][1] for name in seen], dim=1)
                expected = torch.nn.functional.scaled_dot_product_attention(query, keys[None], values[None])
                torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)
            self.cache.observe_residual(layer, torch.randn(1, key.shape[2], 16, generator=self.generator))
        self.cache.end_frame()
        self.budgets = self.cache.policy.budgets(self.cache.ledger).tolist()
        self.frame += 1

    def kept(self, layer: int) -> list[tuple[int, int]]:
        return [tuple(row) for row in self.cache.ledger.kept(layer).tolist()]

    def check(self) -> None:
        """No slot lost or owned twice, budgets kept, order kept."""
        ledger = self.cache.ledger
        owned = [ledger._table[layer, : ledger.lengths[layer]] for layer in range(self.shape.layers)]
        assert all(int(stack._free) >= 0 for stack in ledger.stacks)
        everything = torch.cat([*owned, *(stack.free() for stack in ledger.stacks)])
        assert torch.equal(everything.sort().values, torch.arange(ledger.null_slot))
        for layer in range(self.shape.layers):
            names = self.kept(layer)
            assert names == sorted(set(names))
            assert len(names) <= self.budgets[layer]
        assert sum(self.budgets) <= self.cache.config.tokens * self.shape.layers
