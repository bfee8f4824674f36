# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every engine behind the door against float64, with fresh random inputs, odd sizes and poisoned outputs.

The Triton engine runs on the card where there is one, else in Triton's interpreter (TRITON_INTERPRET=1, set by
conftest.py).
"""

from __future__ import annotations

import pytest
import torch

from evict3r_ros import kernels
from evict3r_ros.kernels import torch_engine

CUDA = torch.cuda.is_available()
DEVICE = 'cuda' if CUDA else 'cpu'


class Triton:
    """The Triton engine's functions, called directly: on a CPU the door would not."""

    def __init__(self):
        pytest.importorskip('triton', reason='Triton is not installed')
        from evict3r_ros.kernels import triton_attention, triton_codec, triton_layers

        self.write_packed, self.read_packed = triton_codec.write_packed, triton_codec.read_packed
        self.copy_pair = triton_codec.copy_pair
        self.qk_norm_rotary_embedding, self.add_norm, self.bilinear_upsample = (
            triton_layers.qk_norm_rotary_embedding,
            triton_layers.add_norm,
            triton_layers.bilinear_upsample,
        )
        self._attention, self.self_attention = triton_attention, triton_attention.self_attention

    def cache_attention(self, query, keys, values, kept, fresh, mass=None):
        answer, lse = self._attention.attention(query, keys, values, kept, fresh)
        if mass is not None:
            self._attention.mass(query, keys, kept, fresh, lse, mass)
        return answer

    def cache_mass(self, query, counts, keys, kept, fresh, mass):
        _, lse = self._attention.attention(query, keys, keys, kept, fresh)
        self._attention.mass(query, keys, kept, fresh, lse, mass, counts)


@pytest.fixture(scope='module', params=['torch', 'triton'])
def engine(request):
    return torch_engine if request.param == 'torch' else Triton()


def reference(query, keys, values, there):
    """Attention and mass, written out in float64; keys and values (M, heads, head_dim)."""
    keys, values = keys.double().transpose(0, 1), values.double().transpose(0, 1)
    scores = query.double() @ keys.transpose(1, 2) * query.shape[-1] ** -0.5
    weights = scores.masked_fill(~there, -torch.inf).softmax(-1)
    return weights @ values, weights.sum(1).mean(0)


def numbers(*shape, scale=2.0):
    return torch.randn(*shape, device=DEVICE) * scale


def dtypes():
    # Triton's interpreter has no bfloat16.
    return [torch.float32, torch.bfloat16] if CUDA else [torch.float32]


@pytest.mark.parametrize('dtype', dtypes())
@pytest.mark.parametrize(
    ('heads', 'queries', 'kept', 'width', 'fresh', 'head_dim'),
    [
        (1, 1, 0, 0, 1, 16),
        (3, 7, 22, 40, 7, 16),
        (2, 130, 601, 601, 131, 32),
        (2, 33, 0, 90, 33, 64),
        (1, 64, 128, 256, 64, 64),
    ],
)
def test_attention_to_the_cache(monkeypatch, engine, dtype, heads, queries, kept, width, fresh, head_dim):
    """``kept`` keys in ``width`` places, then ``fresh`` ones; the places between hold numbers that must not count."""
    monkeypatch.setattr(
        torch_engine, 'TILE_BYTES', 4 * heads * (width + fresh) * 20
    )  # several tiles, the last one short
    count = width + fresh
    query, keys, values = (
        numbers(heads, queries, head_dim),
        numbers(count, heads, head_dim),
        numbers(count, heads, head_dim),
    )
    query, keys, values = query.to(dtype), keys.to(dtype), values.to(dtype)
    there = torch.arange(count, device=DEVICE)
    there = (there < kept) | (there >= width)
    keys[~there], values[~there] = 1e4, 1e4
    expected, expected_mass = reference(query, keys, values, there)
    mass = torch.full((count,), torch.nan, device=DEVICE)
    number = torch.tensor(kept, device=DEVICE)
    answer = engine.cache_attention(query, keys, values, number, fresh, mass)
    tolerance = {'rtol': 1e-4, 'atol': 1e-5} if dtype == torch.float32 else {'rtol': 0.02, 'atol': 0.02}
    torch.testing.assert_close(answer.double(), expected, **tolerance)
    torch.testing.assert_close(
        engine.cache_attention(query, keys, values, number, fresh).double(), expected, **tolerance
    )
    torch.testing.assert_close(mass.double(), expected_mass, **tolerance)
    assert (mass[~there] == 0).all()
    assert mass.sum().item() == pytest.approx(queries, rel=1e-4 if dtype == torch.float32 else 1e-2)
    counts = torch.randint(1, 5, (queries,), device=DEVICE)
    repeated = reference(query.repeat_interleave(counts, dim=1), keys, values, there)[1]
    mass.fill_(torch.nan)
    engine.cache_mass(query, counts.float(), keys, number, fresh, mass)
    torch.testing.assert_close(mass.double(), repeated, **tolerance)


