# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Who stays: each policy by its own formula, anchors, and a budget that follows the scene."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from cache_replay import Replay, shape
from hypothesis import given
from hypothesis import strategies as st

from evict3r_ros import kernels
from evict3r_ros.cache import CacheConfig, KeyValueCache, TierBits
from evict3r_ros.cache.policies.policy import select_tokens
from evict3r_ros.cache.policies.pooled_queries import pool_queries

pytestmark = pytest.mark.usefixtures('one_thread')


@given(st.integers(1, 5), st.integers(1, 30), st.integers(0, 1000))
def test_choose(layers, candidates, seed):
    generator = torch.Generator().manual_seed(seed)
    priorities = torch.randint(0, 4, (layers, candidates), generator=generator).float()
    valid = torch.rand(layers, candidates, generator=generator) > 0.3
    budgets = torch.randint(0, candidates + 2, (layers,), generator=generator)
    keep = select_tokens(priorities, valid, budgets)
    for layer in range(layers):
        order = sorted((i for i in range(candidates) if valid[layer, i]), key=lambda i: (-priorities[layer, i], i))
        assert keep[layer].nonzero().flatten().tolist() == sorted(order[: budgets[layer]])


def test_anchors_first_in_first_out_and_unpinned():
    replay = Replay(CacheConfig('xstreamvggt', 60, anchors=2), shape())
    ledger = replay.cache.ledger
    for frame in range(12):
        replay.step()
        if frame in (2, 4, 6):
            ledger.pin(frame)
        if frame >= 7:
            assert ledger.anchors.tolist() == [4, 6]
            assert {(f, token) for f in (4, 6) for token in range(8)} <= set(replay.kept(1))
    ledger.unpin(4)
    assert ledger.anchors.tolist() == [-1, 6]
    ledger.pin(-1)
    ledger.pin(6)
    assert ledger.anchors.tolist() == [-1, 6]
    for _ in range(12):
        replay.step()
    assert (4, 0) not in replay.kept(1) or (4, 7) not in replay.kept(1)


def test_a_share_of_an_anchor():
    """OVGGT keeps a twentieth of an anchor's tokens for sure: here 2 of 8, those of highest priority."""
    replay = Replay(CacheConfig('ovggt', 40, anchors=1, anchor_share=0.25), shape())
    for frame in range(25):
        replay.step()
        if frame == 3:
            replay.cache.ledger.pin(3)
            sure = [
                {
                    (3, int(replay.cache.ledger.token_of[slot]))
                    for slot in row
                    if slot < replay.cache.ledger.null_slot
                    and replay.cache.ledger.frame_of[slot] == 3
                    and replay.cache.ledger.protected[slot]
                }
                for row in replay.cache.ledger._table[:, :40]
            ]
    for layer in range(3):
        assert len(sure[layer]) == 2
        assert sure[layer] <= set(replay.kept(layer))


def test_uniform_keeps_whole_frames_evenly():
    replay = Replay(CacheConfig('uniform', 45, bits=32), shape(2))
    for frame in range(150):
        replay.step()
        names = replay.kept(0)
        frames = sorted({f for f, _ in names})
        assert names == [(f, token) for f in frames for token in range(8)]
        assert frames[0] == 0 and frames[-1] == frame
        assert len(frames) == min(frame + 1, 5)
        gaps = [b - a for a, b in pairwise(frames[:-1])]
        assert frame < 10 or max(gaps) <= 2 * min(gaps)


def test_random_is_fair_and_seeded():
    """Each token of the stream has the same chance, whenever it came; another seed draws others."""
    kept = {}
    for seed in (1, 2):
        replay = Replay(CacheConfig('random', 208, seed=seed, bits=4), shape(1))
        for _ in range(101):
            replay.step()
        kept[seed] = replay.kept(0)
    early = sum(1 <= f <= 50 for f, _ in kept[1])
    assert len(kept[1]) == 208
    assert 70 <= early <= 130  # 100 expected of 200 free places, standard deviation 6
    assert kept[1] != kept[2]


def test_evict3r_scores_neither_overflow_nor_freeze():
    """1000 frames: scores stay finite and near the mean mass, and late frames still get in."""
    replay = Replay(CacheConfig('evict3r', 40), shape(1))
    entered = 0
    for frame in range(1000):
        replay.step()
        entered += frame > 900 and (any(f == frame for f, _ in replay.kept(0)))
    ledger = replay.cache.ledger
    score = replay.cache.policy.priorities(ledger)[:, : ledger.width]
    assert torch.isfinite(score).all()
    assert 1.0 < score.mean() < 100.0  # 8 queries over 48 keys, times 48 keys
    assert replay.cache.policy.total.max() < 2**24  # beyond that, float32 could not add a frame
    assert entered > 50


