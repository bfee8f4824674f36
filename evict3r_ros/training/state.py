# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training's state on the disk: all of it in one file, or what matters most in small shards.

The file has weights, their running mean, momenta and counters, so that training goes on as if it had never stopped. The
shards have the weights in half precision and the counters: the momenta begin anew (they are back after some ten steps),
the running mean begins at the weights. The weights of the package themselves are a third way to go on.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as format_safetensors

from evict3r_ros.errors import UserError
from evict3r_ros.network import load_network

_SHARD, _COUNTERS = 'weights.safetensors.{:02d}', 'training.json'


@dataclass
class Progress:
    """Counters of a training, whatever the number of calls that it was done in."""

    step: int = 0
    frames: int = 0
    seconds: float = 0.0
    finished: bool = False
    calls: list[dict[str, str]] = field(default_factory=list)
    """The settings of each call, its command among them, as text."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """One entry for each line of the log."""


def save_file(path: Path, tensors: dict[str, Any], progress: Progress) -> None:
    """Everything, replacing an older file only once the new one is whole."""
    part = path.with_suffix('.part')
    torch.save({'tensors': tensors, 'progress': asdict(progress)}, part)
    part.replace(path)


def save_shards(folder: Path, weights: dict[str, torch.Tensor], progress: Progress, megabytes: float) -> list[Path]:
    """Write the weights in float16 as shards of a .safetensors file, in order, and the counters beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    content = format_safetensors({key: value.detach().half().cpu().contiguous() for key, value in weights.items()})
    size = int(megabytes * 1e6)
    paths = []
    for number, start in enumerate(range(0, len(content), size)):
        paths.append(folder / _SHARD.format(number))
        _replace(paths[-1], content[start : start + size])
    _replace(folder / _COUNTERS, (json.dumps(asdict(progress)) + '\n').encode())
    for path in set(folder.glob(_SHARD.format(0)[:-2] + '*')) - set(paths):
        path.unlink()
    return paths


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    part = path.with_name('.' + path.name)
    part.write_bytes(content)
    part.replace(path)


def load(path: Path) -> tuple[dict[str, Any], Progress]:
    """Load what a training can go on from.

    Of a state.pt all that was saved; of a folder of shards, or of weights that export has packed, ``{'network':
    weights}``. Raises UserError for what is none of these.
    """
    if path.suffix == '.safetensors':
        return {'network': load_network(str(path)).state_dict()}, _exported_progress(path)
    if path.is_file():
        try:
            saved = torch.load(path, map_location='cpu', weights_only=True)
            return saved['tensors'], Progress(**saved['progress'])
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f'{path}: no state of a training, or a damaged one ({str(error).splitlines()[0]})'
            ) from error
    return {'network': {key: value.float() for key, value in read_shards(path).items()}}, read_progress(path)


def _exported_progress(path: Path) -> Progress:
    with safe_open(path, framework='pt') as file:
        about = file.metadata() or {}
    return Progress(
        step=int(about.get('steps', 0)),
        frames=int(about.get('frames', 0)),
        seconds=60.0 * float(about.get('minutes', 0.0)),
        calls=json.loads(about.get('calls', '[]')),
    )


def read_progress(folder: Path) -> Progress:
    """Read the counters beside shards."""
    try:
        return Progress(**json.loads((folder / _COUNTERS).read_text(encoding='utf-8')))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f'{folder}: no {_COUNTERS} of a training ({error})') from error


def read_shards(folder: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a folder of shards, float16. Raises UserError where they are not whole."""
    paths = sorted(folder.glob(_SHARD.format(0)[:-2] + '*'))
    if not paths:
        raise UserError(f'{folder}: no {_SHARD.format(0)} there')
    try:
        return parse_safetensors(b''.join(path.read_bytes() for path in paths))
    except SafetensorError as error:
        raise UserError(f'{folder}: its {len(paths)} shards are no whole file ({error})') from error
