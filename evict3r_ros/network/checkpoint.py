# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Weights from a file, from the hub or from a rule, checked before they are believed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch

from evict3r_ros.errors import UserError
from evict3r_ros.network.packed_linear import pack_layers
from evict3r_ros.network.precision import check_weight_bits, torch_dtype
from evict3r_ros.network.presets import PRESETS, Preset
from evict3r_ros.network.random_weights import random_tensor
from evict3r_ros.network.streamvggt import HEADS, StreamVGGT
from evict3r_ros.network.weights_file import Reader, Shapes, metadata_of, open_weights, weights_in

TINY, AUTO = 'tiny', 'auto'
"""This package's own weights, and the preset that follows the weights."""
PRESET_KEY = 'evict3r_preset'
"""Where a .safetensors file's metadata name the preset."""
DEMONSTRATION_KEY = 'evict3r_demonstration'
"""Where they say 'true' if these weights are for demonstration, not for a robot."""
POLICY_KEY = 'evict3r_policy'
"""Where they name the eviction policy that was measured for the weights."""
OFFICIAL_REPOSITORY, OFFICIAL_FILE = 'lch01/StreamVGGT', 'checkpoints.pth'
UNUSED = ('track_head.', 'n_averaged')
"""What files hold that this project has no use for: a head of the published weights, the counter of an average."""
NAMED_KEYS = 3
"""How many keys an error names before it counts the rest."""


def load_network(
    weights: str = TINY,
    preset: str = AUTO,
    device: str | torch.device = 'cpu',
    dtype: str = 'float32',
    seed: int = 0,
    heads: tuple[str, ...] = ('camera', 'depth'),
    weights_bits: int = 16,
) -> StreamVGGT:
    """Return a network in evaluation mode, on its device and in its precision.

    weights: ``tiny`` (this package's own), ``official`` (downloaded through huggingface_hub, with progress), ``random``
    (by rule from ``seed``; marked ``untrained``), or a path: see ``weights_file``; those whose metadata say so, and
    random ones, are marked ``demonstration``. preset: see ``preset_of``. dtype: float32, bfloat16 or float16.
    weights_bits: 16 leaves the weights in that precision, 8 and 4 pack those of linear layers (see ``packed_linear``).
    Raises UserError, in one line, for weights that are not this network's.
    """
    precision = torch_dtype(dtype)
    check_weight_bits(weights_bits)
    preset = preset_of(weights, preset)
    if not set(heads) <= set(HEADS):
        raise UserError(f'heads {heads} are not among {", ".join(HEADS)}')
    place = torch.device(device)
    with torch.device('meta'):
        network = StreamVGGT(PRESETS[preset], heads)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    if weights == 'random':

        def random(key: str) -> torch.Tensor:
            return random_tensor(key, shapes[key], seed, place)

        read: Reader = random
        network.untrained = network.demonstration = True
        network.source = f'random weights, seed {seed} (UNTRAINED)'
    else:
        path = find_weights(weights)
        read = _checked(path, shapes, PRESETS[preset])
        network.weights_file = path
        network.source = f'{weights} ({path.name})' if weights in (TINY, 'official') else str(path)
        network.demonstration = metadata_of(path).get(DEMONSTRATION_KEY) == 'true'
    network.measured_policy = measured_policy(weights)
    # One tensor at a time, so that a device never holds two copies of a large network. A copy in any case: what a file
    # gives is the file itself, mapped into memory, and who overwrites that would end this process with a bus error.
    copy = weights != 'random'

    def tensor(key: str, dtype: torch.dtype = precision) -> torch.Tensor:
        return read(key).to(device=place, dtype=dtype, copy=copy)

    pack_layers(network, weights_bits, lambda key: tensor(key, torch.float32 if key.endswith('.weight') else precision))
    # What is packed has its numbers already.
    there = {key: value for key, value in network.state_dict().items() if not value.is_meta}
    state = {key: there[key] if key in there else tensor(key) for key in network.state_dict()}
    network.load_state_dict(state, strict=True, assign=True)
    if place.type == 'cuda':
        # Convolutions in half precision run on tensor cores in this layout, and tokens come in it anyway.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return network.eval().requires_grad_(False)


def measured_policy(weights: str) -> str:
    """Return the eviction policy that a weights file names as measured for them; '' for none.

    Weights that are not on this machine yet are not fetched for it.
    """
    if weights in ('random', 'official'):
        return ''
    path = find_weights(weights)
    return metadata_of(path).get(POLICY_KEY, '') if path.suffix == '.safetensors' else ''


