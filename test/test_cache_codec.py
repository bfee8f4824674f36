# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Stored bytes: what a token costs, what comes back, and that neighbours don't matter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evict3r_ros.cache import CacheConfig, CacheShape, KeyValueCache, TierBits, parse_bits
from evict3r_ros.cache.codec import centre_of, make_codec
from evict3r_ros.cache.pool import Pool
from evict3r_ros.errors import UserError


def shape(heads=6, head_dim=64, layers=2, dtype=torch.float32) -> CacheShape:
    return CacheShape(layers, heads, head_dim, 5, (3, 4), dtype, torch.device('cpu'))


def stored(codec, key, value, layer=0, centres=None) -> torch.Tensor:
    """Return the rows of tokens, and one for none."""
    rows = torch.zeros(len(key) + 1, codec.row_bytes, dtype=torch.uint8)
    centres = torch.zeros(len(key), dtype=torch.int64) if centres is None else centres
    codec.write(layer, rows, torch.arange(len(key)), centres, key, value)
    return rows


def round_trip(codec, key, value, layer=0, centres=None):
    out_key, out_value = torch.empty_like(key), torch.empty_like(value)
    centres = torch.zeros(len(key), dtype=torch.int64) if centres is None else centres
    rows = stored(codec, key, value, layer, centres)
    codec.read(layer, rows, torch.arange(len(key)), centres, torch.tensor(len(key)), out_key, out_value)
    return out_key, out_value


def relative(ours, exact) -> float:
    return float((ours.float() - exact.float()).norm() / exact.float().norm())


@pytest.mark.parametrize(('bits', 'row'), [(32, 3072), (16, 1536), (8, 816), (4, 432), (2, 240)])
def test_bytes_of_a_token(bits, row):
    """At 4 bits half a byte a number: 6 heads of 64, key and value, and 48 bytes of ranges."""
    codec = make_codec(shape(), bits)
    assert codec.row_bytes == row
    assert (stored(codec, torch.randn(7, 6, 64), torch.randn(7, 6, 64))[:7] != 0).any(1).all()
    pool = Pool(shape(), [(1000, bits)])
    assert pool.bytes == 1001 * row


def test_bytes_of_the_official_cache_at_four_bits():
    """8192 tokens a layer besides a frame: about a quarter of a gigabyte, where 16 bits take 0.9."""
    official = CacheShape(24, 16, 64, 5, (28, 37), torch.bfloat16, torch.device('meta'))
    packed, half = (KeyValueCache(CacheConfig('random', bits=bits), official).bytes for bits in (4, 16))
    assert packed == (24 * (8192 + 1041) + 1) * 1152
    assert half / packed == pytest.approx(4096 / 1152)


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from([8, 4, 2]),
    heads=st.integers(1, 7),
    width=st.sampled_from([8, 12, 32, 64]),
    count=st.integers(1, 9),
    seed=st.integers(0, 99),
    scale=st.floats(1e-3, 100.0),
    offset=st.floats(-20.0, 20.0),
)
def test_round_trip_is_within_half_a_step(bits, heads, width, count, seed, scale, offset):
    generator = torch.Generator().manual_seed(seed)
    codec = make_codec(shape(heads, width), bits)
    key, value = (torch.randn(count, heads, width, generator=generator) * scale + offset for _ in range(2))
    first = torch.randn(2, 50, heads, width, generator=generator) * scale + offset
    codec.calibrate(0, 0, *first)
    # Half precision of minimum and step adds 2^-11 of each.
    slack = 2**-9 * (abs(offset) + 10 * scale)
    for kind, (exact, found) in enumerate(zip((key, value), round_trip(codec, key, value), strict=True)):
        normed = (exact - codec.centre[kind, 0, 0]) / codec.scale[kind, 0]
        span = (normed.amax(-1) - normed.amin(-1))[..., None] * codec.scale[kind, 0]
        assert ((found - exact).abs() <= span / (2**bits - 1) / 2 * 1.01 + slack).all()


@pytest.mark.parametrize('bits', [16, 32])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_floating_point(bits, dtype):
    codec = make_codec(shape(dtype=dtype), bits)
    key, value = torch.randn(2, 5, 6, 64).to(dtype)
    out_key, out_value = round_trip(codec, key, value)
    tolerance = 0 if bits == 32 or dtype != torch.float32 else 2**-11
    assert relative(out_key, key) <= tolerance
    assert relative(out_value, value) <= tolerance