def test_attention_reads_any_strides(engine):
    """Queries, keys and values as views, as the network and the cache hand them over."""
    query = numbers(19, 3, 2, 32)[:, 1].transpose(0, 1)
    keys, values = numbers(50, 2, 2, 32).unbind(1)
    answer = engine.cache_attention(query, keys, values, torch.tensor(31, device=DEVICE), 19)
    expected, _ = reference(query, keys, values, torch.ones(50, dtype=torch.bool, device=DEVICE))
    torch.testing.assert_close(answer.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('dtype', dtypes())
@pytest.mark.parametrize(('heads', 'tokens', 'head_dim'), [(1, 1, 16), (3, 64, 32), (2, 131, 64)])
def test_attention_inside_a_frame(dtype, heads, tokens, head_dim):
    """Triton's, with keys of the strides that the network gives, and values that are a view."""
    engine = Triton()
    query, key, value = numbers(tokens, 3, heads, head_dim).to(dtype).permute(1, 2, 0, 3)
    expected, _ = reference(
        query, key.transpose(0, 1), value.transpose(0, 1), torch.ones(tokens, dtype=torch.bool, device=DEVICE)
    )
    tolerance = {'rtol': 1e-4, 'atol': 1e-5} if dtype == torch.float32 else {'rtol': 0.02, 'atol': 0.02}
    torch.testing.assert_close(engine.self_attention(query, key, value).double(), expected, **tolerance)
    alone = kernels.self_attention(query[None], key[None], value[None])[0]
    torch.testing.assert_close(alone.double(), expected, **tolerance)


def test_without_a_mask_all_keys_count():
    query, key = torch.randn(2, 5, 8), torch.randn(2, 9, 8)
    everything = torch.ones(9, dtype=torch.bool)
    torch.testing.assert_close(kernels.attention(query, key, key), kernels.attention(query, key, key, everything))


@pytest.mark.parametrize('bits', [8, 4, 2])
@pytest.mark.parametrize(('heads', 'head_dim', 'count'), [(1, 8, 1), (6, 64, 23), (3, 32, 9), (2, 16, 70)])
def test_packed_rows(engine, bits, heads, head_dim, count):
    """Within half a step of what went in; the same codes as the reference's, but for ties; nothing else touched."""
    codes, slots = heads * head_dim * bits // 8, count + 12
    layout = kernels.PackedLayout(bits, codes, first_slot=100, alone=False)
    rows = torch.full((slots + 1, 2 * codes + 8 * heads + 8), 0xA5, dtype=torch.uint8, device=DEVICE)
    both = numbers(count, 2, heads, head_dim)
    key, value = both.unbind(1)
    table, scale = numbers(2, 3, heads, head_dim), 0.5 + torch.rand(2, heads, head_dim, device=DEVICE)
    centres = torch.randint(0, 3, (count,), device=DEVICE) * (torch.rand(count, device=DEVICE) < 0.2)
    places = 100 + torch.randperm(slots, device=DEVICE)[:count]
    elsewhere = places.clone()
    elsewhere[0] = 100 + slots + 7  # a slot of a later tier
    expected = rows.clone()
    torch_engine.write_packed(expected, key, value, elsewhere, centres, table, scale, layout)
    engine.write_packed(rows, key, value, elsewhere, centres, table, scale, layout)
    different = (rows[:-1] != expected[:-1]).sum().item()
    assert different <= 0.01 * rows.numel()
    untouched = torch.ones(slots, dtype=torch.bool, device=DEVICE)
    untouched[elsewhere[1:] - 100] = False
    assert (rows[:-1][untouched] == 0xA5).all()

    engine.write_packed(rows, key, value, places, centres, table, scale, layout)
    rows[-1] = 0
    found = torch.full((2, count, heads, head_dim), torch.nan, device=DEVICE)
    number = torch.tensor(count, device=DEVICE)
    engine.read_packed(rows, *found, places, centres, number, table, scale, layout)
    for kind, exact in enumerate((key, value)):
        normed = (exact - table[kind][centres]) / scale[kind]
        step = (normed.amax(-1) - normed.amin(-1))[..., None] / (2**bits - 1)
        assert ((found[kind] - exact).abs() <= scale[kind] * (0.51 * step + 0.01)).all()
    # Of another tier, or beyond the count: left alone, or anything finite.
    found.fill_(7.0)
    number.fill_(max(1, count - 2))
    engine.read_packed(rows, *found, elsewhere, centres, number, table, scale, layout)
    assert (found[:, 0] == 7.0).all()
    assert torch.isfinite(found).all()


def test_copies(engine):
    key, _, value = numbers(3, 37, 5, 24).to(torch.float16).transpose(1, 2)
    out = torch.full((2, 41, 37, 24), torch.nan, dtype=torch.float16, device=DEVICE)
    engine.copy_pair(key, value, *out[:, 2:7])
    assert torch.equal(out[0, 2:7], key) and torch.equal(out[1, 2:7], value)
    assert out[:, :2].isnan().all() and out[:, 7:].isnan().all()


@pytest.mark.parametrize('dtype', dtypes())
@pytest.mark.parametrize(('batch', 'frames', 'grid', 'heads', 'head_dim'), [(1, 1, 17, 2, 64), (2, 3, 7, 3, 16)])
def test_qk_norm_and_rotary_embedding(engine, dtype, batch, frames, grid, heads, head_dim):
    qkv = numbers(batch, frames * grid, 3, heads, head_dim).to(dtype)
    weights = [numbers(head_dim).to(dtype) for _ in range(4)]
    angle = torch.rand(grid, head_dim // 2, device=DEVICE, dtype=torch.float64) * 6
    row, column = angle.chunk(2, dim=1)
    angle = torch.cat((row, row, column, column), dim=1)
    query, key, value = engine.qk_norm_rotary_embedding(qkv, *weights, 1e-5, angle.cos().float(), angle.sin().float())
    for kind, found in enumerate((query, key)):
        x = torch.nn.functional.layer_norm(
            qkv[:, :, kind].double(), (head_dim,), weights[2 * kind].double(), weights[2 * kind + 1].double(), 1e-5
        )
        halves = x.unflatten(-1, (2, 2, head_dim // 4))
        turn = torch.polar(torch.ones_like(angle), angle).unflatten(-1, (2, 2, head_dim // 4))[:, :, 0]
        turned = torch.complex(halves[..., 0, :], halves[..., 1, :]) * turn.repeat(frames, 1, 1)[:, None]
        expected = torch.stack((turned.real, turned.imag), dim=-2).flatten(-3).transpose(1, 2)
        torch.testing.assert_close(
            found.double(),
            expected,
            rtol=1e-4 if dtype == torch.float32 else 0.02,
            atol=1e-4 if dtype == torch.float32 else 0.05,
        )
    assert torch.equal(value, qkv[:, :, 2].transpose(1, 2))


@pytest.mark.parametrize('dtype', dtypes())
@pytest.mark.parametrize('shape', [(1, 5, 64), (2, 3, 100), (1, 1, 384)])
def test_sum_and_norm(engine, dtype, shape):
    x, added = numbers(*shape).to(dtype), numbers(*shape).to(dtype)
    gamma, weight, bias = (numbers(shape[-1]).to(dtype) for _ in range(3))
    total, normed = engine.add_norm(x, added, gamma, weight, bias, 1e-5)
    expected = x.double() + added.double() * gamma.double()
    tolerance = {'rtol': 1e-5, 'atol': 1e-5} if dtype == torch.float32 else {'rtol': 0.01, 'atol': 0.01}
    torch.testing.assert_close(total.double(), expected, **tolerance)
    expected = torch.nn.functional.layer_norm(total.double(), shape[-1:], weight.double(), bias.double(), 1e-5)
    torch.testing.assert_close(
        normed.double(),
        expected,
        rtol=1e-4 if dtype == torch.float32 else 0.02,
        atol=1e-4 if dtype == torch.float32 else 0.05,
    )


@pytest.mark.parametrize('dtype', dtypes())
@pytest.mark.parametrize(
    ('channels', 'small', 'large'),
    [(3, (5, 7), (9, 14)), (16, (4, 6), (4, 6)), (24, (6, 9), (17, 30)), (8, (1, 1), (3, 2))],
)
def test_bilinear_upsampling(engine, dtype, channels, small, large):
    x, position = numbers(1, channels, *small).to(dtype), numbers(1, channels, *large).to(dtype)
    tolerance = {'rtol': 1e-4, 'atol': 1e-5} if dtype == torch.float32 else {'rtol': 0.02, 'atol': 0.05}
    expected = torch.nn.functional.interpolate(x.double(), large, mode='bilinear', align_corners=True)
    torch.testing.assert_close(engine.bilinear_upsample(x, large).double(), expected, **tolerance)
    last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        engine.bilinear_upsample(last, large, position).double(), expected + position.double(), **tolerance
    )
