# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Open weights as people keep them: .safetensors or torch.save, whole or in shards, wrapped by training code or not.

- A file ``.safetensors``, or anything that torch.save wrote. What else a training run put beside the weights is passed
  over; code in a file is never run.
- ``*.index.json`` of a file in shards, or a folder with one file, one index, or the shards themselves.
- Names may have prefixes of wrappers: ``module.``, ``_orig_mod.``, and any that all weights of the network share.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import pickle
import re
import types
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from evict3r_ros.errors import UserError
from evict3r_ros.network import int8

Shapes = dict[str, tuple[int, ...]]
"""By key."""
Reader = Callable[[str], torch.Tensor]
"""Key to tensor."""
INDEX = '.index.json'
_SUFFIXES = ('.safetensors', '.pth', '.pt', '.bin', '.ckpt')
_USUAL = ('model', 'pytorch_model', 'checkpoints')
"""Stems of files of weights, beside which training code keeps others."""
_SHARD = re.compile(r'(.+)-(\d+)-of-(\d+)\.\w+')
_WRAPPERS = frozenset(('module', '_orig_mod', '_fsdp_wrapped_module', '_checkpoint_wrapped_module'))
"""Parts of names that torch's wrappers put in, wherever they wrap: DataParallel, compile, FSDP, checkpointing."""
_BEFORE_ARCHIVES = b'\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.'
"""What torch.save wrote first until version 1.6: its magic number, pickled."""
_DEPTH = 3
"""How deep in a training run's state the weights may lie."""