def test_constant_and_extreme_tokens_stay_finite():
    codec = make_codec(shape(), 4)
    codec.calibrate(0, 0, torch.zeros(20, 6, 64), torch.zeros(20, 6, 64))
    for number in (0.0, 1.0, -30.0, 1e-6):
        key, value = round_trip(codec, torch.full((3, 6, 64), number), torch.full((3, 6, 64), number))
        assert torch.isfinite(key).all() and torch.isfinite(value).all()
        codec.calibrate(1, 0, *torch.randn(2, 20, 6, 64))
        torch.testing.assert_close(
            round_trip(codec, torch.full((3, 6, 64), number), value, layer=1)[0],
            torch.full_like(value, number),
            rtol=0.15,
            atol=0.2,
        )
        torch.testing.assert_close(value, torch.full_like(value, number), rtol=2**-10, atol=1e-6)


def test_a_shifted_range_is_no_harm():
    """Values in [5, 6]: a zero point clamped to [0, 15], as published, loses them; a float minimum does not."""
    key, value = 5 + torch.rand(2, 200, 6, 64)
    codec = make_codec(shape(), 4)
    codec.calibrate(0, 0, key[:50], value[:50])
    out_key, out_value = round_trip(codec, key, value)
    assert relative(out_value, value) < 0.005
    assert relative(out_key, key) < 0.005
    low, high = value.amin(-1, keepdim=True), value.amax(-1, keepdim=True)
    step = (high - low) / 15
    zero = (-low / step).round().clamp(0, 15)
    clamped = ((value / step).round() + zero).clamp(0, 15).sub(zero) * step
    assert relative(clamped, value) > 0.5


def test_a_token_does_not_depend_on_its_neighbours():
    codec = make_codec(shape(), 4)
    key, value = torch.randn(2, 30, 6, 64)
    codec.calibrate(0, 0, key, value)
    centres = torch.randint(0, 11, (30,))
    together = stored(codec, key, value, centres=centres)[:-1]
    alone = torch.cat(
        [stored(codec, key[i : i + 1], value[i : i + 1], centres=centres[i : i + 1])[:1] for i in range(30)]
    )
    assert torch.equal(together, alone)


def test_special_tokens_have_centres_of_their_own():
    """Specials that hold still from frame to frame come back as they went, whatever patches are like."""
    specials, patches = 20 * torch.randn(2, 2, 5, 6, 64), torch.randn(2, 3, 2, 12, 6, 64)
    codec = make_codec(shape(), 4)
    for frame in range(3):
        which = min(frame, 1)
        key, value = (torch.cat((specials[which, kind], patches[kind % 2, frame, kind]), dim=0) for kind in (0, 1))
        codec.calibrate(0, frame, key, value)
        centres = centre_of(torch.full((17,), frame), torch.arange(17), 5)
        assert centres.tolist() == [1 + 5 * which + i for i in range(5)] + [0] * 12
        out_key, out_value = round_trip(codec, key, value, centres=centres)
        torch.testing.assert_close(out_key[:5], key[:5], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(out_value[:5], value[:5], rtol=1e-6, atol=1e-6)
        assert relative(out_key[5:], key[5:]) < 0.2
    assert centre_of(torch.tensor([-1]), torch.tensor([-1]), 5).tolist() == [0]


@pytest.mark.parametrize('tiers', [[(40, 4)], [(10, 16), (10, 8), (20, 4)]])
def test_a_pool_of_tiers(tiers):
    """Write into every slot, read a mix in any order; null_slot reads as something finite and is never written."""
    pool = Pool(shape(layers=1), tiers)
    key, value = torch.randn(2, 40, 6, 64)
    pool.calibrate(0, 0, key, value)
    for number, tier in enumerate(pool.tiers):
        slots = torch.arange(tier.first, tier.first + tier.slots)
        pool.write(
            0,
            number,
            torch.cat((slots, torch.tensor([pool.null_slot]))),
            torch.zeros(len(slots) + 1).long(),
            torch.cat((key[slots], torch.full((1, 6, 64), torch.inf))),
            torch.cat((value[slots], value[:1])),
        )
        assert not tier.rows[-1].any() or len(tiers) == 1
    order = torch.cat((torch.randperm(40), torch.tensor([pool.null_slot])))
    out_key, out_value = torch.zeros(2, 41, 6, 64)
    pool.tiers[-1].rows[-1].zero_()
    pool.read(0, order, torch.zeros(41).long(), torch.tensor(40), out_key, out_value)
    assert relative(out_key[:-1], key[order[:-1]]) < 0.1
    assert relative(out_value[:-1], value[order[:-1]]) < 0.1
    assert torch.isfinite(out_key[-1]).all() and torch.isfinite(out_value[-1]).all()
    exact = order[:-1] < (10 if len(tiers) > 1 else 0)
    assert relative(out_key[:-1][exact], key[order[:-1]][exact]) < 1e-3 or not exact.any()


def test_bits_from_text():
    assert parse_bits('4') == 4
    assert parse_bits('16/8/4') == TierBits(16, 8, 4)
    for wrong in ('', 'four', '16/4', '16/8/4/2', '-4'):
        with pytest.raises(UserError, match='cache bits'):
            parse_bits(wrong)
