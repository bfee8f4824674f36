# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the memory of a stream goes, before any of it is allocated.

The real stream runs one frame with a full cache on torch's meta device, where tensors have shapes and no bytes, while
every storage that comes and goes is counted. So there is no second set of formulas that could drift from the code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from evict3r_ros.cache import POLICIES, CacheConfig
from evict3r_ros.camera.view import ImageView
from evict3r_ros.errors import UserError
from evict3r_ros.network import PRESETS, StreamVGGT
from evict3r_ros.network.packed_linear import pack_layers, weight_bytes
from evict3r_ros.network.precision import torch_dtype
from evict3r_ros.stream.default_policy import choose_policy
from evict3r_ros.stream.stream import Stream

MIB = 2**20
CUDA_RUNTIME = 600 * MIB
"""An allowance for the CUDA context and the libraries' code, which torch does not count."""
WORKSPACE, WORKSPACE_OF_HOPPER = 8 * MIB + 128 * 2**10, 32 * MIB
"""What torch allocates for cuBLAS, and keeps, for each stream in which it multiplies matrices (its notes on CUDA)."""
MULTIPLYING_STREAMS = 3
"""The caller's, that in which a frame is recorded, and the camera head's side stream."""


class StorageCounter(TorchDispatchMode):
    """Counts the bytes of storages that operations inside it make, as long as these live.

    A view of what was there before, such as of weights, is not made.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._at_most = 0
        self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {tensor.untyped_storage()._cdata for tensor in tree_leaves(args) if isinstance(tensor, torch.Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata in given and storage._cdata not in self._live:
                    continue
                self._live[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
                self._at_most += storage.nbytes()
        # Looking for the dead takes time; it is needed only where the living might be more than ever.
        if self._at_most > self.peak:
            self.peak = max(self.peak, self.bytes)
        return result

    @property
    def bytes(self) -> int:
        """Bytes alive now."""
        self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}
        self._at_most = sum(size for _, size in self._live.values())
        return self._at_most


class _FusedAttention(TorchFunctionMode):
    """On the meta device attention would be taken apart, scores and all; on real ones it is one kernel that is not."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            return torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Plan:
    """Bytes of a stream; all but the activations are taken when it opens and held until it closes."""

    preset: str
    size: tuple[int, int]
    """(height, width) of the network's images."""
    dtype: str
    config: CacheConfig
    """With the budget in tokens."""
    frame_tokens: int
    layers: int
    weights: int
    cache: int
    """Stored keys and values of all layers; they share one pool."""
    camera_cache: int
    """Stored keys and values of the camera head."""
    bookkeeping: int
    """Tables, scores and ranges of the cache."""
    scratch: int
    """One layer's keys and values, unpacked to be attended to."""
    tables: int
    """What depends on the image size alone: positions and rotations."""
    activations: int
    """The most that lives at one time inside a frame."""
    workspaces: int
    """Of cuBLAS, in all streams; 0 on a CPU."""
    runtime: int
    """Allowance for the CUDA context; 0 on a CPU."""
    weights_bits: int
    """Stored precision of the linear layers' weights: 16 stands for ``dtype``."""
    policy_reason: str
    """Why the config has its policy."""

    @property
    def total(self) -> int:
        """All of it, at the worst moment."""
        return (
            self.weights
            + self.cache
            + self.camera_cache
            + self.bookkeeping
            + self.scratch
            + self.tables
            + self.activations
            + self.workspaces
            + self.runtime
        )

    def rows(self) -> list[tuple[str, int, str]]:
        """Return (what, bytes, a remark) for each part and the total."""
        config = self.config
        each = self.cache // self.layers
        return [
            ('weights', self.weights, f'{self.preset}, {self.dtype}{_packed(self.weights_bits)}'),
            (
                'cache',
                self.cache,
                f'{config.tokens} + {self.frame_tokens} tokens a layer, {_bits(config)}, {config.policy} '
                f'({self.policy_reason})',
            ),
            (
                '  of these a layer',
                each,
                f'{self.layers} layers, {each / (config.tokens + self.frame_tokens):.0f} bytes a token',
            ),
            ('camera head cache', self.camera_cache, f'{config.camera_frames} frames'),
            ('bookkeeping', self.bookkeeping, 'tables, scores, ranges'),
            ('scratch', self.scratch, 'one layer, unpacked'),
            ('size tables', self.tables, f'{self.size[1]} x {self.size[0]}'),
            ('activations', self.activations, 'the most inside a frame'),
            *([('cuBLAS workspaces', self.workspaces, f'{MULTIPLYING_STREAMS} streams')] if self.workspaces else []),
            *([('CUDA runtime', self.runtime, 'an allowance')] if self.runtime else []),
            ('total', self.total, ''),
        ]

    def table(self) -> str:
        """Return the rows as text."""
        return table(self.rows())


