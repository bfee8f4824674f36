# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Kernels against a plain softmax in float64."""

import pytest
import torch
from evict3r_ros import kernels
from evict3r_ros.kernels import torch_engine


def reference(query, keys, values, valid):
    """Attention and mass, written out in float64."""
    scores = query.double() @ keys.double().transpose(1, 2) * query.shape[-1] ** -0.5
    weights = scores.masked_fill(~valid, -torch.inf).softmax(-1)
    return weights @ values.double(), weights.sum(1).mean(0)


@pytest.mark.parametrize(('heads', 'queries', 'keys', 'width'), [(1, 1, 1, 4), (3, 7, 29, 8), (6, 93, 601, 64),
                                                                 (2, 130, 1000, 32)])
def test_attention_and_mass(monkeypatch, heads, queries, keys, width):
    monkeypatch.setattr(torch_engine, 'TILE_BYTES', 4 * heads * keys * 20)  # several tiles, the last one short
    generator = torch.Generator().manual_seed(heads * queries + keys)
    query, key, value = (torch.randn(heads, n, width, generator=generator) * 2 for n in (queries, keys, keys))
    valid = torch.rand(keys, generator=generator) > 0.3
    valid[0] = True
    expected, expected_mass = reference(query, key, value, valid)
    answer, mass = kernels.attention_with_mass(query, key, value, valid)
    assert mass.dtype == torch.float32
    torch.testing.assert_close(mass.double(), expected_mass, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(answer.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(kernels.attention(query, key, value, valid).double(), expected, rtol=1e-4, atol=1e-5)
    assert mass.sum().item() == pytest.approx(queries, rel=1e-5)
    assert (mass[~valid] == 0).all()
    counts = torch.randint(1, 5, (queries,), generator=generator)
    repeated = reference(query.repeat_interleave(counts, dim=1), key, value, valid)[1]
    alone = kernels.attention_mass(query, counts.float(), key, valid)
    torch.testing.assert_close(alone.double(), repeated, rtol=1e-4, atol=1e-6)


def test_without_a_mask_all_keys_count():
    query, key = torch.randn(2, 5, 8), torch.randn(2, 9, 8)
    everything = torch.ones(9, dtype=torch.bool)
    torch.testing.assert_close(kernels.attention(query, key, key), kernels.attention(query, key, key, everything))
    torch.testing.assert_close(kernels.attention_with_mass(query, key, key)[1],
                               kernels.attention_with_mass(query, key, key, everything)[1])
