# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The options about the network that several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from evict3r_ros.network.precision import AUTO, DTYPES, HALF, resolve_device, resolve_dtype

if TYPE_CHECKING:
    from evict3r_ros.network import StreamVGGT


def add_device_options(parser: argparse._ActionsContainer) -> None:
    """--device and --dtype."""
    parser.add_argument('--device', default=AUTO, help="'cpu', 'cuda', 'cuda:1', or 'auto': CUDA where there is one")
    parser.add_argument(
        '--dtype', default=AUTO, choices=(AUTO, *DTYPES), help='auto: bfloat16 on CUDA, float32 on a CPU'
    )


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
        const=HALF,
        help='16-bit weights and activations: bfloat16, or float16 on cards without it',
    )


def device_of(args: argparse.Namespace) -> str:
    """What --device comes to here. Raises UserError for a device that is not there."""
    return str(resolve_device(args.device))


def device_and_dtype(args: argparse.Namespace) -> tuple[str, str]:
    """What --device and --dtype come to here. Raises UserError for a device that is not there."""
    device = resolve_device(args.device)
    return str(device), resolve_dtype(args.dtype, device)


def load(args: argparse.Namespace, heads: tuple[str, ...] = ('camera', 'depth')) -> StreamVGGT:
    """The network that the options name. Raises UserError for one that cannot be."""
    from evict3r_ros.network import load_network

    device, dtype = device_and_dtype(args)
    return load_network(args.weights, args.preset, device, dtype, heads=heads)
