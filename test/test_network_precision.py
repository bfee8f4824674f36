# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The words for devices and precisions."""

from __future__ import annotations

import pytest
import torch

from evict3r_ros.errors import UserError
from evict3r_ros.network.precision import DTYPES, resolve_device, resolve_dtype, torch_dtype

CUDA = torch.cuda.is_available()


def test_devices():
    assert resolve_device('cpu') == torch.device('cpu')
    assert resolve_device('auto').type == ('cuda' if CUDA else 'cpu')


@pytest.mark.parametrize(
    ('word', 'message'),
    [
        ('abacus', "'abacus' is no device"),
        ('', "'' is no device"),
        ('meta', "'meta' is not supported"),
        ('cuda:77', 'torch sees' if CUDA else 'torch finds no CUDA'),
    ],
)
def test_devices_that_are_refused(word, message):
    with pytest.raises(UserError, match=message):
        resolve_device(word)


def test_precisions():
    cpu, cuda = torch.device('cpu'), torch.device('cuda')
    assert resolve_dtype('auto', cpu) == 'float32' and resolve_dtype('auto', cuda) == 'bfloat16'
    assert resolve_dtype('half', cpu) == 'bfloat16'
    for name in DTYPES:
        assert resolve_dtype(name, cpu) == name
        assert str(torch_dtype(name)) == f'torch.{name}'
    for refuse in (torch_dtype, lambda name: resolve_dtype(name, cpu)):
        with pytest.raises(UserError, match='not one of float32, bfloat16, float16'):
            refuse('float8')
