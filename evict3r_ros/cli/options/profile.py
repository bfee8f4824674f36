# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Options taken from a profile of config/: a file of the node's parameters."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evict3r_ros.cli.options.node_parameters import read_parameters
from evict3r_ros.errors import UserError
from evict3r_ros.network.precision import AUTO

_OPTIONS = {
    'dtype': 'dtype',
    'weights_bits': 'weights_bits',
    'cache.policy': 'policy',
    'cache.tokens': 'tokens',
    'cache.memory_mb': 'memory_mb',
    'cache.bits': 'bits',
    'cache.scores': 'scores',
    'cache.budget': 'budget',
    'cache.camera_frames': 'camera_frames',
}
"""Parameter of the node -> option of `evict3r plan`, where no more than the name differs."""


class ProfileAction(argparse.Action):
    """Set the options that a profile has parameters for, where it stands on the command line."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Read the profile into the namespace. Raises ArgumentError for one that is not there, or cannot be read."""
        from evict3r_ros.network.checkpoint import preset_of

        name = str(values)
        try:
            parameters = read_parameters(_file(name), ()).own
        except UserError as error:
            raise argparse.ArgumentError(self, str(error)) from error
        setattr(namespace, self.dest, name.removesuffix('.yaml'))
        for parameter, option in _OPTIONS.items():
            if parameter in parameters:
                setattr(namespace, option, parameters[parameter])
        namespace.bits = str(namespace.bits)
        namespace.memory_mb = namespace.memory_mb or None
        namespace.cpu = parameters.get('device') == 'cpu'
        if namespace.dtype == AUTO:
            namespace.dtype = 'float32' if namespace.cpu else 'bfloat16'
        namespace.preset = preset_of(parameters.get('weights', 'tiny'), parameters.get('preset', AUTO))
        if parameters.get('image_width'):
            namespace.width = parameters['image_width']


def _file(name: str) -> Path:
    from evict3r_ros.ros.tools.middleware import shared_file

    if name.endswith('.yaml'):
        return Path(name)
    try:
        return shared_file(f'config/{name}.yaml')
    except FileNotFoundError as error:
        raise UserError(f'{name}: no such profile in config/, and files end with .yaml') from error