def weights_in(folder: Path) -> Path:
    """Return the one file, or the index of shards, in a folder. Raises UserError where there is none, or several."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith('.'))
    indices = [file for file in files if file.name.endswith(INDEX)]
    weights = [file for file in files if file.suffix in _SUFFIXES]
    chosen = indices or [file for file in weights if file.suffix == '.safetensors'] or weights
    chosen = [file for file in chosen if file.stem in _USUAL] or chosen
    shards = [file for file in chosen if _SHARD.fullmatch(file.name)]
    if len(chosen) == 1 or (chosen and len({_parts(file) for file in chosen}) == 1 and len(shards) == len(chosen)):
        return chosen[0]
    if chosen:
        names = ', '.join(file.name for file in chosen[:3])
        raise UserError(f'{folder} is a folder with {len(chosen)} files of weights ({names}): name one of them')
    raise UserError(f'{folder} is a folder without weights ({", ".join(_SUFFIXES)} or *{INDEX})')


def metadata_of(path: Path) -> dict[str, str]:
    """Return the metadata of a .safetensors file or an index; nothing for a damaged one, which opening reports."""
    try:
        if path.name.endswith(INDEX):
            content = json.loads(path.read_text(encoding='utf-8'))
            own = {key: str(value) for key, value in (content.get('metadata') or {}).items()}
            return metadata_of(path.with_name(next(iter(content['weight_map'].values())))) | own
        if path.suffix != '.safetensors':
            return {}
        with safe_open(path, framework='pt') as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return {}


def open_weights(path: Path, wanted: Collection[str], expected: str) -> tuple[Shapes, Reader]:
    """Return shapes by key, and a reader by key, under the names that the network gives them.

    wanted: these names. expected: what the file should be, for messages. Raises UserError for what is no weights file.
    """
    if path.name.endswith(INDEX):
        shapes, read = _open_shards(path, _indexed(path, expected), wanted, expected)
    elif _SHARD.fullmatch(path.name):
        shapes, read = _open_shards(path, _numbered(path), wanted, expected)
    else:
        shapes, read = _open_file(path, wanted, expected)
    unpacked = int8.unpacking(shapes, read)
    scales = {f'{key}{int8.SCALE}' for key in shapes}
    names = _names([key for key in shapes if key not in scales], wanted)
    return {name: shapes[key] for name, key in names.items()}, lambda name: unpacked(names[name])


def _names(found: Collection[str], wanted: Collection[str]) -> dict[str, str]:
    """Return the network's names of the keys, without what wrappers put before and into them.

    Where the weights share a prefix, keys without it are parts of something else and left out.
    """
    plain = {'.'.join(part for part in key.split('.') if part not in _WRAPPERS): key for key in found}
    prefixes: Counter[str] = Counter()
    for name in plain:
        parts = name.split('.')
        prefixes.update(
            '.'.join((*parts[:start], '')) for start in range(len(parts)) if '.'.join(parts[start:]) in wanted
        )
    prefix = max(prefixes, key=lambda text: (prefixes[text], -len(text)), default='')
    return {name.removeprefix(prefix): key for name, key in plain.items() if name.startswith(prefix)}


def _indexed(path: Path, expected: str) -> list[Path]:
    """Return the shards that an index names."""
    try:
        names = sorted(set(json.loads(path.read_text(encoding='utf-8'))['weight_map'].values()))
        return [path.with_name(name) for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{path}: not an index of weights in shards (weight_map is missing); {expected}') from error


def _parts(path: Path) -> tuple[str, str]:
    """Return what the names of all shards of one file share: its stem, and their number."""
    found = _SHARD.fullmatch(path.name)
    return (found[1], found[3]) if found else (path.name, '')


def _numbered(path: Path) -> list[Path]:
    """Return all shards of the file that one of them belongs to."""
    stem, total = _parts(path)
    return [
        path.with_name(f'{stem}-{number:0{len(total)}d}-of-{total}{path.suffix}') for number in range(1, int(total) + 1)
    ]


def _open_shards(path: Path, shards: list[Path], wanted: Collection[str], expected: str) -> tuple[Shapes, Reader]:
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise UserError(f'{path}: {len(missing)} of {len(shards)} shards are missing beside it, such as {missing[0]}')
    shapes: Shapes = {}
    readers: dict[str, Reader] = {}
    for shard in shards:
        found, read = _open_file(shard, wanted, expected)
        shapes |= found
        readers |= dict.fromkeys(found, read)
    return shapes, lambda key: readers[key](key)


def _open_file(path: Path, wanted: Collection[str], expected: str) -> tuple[Shapes, Reader]:
    size = path.stat().st_size
    with path.open('rb') as file:
        head = file.read(256)
    if not head:
        raise UserError(f'{path}: an empty file; {expected}')
    text = head.lstrip().lower()
    if text.startswith((b'<!doctype', b'<html', b'<?xml')):
        raise UserError(f'{path}: a web page, not weights (was the download link a page?); {expected}')
    if text.startswith(b'version https://git-lfs'):
        raise UserError(f'{path}: a Git LFS pointer, not the weights it points to; {expected}')
    # By what it is: files are renamed. A safetensors file begins with the length of a JSON text.
    if head[8:9] == b'{' or (path.suffix == '.safetensors' and not zipfile.is_zipfile(path)):
        return _open_safetensors(path, size, expected)
    if path.suffix == '.safetensors':  # torch.load goes by the name
        raise UserError(f'{path}: what torch.save wrote, under another name: rename it to {path.stem}.pth')
    return _open_torch(path, size, wanted, expected)


def _open_safetensors(path: Path, size: int, expected: str) -> tuple[Shapes, Reader]:
    try:
        file = safe_open(path, framework='pt')
    except (SafetensorError, OSError) as error:
        raise UserError(
            f'{path}: a truncated safetensors file, or none at all ({size} bytes: {error}); {expected}'
        ) from error
    return {key: tuple(file.get_slice(key).get_shape()) for key in list(file.keys())}, file.get_tensor


def _open_torch(path: Path, size: int, wanted: Collection[str], expected: str) -> tuple[Shapes, Reader]:
    is_archive = zipfile.is_zipfile(path)
    with path.open('rb') as file:
        head = file.read(len(_BEFORE_ARCHIVES))
    if not is_archive and head != _BEFORE_ARCHIVES:
        kind = 'a truncated PyTorch archive' if head.startswith(b'PK') else 'not a PyTorch archive'
        raise UserError(f'{path}: {kind} ({size} bytes); {expected} as .safetensors or as a .pth written by torch.save')
    try:
        with _harmless():
            loaded = torch.load(path, map_location='cpu', weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as error:
        raise UserError(
            f'{path}: holds more than tensors{_foreign_classes(path)}, and code in a file is never run: save the '
            f'weights alone, torch.save(model.state_dict(), FILE); {expected}'
        ) from error
    except (RuntimeError, OSError, EOFError, KeyError, ValueError) as error:
        raise UserError(f'{path}: damaged ({size} bytes: {str(error).splitlines()[0]}); {expected}') from error
    if not isinstance(loaded, Mapping):
        raise UserError(f'{path}: holds a {type(loaded).__name__}, not named tensors; {expected}')
    # The weights are the mapping that has most of them: {'model': ..., 'optimizer': ...}, Lightning's, an average's.
    states = [_tensors(state) for state in _mappings(loaded, _DEPTH)]
    tensors = max(states, key=lambda state: (len(_names(state, wanted).keys() & wanted), len(state)))
    if not tensors:
        raise UserError(f'{path}: holds no named tensors; {expected}')
    return {key: tuple(value.shape) for key, value in tensors.items()}, tensors.__getitem__


def _mappings(content: Mapping[Any, Any], depth: int) -> Iterator[Mapping[Any, Any]]:
    yield content
    for value in content.values() if depth else ():
        if isinstance(value, Mapping):
            yield from _mappings(value, depth - 1)


def _tensors(content: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}


def _harmless() -> contextlib.AbstractContextManager[Any]:
    """Let torch.load build what training code keeps beside weights, and what holds data but runs nothing."""
    allowed = getattr(torch.serialization, 'safe_globals', None)
    if allowed is None:  # before torch 2.5
        return contextlib.nullcontext()
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ('f2', 'f4', 'f8', 'i4', 'i8', 'u1', '?')]
    manager: contextlib.AbstractContextManager[Any] = allowed(
        [argparse.Namespace, types.SimpleNamespace, pathlib.PosixPath, pathlib.PurePosixPath, np.dtype, scalar, *kinds]
    )
    return manager


def _foreign_classes(path: Path) -> str:
    """Return the names of the classes in a file that are not built, in brackets."""
    named = getattr(torch.serialization, 'get_unsafe_globals_in_checkpoint', None)
    names: list[str] = []
    with _harmless(), contextlib.suppress(pickle.UnpicklingError, RuntimeError, ValueError):
        names = named(path) if named is not None else []
    return f' ({", ".join(names[:3])})' if names else ''
