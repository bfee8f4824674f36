# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Options for the network that several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from evict3r_ros.network.precision import AUTO, DTYPES, HALF, WEIGHT_BITS, resolve_device, resolve_dtype

if TYPE_CHECKING:
    from evict3r_ros.network import StreamVGGT


def add_device_options(parser: argparse._ActionsContainer) -> None:
    """Add --device and --dtype."""
    parser.add_argument('--device', default=AUTO, help="'cpu', 'cuda', 'cuda:1', or 'auto': CUDA if available")
    parser.add_argument(
        '--dtype', default=AUTO, choices=(AUTO, *DTYPES), help='auto: bfloat16 on CUDA, float32 on a CPU'
    )


def add_weights_bits(parser: argparse._ActionsContainer, several: bool = False) -> None:
    """Add --weights-bits; several: a comma-separated list of them."""
    help_text = "of linear layers' weights: 16 (the precision of --dtype), or packed in 8 or 4 (default: %(default)s)"
    if several:
        parser.add_argument(
            '--weights-bits', default='16', metavar='A,B', help=f'bits {help_text}; a list with commas is compared'
        )
    else:
        parser.add_argument('--weights-bits', default=16, type=int, choices=WEIGHT_BITS, help=f'bits {help_text}')


def add_network_options(parser: argparse.ArgumentParser, several_bits: bool = False) -> None:
    """Add the options of a network and its device. several_bits: --weights-bits takes a list."""
    group = parser.add_argument_group('network')
    group.add_argument(
        '--weights',
        default='tiny',
        metavar='FILE',
        help="this package's own, 'tiny' (default); "
        "'official' to download the published ones; a .safetensors or .pth file, an index of shards or their "
        "folder; or 'random' for untrained ones",
    )
    group.add_argument('--preset', default='auto', help="size of the network; 'auto' (default) is that of the weights")
    group.add_argument(
        '--image-width',
        type=int,
        metavar='PX',
        help="width to which images are resized, a multiple of 14 (default: the preset's)",
    )
    add_weights_bits(group, several_bits)
    add_device_options(group)
    group.add_argument(
        '--half',
        dest='dtype',
        action='store_const',
        const=HALF,
        help='16-bit weights and activations: bfloat16, or float16 on GPUs without it',
    )


def device_of(args: argparse.Namespace) -> str:
    """Return the device of --device. Raises UserError if it is not available."""
    return str(resolve_device(args.device))


def device_and_dtype(args: argparse.Namespace) -> tuple[str, str]:
    """Return device and dtype of --device and --dtype. Raises UserError if the device is not available."""
    device = resolve_device(args.device)
    return str(device), resolve_dtype(args.dtype, device)


def named_policy(args: argparse.Namespace, text: str) -> str:
    """Return a policy, with its settings after colons, in which ``auto`` is what the options' weights make of it."""
    from evict3r_ros.network import measured_policy, preset_of
    from evict3r_ros.stream.default_policy import choose_policy

    policy, *settings = text.split(':')
    choice = choose_policy(policy, preset_of(args.weights, args.preset), measured_policy(args.weights))
    return ':'.join((choice.policy, *settings))


def load(args: argparse.Namespace, heads: tuple[str, ...] = ('camera', 'depth')) -> StreamVGGT:
    """Load the network of the options. Raises UserError if that fails."""
    from evict3r_ros.network import load_network

    device, dtype = device_and_dtype(args)
    return load_network(args.weights, args.preset, device, dtype, heads=heads, weights_bits=args.weights_bits)
