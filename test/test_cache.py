# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The cache alone, on random keys and values: what stays, where it lies, and what attention sees."""

from __future__ import annotations

import math

import pytest
import torch
from cache_replay import Replay, shape
from hypothesis import given, settings
from hypothesis import strategies as st

from evict3r_ros.cache import POLICIES, CacheConfig, CacheShape, CameraCache, KeyValueCache, TierBits
from evict3r_ros.errors import UserError

pytestmark = pytest.mark.usefixtures('one_thread')

BOUNDED = [name for name, policy in POLICIES.items() if not policy.grows]

bits = st.one_of(st.sampled_from([32, 16, 8, 4, 2]), st.builds(TierBits, recent_frames=st.integers(1, 3)))


@settings(max_examples=60, deadline=None)
@given(
    policy=st.sampled_from(BOUNDED),
    tokens=st.integers(26, 60),
    layers=st.integers(1, 4),
    frames=st.integers(1, 20),
    seed=st.integers(0, 1000),
    temperature=st.sampled_from([0.5, 1e-3, 1e-5]),
    bits=bits,
    budget=st.sampled_from(['fixed', 'adaptive']),
    scores=st.sampled_from(['exact', 'pooled']),
    anchors=st.integers(0, 1),
    patches=st.sampled_from([(2, 3), (1, 3), (1, 1)]),
)
def test_random_streams(policy, tokens, layers, frames, seed, temperature, bits, budget, scores, anchors, patches):
    """Whatever the stream: bytes constant, slots whole, pinned tokens there, attention over what was kept."""
    anchors = anchors if POLICIES[policy].pins_frames else 0
    config = CacheConfig(
        policy, tokens, temperature=temperature, bits=bits, budget=budget, scores=scores, anchors=anchors
    )
    replay = Replay(config, shape(layers), seed)
    replay.cache.reset(patches)
    size, count = replay.cache.bytes, replay.cache.ledger.frame_tokens
    pinned = [(0, token) for token in range(count)] if policy != 'sliding_window' else []
    for frame in range(frames):
        replay.step()
        replay.check()
        assert replay.cache.bytes == size
        for layer in range(layers):
            assert set(pinned) <= set(replay.kept(layer))
        if anchors and frame == 3:
            replay.cache.ledger.pin(3)
            if budget == 'fixed':
                common = set.intersection(*(set(replay.kept(layer)) for layer in range(layers)))
                pinned += [name for name in common if name[0] == 3]


def test_unequal_layers_move_budget_inside_the_same_bytes():
    replay = Replay(CacheConfig('evict3r', 30, temperature=1e-3, bits=32), shape(4))
    for _ in range(20):
        replay.step()
        replay.check()
    assert len(set(replay.budgets)) > 1
    assert max(replay.budgets) > 30


def test_unbounded_keeps_everything_and_grows():
    replay = Replay(CacheConfig('unbounded', 10, bits=32), shape())
    size = replay.cache.bytes
    for _ in range(12):
        replay.step()
    assert replay.kept(0) == [(frame, token) for frame in range(12) for token in range(8)]
    assert replay.cache.bytes > size


def test_sliding_window_keeps_the_last():
    replay = Replay(CacheConfig('sliding_window', 16, bits=32), shape())
    for _ in range(5):
        replay.step()
    assert replay.kept(2) == [(frame, token) for frame in (3, 4) for token in range(8)]


def test_new_tokens_take_the_slots_of_the_evicted_and_nothing_moves():
    replay = Replay(CacheConfig('evict3r', 24, bits=32), shape())
    where = {}
    for _ in range(10):
        replay.step()
        ledger = replay.cache.ledger
        now = {
            (layer, *name): int(slot)
            for layer in range(3)
            for name, slot in zip(replay.kept(layer), ledger._table[layer], strict=False)
        }
        assert all(now[name] == slot for name, slot in where.items() if name in now)
        where = now


def test_reset_forgets_and_takes_smaller_frames():
    replay = Replay(CacheConfig('evict3r', 30, bits=32), shape())
    for _ in range(3):
        replay.step()
    replay.cache.reset((1, 3))
    replay.past, replay.frame = [{} for _ in range(3)], 0
    for _ in range(4):
        replay.step()
        replay.check()
    assert replay.kept(0)[:5] == [(0, token) for token in range(5)]
    with pytest.raises(ValueError, match='do not fit'):
        replay.cache.reset((7, 1))


def test_what_lies_in_free_slots_does_not_matter():
    """Poison every slot that nobody owns, at every frame: the answers stay."""
    clean, poisoned = (Replay(CacheConfig('evict3r', 30, bits=32), shape()) for _ in range(2))
    for _ in range(8):
        rows = poisoned.cache.pool.tiers[0].rows
        rows[poisoned.cache.ledger.stacks[0].free()] = 0xFF  # every number a NaN
        clean.step()
        poisoned.step()
    assert [clean.kept(layer) for layer in range(3)] == [poisoned.kept(layer) for layer in range(3)]


@pytest.mark.parametrize('tokens', [0, 17])
def test_budgets_that_cannot_work_are_refused_with_the_arithmetic(tokens):
    with pytest.raises(UserError, match=f'budget of {tokens} .*8 tokens.*at least 18'):
        KeyValueCache(CacheConfig('evict3r', tokens), shape())


