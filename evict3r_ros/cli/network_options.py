# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The options about the network that several commands share."""

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evict3r_ros.network import StreamVGGT

DEFAULT_WEIGHTS, DEFAULT_PRESET = 'random', 'small'


@dataclass(frozen=True)
class NetworkChoice:
    """Which network to load, and where; plain values, so that another process can be told."""

    weights: str
    preset: str
    device: str
    dtype: str
    seed: int = 0

    def load(self) -> 'StreamVGGT':
        """The network. Raises UserError for one that cannot be had."""
        from evict3r_ros.network import load_network
        return load_network(self.weights, self.preset, self.device, self.dtype, self.seed)


def add_network_options(parser: argparse.ArgumentParser, weights: str, preset: str) -> None:
    """Add them, with these defaults."""
    group = parser.add_argument_group('network')
    group.add_argument('--weights', default=weights, metavar='W',
                       help="a file, 'official' or 'random' (default: %(default)s)")
    group.add_argument('--preset', default=preset, metavar='P', help='size of the network (default: %(default)s)')
    group.add_argument('--device', default='auto', metavar='D', help="'cpu', 'cuda', 'cuda:1', or 'auto': CUDA where "
                       'there is one')
    group.add_argument('--dtype', default='auto', choices=('auto', 'float32', 'bfloat16', 'float16'),
                       help='auto: bfloat16 on CUDA, float32 on a CPU')


def network_choice(args: argparse.Namespace) -> NetworkChoice:
    """What the options say, 'auto' resolved. Raises UserError for a device that is not there."""
    device = resolve_device(args.device)
    dtype = args.dtype if args.dtype != 'auto' else 'bfloat16' if device.startswith('cuda') else 'float32'
    return NetworkChoice(args.weights, args.preset, device, dtype)


def resolve_device(name: str) -> str:
    """A device's name, 'auto' resolved. Raises UserError for one that is not there."""
    import torch

    from evict3r_ros.errors import UserError
    if name == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ('cpu', 'cuda'):
        raise UserError(f"device {name!r} is not 'cpu', 'cuda', 'cuda:1' or 'auto'")
    cards = torch.cuda.device_count()
    if device.type == 'cuda' and (device.index or 0) >= cards:
        raise UserError(f'device {name!r} is asked for, and torch sees {cards} CUDA devices here')
    return name
