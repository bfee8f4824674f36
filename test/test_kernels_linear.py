# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Linear layers with packed weights: the packing, and both engines' products against float64.

The Triton engine runs on the card where there is one, else in Triton's interpreter (see conftest.py).
"""

from __future__ import annotations

import pytest
import torch

from evict3r_ros import kernels
from evict3r_ros.kernels import torch_linear
from evict3r_ros.kernels.torch_linear import GROUP, can_pack, pack_weight, unpack_weight

CUDA = torch.cuda.is_available()
DEVICE = 'cuda' if CUDA else 'cpu'


def matrix(outputs, inputs):
    """Return normal numbers; a row is large, a group all alike, a row zero."""
    weight = torch.randn(outputs, inputs, device=DEVICE)
    weight[1] *= 30.0
    weight[2, :GROUP] = 0.25
    weight[3] = 0.0
    return weight


@pytest.mark.parametrize(('outputs', 'inputs'), [(16, 64), (33, 192)])
def test_eight_bits_are_within_half_a_step_of_each_row(outputs, inputs):
    weight = matrix(outputs, inputs)
    codes, scale = pack_weight(weight, 8)
    assert codes.dtype == torch.int8 and codes.shape == weight.shape and scale.shape == (outputs,)
    assert ((unpack_weight(codes, scale) - weight).abs() <= 0.5001 * weight.abs().amax(1, keepdim=True) / 127).all()


def test_eight_bits_change_nothing_in_weights_that_were_packed_before():
    """Such as the package's own, which lie in their file with a scale an output channel."""
    weight = matrix(20, 128)
    packed = unpack_weight(*pack_weight(weight, 8))
    torch.testing.assert_close(unpack_weight(*pack_weight(packed, 8)), packed, rtol=1e-6, atol=0.0)


def test_four_bits_are_better_than_the_range_of_each_group(monkeypatch):
    """The search never does worse than minimum and maximum, and on normal numbers does better by a few percent."""
    monkeypatch.setattr(torch_linear, 'SEARCH_BYTES', 4 * 256 * 10)  # several parts, the last one short
    weight = matrix(67, 256)
    codes, ranges = pack_weight(weight, 4)
    assert codes.dtype == torch.uint8 and codes.shape == (67, 128)
    assert ranges.dtype == torch.float16 and ranges.shape == (67, 256 // GROUP, 2)
    assert codes.nbytes + ranges.nbytes <= weight.numel() * (0.5 + 4 / GROUP)
    groups = weight.unflatten(1, (-1, GROUP))
    low, high = groups.aminmax(dim=-1, keepdim=True)
    step = ((high - low) / 15).clamp(min=1e-9)
    plain = ((groups - low) / step).round() * step + low
    ours = unpack_weight(codes, ranges).unflatten(1, (-1, GROUP))
    error, plain_error = (ours - groups).square().sum(-1), (plain - groups).square().sum(-1)
    assert (error <= plain_error * 1.001 + 1e-6).all()
    assert error[4:].sum() < 0.95 * plain_error[4:].sum()
    torch.testing.assert_close(ours[2, 0], torch.full((GROUP,), 0.25, device=DEVICE))
    assert (ours[3] == 0.0).all()


def test_a_plan_sees_the_same_shapes():
    for bits in (8, 4):
        real = pack_weight(matrix(32, 128), bits)
        planned = pack_weight(torch.empty(32, 128, device='meta'), bits)
        assert [(x.shape, x.dtype) for x in real] == [(x.shape, x.dtype) for x in planned]


def test_what_is_too_small_or_too_narrow_is_not_packed():
    assert can_pack(16, GROUP) and not can_pack(9, 4 * GROUP) and not can_pack(640, 9)


@pytest.mark.parametrize('engine', ['torch', 'triton'])
@pytest.mark.parametrize('bits', [8, 4])
@pytest.mark.parametrize(('shape', 'outputs'), [((1, 1, 128), 48), ((2, 19, 64), 33), ((1, 150, 192), 160)])
@pytest.mark.parametrize('dtype', [torch.float32, *([torch.bfloat16] if CUDA else [])])
def test_products(monkeypatch, engine, bits, shape, outputs, dtype):
    """Few rows and many, none of them a multiple of a tile; inputs as views, as the network hands them over."""
    if engine == 'triton':
        pytest.importorskip('triton', reason='Triton is not installed')
        from evict3r_ros.kernels import triton_linear

        product = triton_linear.packed_linear
    else:
        monkeypatch.setattr(torch_linear, 'TILE_BYTES', 4 * shape[-1] * 20)  # several tiles, the last one short
        product = torch_linear.packed_linear
    codes, ranges = pack_weight(matrix(outputs, shape[-1]), bits)
    bias = torch.randn(outputs, device=DEVICE).to(dtype)
    x = torch.randn(*shape[:2], 2 * shape[-1], device=DEVICE).to(dtype)[..., ::2]
    answer = product(x, codes, ranges, bias)
    assert answer.dtype == dtype and answer.shape == (*shape[:2], outputs)
    expected = x.double() @ unpack_weight(codes, ranges).double().T + bias.double()
    tolerance = {'rtol': 1e-4, 'atol': 1e-3} if dtype == torch.float32 else {'rtol': 0.02, 'atol': 1.0}
    torch.testing.assert_close(answer.double(), expected, **tolerance)


def test_the_door_takes_the_reference_on_a_cpu():
    codes, ranges = pack_weight(torch.randn(16, 64), 8)
    x, bias = torch.randn(3, 64), torch.zeros(16)
    torch.testing.assert_close(
        kernels.packed_linear(x, codes, ranges, bias), torch_linear.packed_linear(x, codes, ranges, bias)
    )