def preset_of(weights: str, preset: str = AUTO) -> str:
    """Return the preset of a network with these weights: the one named, or for ``auto`` that of the weights.

    Files that this package wrote say theirs; others are taken for ``official``, and ``random`` is ``tiny``. Raises
    UserError for a preset that contradicts the weights.
    """
    if preset not in (AUTO, *PRESETS):
        raise UserError(f'preset {preset!r} is not one of {", ".join((AUTO, *PRESETS))}')
    own = {TINY: TINY, 'random': None, 'official': None}.get(weights, '')
    if own == '':
        path = find_weights(weights)
        own = metadata_of(path).get(PRESET_KEY)
    if own is None:
        return preset if preset != AUTO else TINY if weights == 'random' else 'official'
    if own not in PRESETS:
        raise UserError(f'{weights}: weights of preset {own!r}, which this version does not know')
    if preset not in (AUTO, own):
        raise UserError(f'weights {weights!r} are of preset {own!r}, not {preset!r}: leave the preset at {AUTO!r}')
    return own


def find_weights(weights: str) -> Path:
    """Return the file of these weights; downloads ``official`` ones. Raises UserError where there is none."""
    if weights == 'official':
        return _download()
    if weights == TINY:
        path = Path(__file__).parent.parent / 'weights' / 'tiny.safetensors'
        if not path.is_file():
            raise UserError(
                f"this installation lacks the package's own weights ({path}): install it again, or name others"
            )
        return path
    if not weights:
        raise UserError(
            f"no weights are named: give {TINY!r}, 'official', the path of a .safetensors or .pth file, or "
            "'random' for an untrained network"
        )
    path = Path(weights).expanduser()
    if path.is_dir():
        return weights_in(path)
    if not path.is_file():
        raise UserError(f'weights file {path} does not exist')
    return path


def _download() -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(huggingface_hub.hf_hub_download(OFFICIAL_REPOSITORY, OFFICIAL_FILE))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f'the official weights ({OFFICIAL_REPOSITORY}, {OFFICIAL_FILE}) could not be fetched: '
            f'{first_line}; fetch the file elsewhere and give its path'
        ) from error


def _checked(path: Path, shapes: Shapes, preset: Preset) -> Reader:
    """Return a reader of single tensors from ``path``, whose keys and shapes are compared with ``shapes`` before."""
    expected = f'expected StreamVGGT weights of preset {preset.name!r}'
    found, read = open_weights(path, shapes.keys(), expected)
    ours = {key: shape for key, shape in found.items() if not key.startswith(UNUSED)}
    missing = [key for key in shapes if key not in ours]
    if len(missing) > len(shapes) // 2:
        raise UserError(
            f"{path}: another model's weights ({len(found)} tensors, such as {_first_names(list(found))}); "
            f'{expected}, with {_first_names(missing)}'
        )
    if missing and all(key.startswith('point_head.') for key in missing):
        raise UserError(f'{path}: these weights have no point head, take the points from depth')
    if missing:
        raise UserError(
            f'{path}: {len(missing)} of {len(shapes)} weights are missing: {_first_names(missing)}; {expected}'
        )
    different = [key for key in shapes if ours[key] != shapes[key]]
    if different:
        shown = [f'{key} {list(ours[key])} instead of {list(shapes[key])}' for key in different]
        raise UserError(
            f'{path}: {len(different)} of {len(shapes)} weights have another shape: {_first_names(shown)}; {expected}'
            f'{_other_preset(ours, shapes.keys())}'
        )
    # A head that was not built is left in the file.
    foreign = [key for key in ours if key not in shapes and not key.startswith('point_head.')]
    if foreign:
        raise UserError(f'{path}: {len(foreign)} weights are not of this network: {_first_names(foreign)}; {expected}')
    return read


def _other_preset(found: Shapes, keys: Collection[str]) -> str:
    """Return which preset these shapes are of, as the end of a line; nothing if they are of none."""
    for name, preset in PRESETS.items():
        with torch.device('meta'):
            shapes = {key: tuple(value.shape) for key, value in StreamVGGT(preset).state_dict().items() if key in keys}
        if shapes and all(found.get(key) == shape for key, shape in shapes.items()):
            return f'; these are of preset {name!r}: say so'
    return ''


def _first_names(names: list[str]) -> str:
    """Return the first few of a list, and how many more there are."""
    rest = len(names) - NAMED_KEYS
    return ', '.join(names[:NAMED_KEYS]) + (f' and {rest} more' if rest > 0 else '')