def table(rows: list[tuple[str, int, str]]) -> str:
    """Return rows of a plan (what, bytes, a remark) as text."""
    return '\n'.join(f'{what:<22}{size / MIB:>10.1f} MiB   {remark}'.rstrip() for what, size, remark in rows)


def _packed(weights_bits: int) -> str:
    return '' if weights_bits == 16 else f', linear layers in {weights_bits} bits'


def _bits(config: CacheConfig) -> str:
    if isinstance(config.bits, int):
        return f'{config.bits} bits'
    return f'{config.bits.pinned}/{config.bits.recent}/{config.bits.rest} bits'


def plan(
    preset: str,
    config: CacheConfig,
    size: tuple[int, int] | None = None,
    dtype: str = 'float32',
    cuda: bool = False,
    heads: tuple[str, ...] = ('camera', 'depth'),
    weights_bits: int = 16,
    measured_policy: str = '',
    workspace: int = WORKSPACE,
) -> Plan:
    """Return the plan for images of ``size`` (height, width); by default the largest of the preset's width.

    weights_bits: see ``load_network``. measured_policy: that of the weights, for policy ``auto``. workspace: bytes of
    one, from ``workspace_bytes`` for a card that is here. Raises UserError for settings that cannot work.
    """
    if preset not in PRESETS:
        raise UserError(f'preset {preset!r} is not one of {", ".join(PRESETS)}')
    precision = torch_dtype(dtype)
    choice = choose_policy(config.policy, preset, measured_policy)
    config = replace(config, policy=choice.policy)
    if config.policy in POLICIES and POLICIES[config.policy].grows:
        raise UserError(f'policy {config.policy!r} takes more memory with every frame: there is nothing to plan')
    size = size or (PRESETS[preset].image_width,) * 2
    ImageView.whole(size)
    with torch.device('meta'), torch.inference_mode():
        network = StreamVGGT(PRESETS[preset], heads).to(precision)
        pack_layers(network, weights_bits, network.get_parameter)
        with StorageCounter() as counter, _FusedAttention():
            stream = Stream(network, config, camera_size=size, image_width=size[1])
            opened = counter.bytes
            cache = stream.cache
            scratch = cache.scratch_bytes
            image = torch.empty(3, *size)
            stream.run(image)
            tables = counter.bytes - opened - image.nbytes
            cache.assume_full()
            counter.peak = 0
            # The image itself counts as an activation.
            stream.run(image)
    stats_bytes = cache.bytes + stream.camera_cache.bytes
    return Plan(
        preset,
        size,
        dtype,
        stream.config,
        cache.shape.frame_tokens,
        cache.shape.layers,
        weights=weight_bytes(network),
        cache=cache.bytes,
        camera_cache=stream.camera_cache.bytes,
        bookkeeping=opened - stats_bytes - scratch,
        scratch=scratch,
        tables=tables,
        activations=counter.peak - opened - tables,
        workspaces=MULTIPLYING_STREAMS * workspace if cuda else 0,
        runtime=CUDA_RUNTIME if cuda else 0,
        weights_bits=weights_bits,
        policy_reason=choice.reason,
    )


def largest_tokens(fitting: Plan, memory: int) -> int:
    """Return how many tokens a layer fit into ``memory`` bytes, all else as in a plan; 0 if not even one frame does."""
    double = plan(
        fitting.preset,
        replace(fitting.config, tokens=2 * fitting.config.tokens, memory_mb=None, share=None, sequence_length=None),
        fitting.size,
        fitting.dtype,
        fitting.runtime > 0,
        weights_bits=fitting.weights_bits,
        workspace=fitting.workspaces // MULTIPLYING_STREAMS,
    )
    token_bytes = (double.total - fitting.total) / fitting.config.tokens
    return max(0, int(fitting.config.tokens + (memory - fitting.total) / token_bytes))


def workspace_bytes(device: torch.device) -> int:
    """Return the bytes of one cuBLAS workspace on a device, unless CUBLAS_WORKSPACE_CONFIG says otherwise."""
    is_hopper = device.type == 'cuda' and torch.cuda.get_device_capability(device)[0] >= 9
    return WORKSPACE_OF_HOPPER if is_hopper else WORKSPACE


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a device: of the card, or of the machine."""
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0]
    lines = Path('/proc/meminfo').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('MemAvailable:'))


def refuse_unless_fits(planned: Plan, memory: int) -> None:
    """Raise UserError, with the largest cache that fits, for a plan of more than ``memory`` bytes."""
    if planned.total > memory:
        largest = largest_tokens(planned, memory)
        raise UserError(
            f'{planned.total / MIB:.0f} MiB are needed and the device has {memory / MIB:.0f}: '
            + (
                f'the largest cache that fits is {largest} tokens a layer, all else as it is (a frame has '
                f'{planned.frame_tokens})'
                if largest
                else 'even without a cache it does not fit'
            )
            + '; fewer bits, a smaller image or half precision take less'
        )