def test_pooled_scores_agree_with_exact_ones():
    """On queries that differ little inside a run, pooling changes little; the sum of all mass stays the same."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 7, 8, generator=generator).repeat_interleave(16, dim=1)[:, :106]
    query = torch.cat((torch.randn(2, 5, 8, generator=generator), query), dim=1)
    keys = torch.randn(2, 60, 8, generator=generator)
    pooled, counts = pool_queries(query, 5)
    assert pooled.shape == (2, 5 + 7, 8)
    assert counts.tolist() == [1.0] * 5 + [16.0] * 6 + [10.0]
    mass = torch.empty(60)
    kernels.cache_mass(pooled, counts, keys.transpose(0, 1), torch.tensor(53), 7, mass)
    exact = torch.empty(60)
    kernels.cache_attention(query, keys.transpose(0, 1), keys.transpose(0, 1), torch.tensor(53), 7, exact)
    torch.testing.assert_close(mass, exact, rtol=1e-4, atol=1e-4)


def seen_layer(policy, tokens=40):
    """Return a cache of one layer in the middle of the fourth frame: its ledger, policy, and keys by slot."""
    replay = Replay(CacheConfig(policy, tokens, bits=32), shape(1))
    for _ in range(3):
        replay.step()
    cache = replay.cache
    cache.begin_frame()
    return cache, replay


def test_infinitevggts_formula():
    """Similarity to the mean of normalised candidates; alpha = softmax((1 - mean similarity) / temperature)."""
    cache, replay = seen_layer('infinitevggt')
    query, key, value = replay.random(), replay.random(), replay.random()
    cache.attend(0, query, key, value)
    names = [*replay.kept(0), *((3, token) for token in range(8))]
    past = replay.past[0] | {(3, token): (key[0, :, token], value[0, :, token]) for token in range(8)}
    keys = torch.stack([past[name][0] for name in names])
    unit = keys / keys.norm(dim=-1, keepdim=True)
    free = torch.tensor([frame != 0 for frame, _ in names])
    similarity = (unit * unit[free].mean(0)).sum(-1).mean(-1)
    torch.testing.assert_close(cache.policy.priorities(cache.ledger)[0], -similarity, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(cache.policy.mean_similarity[0], similarity[free].mean(), rtol=1e-4, atol=1e-5)
    two = KeyValueCache(CacheConfig('infinitevggt', 40), shape(2))
    two.policy.mean_similarity.copy_(torch.tensor([0.1, 0.3]))
    share = 1 / (1 + math.exp((0.7 - 0.9) / 0.5))
    assert two.policy.budgets(two.ledger)[0].item() == pytest.approx(share * 80, abs=1.5)


def test_ovggts_formula():
    """New tokens by the residual's norm, half smoothed with [1 2 1; 2 4 2; 1 2 1] / 16; old ones by difference."""
    cache, replay = seen_layer('ovggt')
    cache.attend(0, replay.random(), replay.random(), replay.random())
    residual = torch.rand(1, 8, 16, generator=replay.generator)
    cache.observe_residual(0, residual)
    norm = residual[0].norm(dim=-1)
    grid = [[norm[2 + 3 * min(max(r, 0), 1) + min(max(c, 0), 2)] for c in range(-1, 4)] for r in range(-1, 3)]
    smooth = [
        sum(
            weight * grid[r + i][c + j]
            for i, row in enumerate(((1, 2, 1), (2, 4, 2), (1, 2, 1)))
            for j, weight in enumerate(row)
        )
        / 16
        for r in range(2)
        for c in range(3)
    ]
    new = torch.cat((norm[:2], 0.5 * norm[2:] + 0.5 * torch.stack(smooth)))
    old = 1 - cache.policy.similarity[cache.ledger.slots[0, :-8]]
    priorities = cache.policy.priorities(cache.ledger)[0]
    torch.testing.assert_close(priorities[-8:], (new - new.min()) / (new.max() - new.min()))
    torch.testing.assert_close(priorities[:-8], (old - old.min()) / (old.max() - old.min()))


def test_scores_follow_a_token_whose_precision_falls():
    """Evict3R's totals belong to tokens, not to slots: at 16/8/4 bits they are those of one precision."""
    plain, mixed = (Replay(CacheConfig('evict3r', 60, bits=bits), shape(1)) for bits in (16, TierBits(16, 16, 16)))
    for _ in range(12):
        plain.step()
        mixed.step()
    assert plain.kept(0) == mixed.kept(0)
    totals = [
        replay.cache.policy.total[replay.cache.ledger._table[0, : replay.cache.ledger.lengths[0]]]
        for replay in (plain, mixed)
    ]
    torch.testing.assert_close(*totals)


class StillScene(Replay):
    """A room that is looked around in, and then one view of it, with a little noise, for as long as one likes."""

    def __init__(self, config):
        super().__init__(config, shape(2))
        self.views = 3 * torch.randn(13, 1, 2, 8, 8, generator=self.generator)

    def random(self):
        view = self.views[min(self.frame, 12)]
        return view + 0.02 * torch.randn(view.shape, generator=self.generator)


def test_standing_still_forgets_nothing_under_an_adaptive_budget():
    """A robot looks around for 12 frames and then stands for 1000: which tokens remain, and how many are attended."""
    remain = {}
    for budget, still in (('fixed', 100), ('adaptive', 1000)):
        scene = StillScene(CacheConfig('sliding_window', 80, budget=budget, least_tokens=30))
        for _ in range(12 + still):
            scene.step()
        remain[budget] = {f for layer in range(2) for f, _ in scene.kept(layer)}
    assert remain['fixed'] == set(range(102, 112))
    room = {f for f in remain['adaptive'] if f <= 12}
    assert len(room) >= 8  # of the ten that the budget holds: two views of the still scene had to come in
    assert len(remain['adaptive'] - room) <= 2
    ledger = scene.cache.ledger
    assert ledger.focus_lengths.tolist() == [30, 30]
    assert ledger.lengths.tolist() == [80, 80]
    size = scene.cache.bytes
    scene.views[12] = 3 * torch.randn(1, 2, 8, 8, generator=scene.generator)
    scene.step()  # a new sight
    assert ledger.focus_lengths.sum() == ledger.lengths.sum()
    assert scene.cache.bytes == size


def test_motion_alone_admits():
    """A view that is known, seen by a camera that says it has moved: admitted."""
    scene = StillScene(CacheConfig('sliding_window', 80, budget='adaptive', novelty=1.0))
    for moved in (0.0, 0.0, 1.0, 0.0):
        scene.cache.adaptive.observe_motion(torch.tensor(moved))
        scene.step()
    assert {f for f, _ in scene.kept(0)} == {0, 2}
