# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The cache alone, on random keys and values: what stays, where it lies, and what attention sees."""

import math

import pytest
import torch
from evict3r_ros import kernels
from evict3r_ros.cache import POLICIES, CacheConfig, CacheShape, CameraCache, KeyValueCache, TierBits
from evict3r_ros.cache.policies.policy import choose
from evict3r_ros.cache.policies.pooled_queries import pool_queries
from evict3r_ros.errors import UserError
from hypothesis import given, settings
from hypothesis import strategies as st



@pytest.fixture(autouse=True)
def one_thread():
    """Tensors of a few hundred numbers: waking a second thread costs more than it gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


BOUNDED = [name for name, policy in POLICIES.items() if not policy.grows]


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
        return torch.randn(1, self.shape.heads, self.cache.ledger.frame_tokens, self.shape.head_dim,
                           generator=self.generator)

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
        owned = [ledger._table[layer, :ledger.lengths[layer]] for layer in range(self.shape.layers)]
        assert all(int(stack._free) >= 0 for stack in ledger.stacks)
        everything = torch.cat([*owned, *(stack.free() for stack in ledger.stacks)])
        assert torch.equal(everything.sort().values, torch.arange(ledger.nowhere))
        for layer in range(self.shape.layers):
            names = self.kept(layer)
            assert names == sorted(set(names))
            assert len(names) <= self.budgets[layer]
        assert sum(self.budgets) <= self.cache.config.tokens * self.shape.layers


bits = st.one_of(st.sampled_from([32, 16, 8, 4, 2]),
                 st.builds(TierBits, recent_frames=st.integers(1, 3)))


@settings(max_examples=60, deadline=None)
@given(policy=st.sampled_from(BOUNDED), tokens=st.integers(26, 60), layers=st.integers(1, 4), frames=st.integers(1, 20),
       seed=st.integers(0, 1000), temperature=st.sampled_from([0.5, 1e-3, 1e-5]), bits=bits,
       budget=st.sampled_from(['fixed', 'adaptive']), scores=st.sampled_from(['exact', 'pooled']),
       anchors=st.integers(0, 1), patches=st.sampled_from([(2, 3), (1, 3), (1, 1)]))
def test_random_streams(policy, tokens, layers, frames, seed, temperature, bits, budget, scores, anchors, patches):
    """Whatever the stream: bytes constant, slots whole, pinned tokens there, attention over what was kept."""
    anchors = anchors if POLICIES[policy].pins_frames else 0
    config = CacheConfig(policy, tokens, temperature=temperature, bits=bits, budget=budget, scores=scores,
                         anchors=anchors)
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
        now = {(layer, *name): int(slot) for layer in range(3)
               for name, slot in zip(replay.kept(layer), ledger._table[layer], strict=False)}
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
    with pytest.raises(UserError, match='1041.*2082.*at least 2343'):
        KeyValueCache(CacheConfig('evict3r', 2048), CacheShape(2, 2, 8, 5, (28, 37), torch.float32, torch.device('cpu')))


def test_unknown_policies_are_refused():
    with pytest.raises(UserError, match='sliding_window'):
        KeyValueCache(CacheConfig('lru'), shape())


@given(st.integers(1, 5), st.integers(1, 30), st.integers(0, 1000))
def test_choose(layers, candidates, seed):
    generator = torch.Generator().manual_seed(seed)
    priorities = torch.randint(0, 4, (layers, candidates), generator=generator).float()
    valid = torch.rand(layers, candidates, generator=generator) > 0.3
    budgets = torch.randint(0, candidates + 2, (layers,), generator=generator)
    keep = choose(priorities, valid, budgets)
    for layer in range(layers):
        order = sorted((i for i in range(candidates) if valid[layer, i]), key=lambda i: (-priorities[layer, i], i))
        assert keep[layer].nonzero().flatten().tolist() == sorted(order[:budgets[layer]])


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
            sure = [{(3, int(replay.cache.ledger.token_of[slot])) for slot in row if slot < replay.cache.ledger.nowhere
                     and replay.cache.ledger.frame_of[slot] == 3 and replay.cache.ledger.protected[slot]}
                    for row in replay.cache.ledger._table[:, :40]]
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
        gaps = [b - a for a, b in zip(frames, frames[1:-1], strict=False)]
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
    score = replay.cache.policy.priorities(ledger)[:, :ledger.width]
    assert torch.isfinite(score).all()
    assert 1.0 < score.mean() < 100.0  # 8 queries over 48 keys, times 48 keys
    assert replay.cache.policy.total.max() < 2 ** 24  # beyond that, float32 could not add a frame
    assert entered > 50


def test_pooled_scores_agree_with_exact_ones():
    """On queries that differ little inside a run, pooling changes little; on the mass of the whole it changes nothing."""
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


def test_budget_from_memory():
    config, big = CacheConfig('evict3r', memory_mb=1.0, bits=4), shape(4)
    cache = KeyValueCache(config, big)
    assert 0.98 * 2 ** 20 < cache.bytes <= 2 ** 20
    more = KeyValueCache(CacheConfig('evict3r', cache.config.tokens + 3, bits=4), big)
    assert more.bytes > 2 ** 20
    mixed = KeyValueCache(CacheConfig('evict3r', memory_mb=1.0, bits=TierBits()), big)
    assert 0.98 * 2 ** 20 < mixed.bytes <= 2 ** 20
    with pytest.raises(UserError, match='0.001 MiB do not hold one frame of 8 tokens.*at least'):
        KeyValueCache(CacheConfig('evict3r', memory_mb=0.001), big)


@pytest.mark.parametrize(('wrong', 'message'), [
    ({'bits': 3}, 'bits 3'), ({'share': 0.5}, 'go together'), ({'share': 2.0, 'sequence_length': 5}, 'share 2.0'),
    ({'memory_mb': 5.0, 'share': 0.5, 'sequence_length': 5}, 'give one'), ({'scores': 'none'}, 'exact, pooled'),
    ({'budget': 'none'}, 'fixed, adaptive'), ({'temperature': 0.0}, 'positive'), ({'anchors': -1}, 'anchors'),
    ({'bits': TierBits(4, 8, 16)}, 'fall with age'), ({'budget': 'adaptive', 'least_tokens': 9000}, 'least_tokens'),
    ({'policy': 'unbounded', 'bits': TierBits()}, 'no bound'),
    ({'policy': 'unbounded', 'budget': 'adaptive'}, 'only what is new'),
    ({'policy': 'uniform', 'anchors': 1}, 'no anchors'), ({'memory_mb': math.nan}, 'positive number'),
    ({'camera_frames': 10 ** 20}, 'beyond any device'), ({'tokens': 10 ** 9}, 'beyond any device'), ({'memory_mb': 1e9}, 'beyond any device')])
def test_settings_that_cannot_work(wrong, message):
    with pytest.raises(UserError, match=message):
        KeyValueCache(CacheConfig(**wrong), shape())


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
                seen[layer, *name] = tier, data


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


def seen_layer(policy, tokens=40):
    """A cache of one layer after three frames, in the middle of the fourth: its ledger, policy, and keys by slot."""
    replay = Replay(CacheConfig(policy, tokens, bits=32), shape(1))
    for _ in range(3):
        replay.step()
    cache = replay.cache
    cache.begin_frame()
    return cache, replay


def test_infinitevggts_formula():
    """Similarity to the mean of normalised candidates, by hand; alpha = softmax((1 - mean similarity) / temperature)."""
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
    smooth = [sum(weight * grid[r + i][c + j] for i, row in enumerate(((1, 2, 1), (2, 4, 2), (1, 2, 1)))
                  for j, weight in enumerate(row)) / 16 for r in range(2) for c in range(3)]
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
    totals = [replay.cache.policy.total[replay.cache.ledger._table[0, :replay.cache.ledger.lengths[0]]]
              for replay in (plain, mixed)]
    torch.testing.assert_close(*totals)


def test_motion_alone_admits():
    """A view that is known, seen by a camera that says it has moved: admitted."""
    scene = StillScene(CacheConfig('sliding_window', 80, budget='adaptive', novelty=1.0))
    for moved in (0.0, 0.0, 1.0, 0.0):
        scene.cache.adaptive.moved(torch.tensor(moved))
        scene.step()
    assert {f for f, _ in scene.kept(0)} == {0, 2}
