# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The options about the network that several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from evict3r_ros.errors import UserError

if TYPE_CHECKING:
    from evict3r_ros.network import StreamVGGT

DTYPES = ('auto', 'float32', 'bfloat16', 'float16')


def add_device_options(parser: argparse._ActionsContainer) -> None:
    """--device and --dtype."""
    parser.add_argument('--device', default='auto', help="'cpu', 'cuda', 'cuda:1', or 'auto': CUDA where there is one")
    parser.add_argument('--dtype', default='auto', choices=DTYPES, help='auto: bfloat16 on CUDA, float32 on a CPU')


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Everything that chooses a network and where it runs."""
    group = parser.add_argument_group('network')
    group.add_argument(
        '--weights',
        default='tiny',
        metavar='FILE',
        help="this package's own, 'tiny' (default); "
        "'official' to download the published ones; a .safetensors or .pth file; or 'random' for untrained "
        'ones, which only show the plumbing',
    )
    group.add_argument('--preset', default='auto', help="size of the network; 'auto' (default) is that of the weights")
    group.add_argument(
        '--image-width',
        type=int,
        metavar='PX',
        help="width that images are brought to, a multiple of 14 (default: the preset's)",
    )
    add_device_options(group)
    group.add_argument(
        '--half',
        dest='dtype',
        action='store_const',
        const='half',
        help='16-bit weights and activations: bfloat16, or float16 on cards without it',
    )


def device_of(args: argparse.Namespace) -> str:
    """What --device comes to here. Raises UserError for a device that is not there."""
    import torch

    device = args.device if args.device != 'auto' else 'cuda' if torch.cuda.is_available() else 'cpu'
    if device.split(':')[0] not in ('cpu', 'cuda'):
        raise UserError(f"device {device!r} is not 'cpu', 'cuda' or 'auto'")
    if device.startswith('cuda') and not torch.cuda.is_available():
        raise UserError(f'device {device!r}: torch finds no CUDA here')
    return device


def device_and_dtype(args: argparse.Namespace) -> tuple[str, str]:
    """What --device and --dtype come to here. Raises UserError for a device that is not there."""
    import torch

    device = device_of(args)
    dtype = args.dtype
    if dtype == 'auto':
        dtype = 'bfloat16' if device.startswith('cuda') else 'float32'
    elif dtype == 'half':
        dtype = 'bfloat16' if device == 'cpu' or torch.cuda.is_bf16_supported() else 'float16'
    return device, dtype


def load(args: argparse.Namespace, heads: tuple[str, ...] = ('camera', 'depth')) -> StreamVGGT:
    """The network that the options name. Raises UserError for one that cannot be."""
    from evict3r_ros.network import load_network

    device, dtype = device_and_dtype(args)
    return load_network(args.weights, args.preset, device, dtype, heads=heads)
