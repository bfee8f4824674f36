# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Preset tiny: what is trained in passes over whole clips is what streams; gradients of the upsampling."""

from __future__ import annotations

import torch

from evict3r_ros.cache import CacheConfig
from evict3r_ros.kernels.torch_upsample import bilinear_upsample
from evict3r_ros.network import load_network
from evict3r_ros.stream import Stream


def test_streaming_is_the_causal_pass():
    network = load_network('random', 'tiny')
    images = torch.rand(4, 3, 84, 112, generator=torch.Generator().manual_seed(0))
    whole = network.causal(images[None], (6, 8))
    with Stream(network, CacheConfig('unbounded', tokens=1, bits=32), (84, 112), image_width=112) as stream:
        streamed = [stream.run(image) for image in images]
    for name in ('pose_encoding', 'depth', 'confidence'):
        one_by_one = torch.cat([getattr(output, name)[0] for output in streamed])
        at_once = getattr(whole, name)[0]
        assert (one_by_one - at_once).abs().max() <= 1e-5 * at_once.abs().max(), name
    assert not torch.allclose(whole.pose_encoding[0, 0], whole.pose_encoding[0, 3], rtol=1e-2)


def test_the_gradient_of_bilinear_upsampling_is_the_usual_one():
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: bilinear_upsample(x, (9, 16)), x)
