# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The words for devices and precisions that users give, and what they come to on this machine.

Importing this module does not import torch, so that command lines may name the choices in their help.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evict3r_ros.errors import UserError

if TYPE_CHECKING:
    import torch

AUTO, HALF = 'auto', 'half'
DTYPES = ('float32', 'bfloat16', 'float16')
WEIGHT_BITS = (16, 8, 4)
"""What linear layers' weights are stored in; 16 stands for the network's own precision."""


def resolve_device(name: str) -> torch.device:
    """Return the device that ``cpu``, ``cuda``, ``cuda:1`` or ``auto`` (CUDA where there is one) names.

    Raises UserError for another word, and for a device that is not there.
    """
    import torch

    if name == AUTO:
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"{name!r} is no device: give 'auto', 'cpu', 'cuda' or 'cuda:1'") from error
    if device.type not in ('cpu', 'cuda'):
        raise UserError(f"device {name!r} is not supported: give 'auto', 'cpu', 'cuda' or 'cuda:1'")
    count = torch.cuda.device_count()
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise UserError(f'device {name!r}: torch finds no CUDA here')
    if device.type == 'cuda' and (device.index or 0) >= count:
        raise UserError(f'device {name!r}: torch sees {count} CUDA device{"s" if count > 1 else ""} here')
    return device


def resolve_dtype(name: str, device: torch.device) -> str:
    """Return the precision, one of DTYPES, that a word comes to on a device.

    ``auto``: bfloat16 on CUDA, float32 on a CPU. ``half``: bfloat16, or float16 on cards without it. Raises UserError
    for a word that is neither of these nor one of DTYPES.
    """
    import torch

    if name == AUTO:
        return 'bfloat16' if device.type == 'cuda' else 'float32'
    if name == HALF:
        return 'bfloat16' if device.type == 'cpu' or torch.cuda.is_bf16_supported() else 'float16'
    check_dtype(name)
    return name


def check_dtype(name: str) -> None:
    """Raise UserError for a precision that is not one of DTYPES."""
    if name not in DTYPES:
        raise UserError(f'dtype {name!r} is not one of {", ".join(DTYPES)}')


def check_weight_bits(bits: int) -> None:
    """Raise UserError for bits that are not one of WEIGHT_BITS."""
    if bits not in WEIGHT_BITS:
        raise UserError(f'weights of {bits} bits: give one of {", ".join(map(str, WEIGHT_BITS))}')


def torch_dtype(name: str) -> torch.dtype:
    """Return torch's type for one of DTYPES. Raises UserError for another word."""
    import torch

    check_dtype(name)
    return {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}[name]