def test_the_papers_budget_is_inert_at_its_resolution():
    """1041 tokens a frame leave nothing to choose under 2048: the case that XStreamVGGT was published with."""
    with pytest.raises(UserError, match=r'1041.*2082.*at least 2343'):
        KeyValueCache(
            CacheConfig('evict3r', 2048), CacheShape(2, 2, 8, 5, (28, 37), torch.float32, torch.device('cpu'))
        )


def test_unknown_policies_are_refused():
    with pytest.raises(UserError, match='sliding_window'):
        KeyValueCache(CacheConfig('lru'), shape())


def camera_cache(frames, policy) -> CameraCache:
    return CameraCache(frames, policy, 2, 2, 3, 8, torch.float32, torch.device('cpu'))


@pytest.mark.parametrize('policy', ['uniform', 'recent'])
def test_camera_cache(policy):
    """Against an explicit list: all rounds of remembered frames, and the earlier rounds of its own."""
    cache = camera_cache(5, policy)
    generator = torch.Generator().manual_seed(0)
    anchors = torch.tensor([-1, -1])
    past = [{} for _ in range(2)]
    for frame in range(40):
        if frame == 9:
            anchors[1] = 8
        cache.begin_frame(anchors)
        frames = cache.frame_of[cache.frame_of >= 0].tolist()
        assert len(set(frames)) == len(frames) == min(frame + 1, 5)
        assert {0, frame} <= set(frames)
        assert frame < 9 or 8 in frames
        if policy == 'recent' and 5 <= frame < 9:
            assert set(frames) == {0, *range(frame - 3, frame + 1)}
        for number in range(3):
            for block in range(2):
                query, key, value = (torch.randn(1, 2, 1, 8, generator=generator) for _ in range(3))
                answer = cache.attend(block, query, key, value)
                past[block][frame, number] = key, value
                seen = [entry for (f, _), entry in past[block].items() if f in frames]
                keys, values = (torch.cat([entry[i] for entry in seen], dim=2) for i in (0, 1))
                expected = torch.nn.functional.scaled_dot_product_attention(query, keys, values)
                torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)
        cache.end_frame()


def test_camera_cache_settings():
    with pytest.raises(UserError, match='3 or more'):
        CacheConfig(camera_frames=2)
    with pytest.raises(UserError, match='2 anchors; give 5 or more'):
        CacheConfig(camera_frames=4, anchors=2)
    with pytest.raises(UserError, match='recent'):
        camera_cache(5, 'lru')


def test_budget_from_memory():
    config, big = CacheConfig('evict3r', memory_mb=1.0, bits=4), shape(4)
    cache = KeyValueCache(config, big)
    assert 0.98 * 2**20 < cache.bytes <= 2**20
    more = KeyValueCache(CacheConfig('evict3r', cache.config.tokens + 3, bits=4), big)
    assert more.bytes > 2**20
    mixed = KeyValueCache(CacheConfig('evict3r', memory_mb=1.0, bits=TierBits()), big)
    assert 0.98 * 2**20 < mixed.bytes <= 2**20
    with pytest.raises(UserError, match=r'0\.001 MiB do not hold one frame of 8 tokens.*at least'):
        KeyValueCache(CacheConfig('evict3r', memory_mb=0.001), big)


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'bits': 3}, 'bits 3'),
        ({'share': 0.5}, 'go together'),
        ({'share': 2.0, 'sequence_length': 5}, 'share 2.0'),
        ({'memory_mb': 5.0, 'share': 0.5, 'sequence_length': 5}, 'give one'),
        ({'scores': 'none'}, 'exact, pooled'),
        ({'budget': 'none'}, 'fixed, adaptive'),
        ({'temperature': 0.0}, 'positive'),
        ({'anchors': -1}, 'anchors'),
        ({'bits': TierBits(4, 8, 16)}, 'fall with age'),
        ({'budget': 'adaptive', 'least_tokens': 9000}, 'least_tokens'),
        ({'policy': 'unbounded', 'bits': TierBits()}, 'no bound'),
        ({'policy': 'unbounded', 'budget': 'adaptive'}, 'only what is new'),
        ({'policy': 'uniform', 'anchors': 1}, 'no anchors'),
        ({'memory_mb': math.nan}, 'positive number'),
        ({'camera_frames': 10**20}, 'beyond any device'),
        ({'tokens': 10**9}, 'beyond any device'),
        ({'memory_mb': 1e9}, 'beyond any device'),
    ],
)
def test_settings_that_cannot_work(wrong, message):
    with pytest.raises(UserError, match=message):
        KeyValueCache(CacheConfig(**{'policy': 'random', **wrong}), shape())


def test_mixed_precision_falls_once_with_age():
    """The first frame keeps 16 bits, the last two 8, the rest 4; a token's bytes change when it ages and never else."""
    replay = Replay(CacheConfig('xstreamvggt', 60, bits=TierBits()), shape())
    cache, ledger = replay.cache, replay.cache.ledger
    seen = {}
    for frame in range(20):
        replay.step()
        for layer in range(3):
            for name, slot in zip(replay.kept(layer), ledger._table[layer].tolist(), strict=False):
                tier = next(n for n, t in enumerate(cache.pool.tiers) if t.first <= slot < t.first + t.slots)
                assert tier == (0 if name[0] == 0 else 1 if name[0] > frame - 2 else 2)
                place = cache.pool.tiers[tier]
                data = place.rows[slot - place.first].tolist()
                before = seen.get((layer, *name))
                assert before is None or before[0] != tier or before[1] == data
                seen[(layer, *name)] = tier, data
