# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From the settings to a stream with its weights loaded and its memory allocated: the same for node and replay."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from evict3r_ros import kernels
from evict3r_ros.cache import POLICIES, CacheConfig, parse_bits
from evict3r_ros.errors import UserError
from evict3r_ros.network import PRESETS, StreamVGGT, load_network, measured_policy, preset_of
from evict3r_ros.network.precision import resolve_device, resolve_dtype
from evict3r_ros.ros.settings.parameters import Settings
from evict3r_ros.stream import Stream
from evict3r_ros.stream.default_policy import choose_policy
from evict3r_ros.stream.planning import free_memory, plan, refuse_unless_fits, workspace_bytes


def open_stream(settings: Settings, log: Callable[[bool, str], None]) -> tuple[StreamVGGT, Stream]:
    """Load the weights and allocate all memory. Raises UserError for settings that cannot work.

    log(is_error, text): told what a user should know before.
    """
    if not settings.frames_odom or not settings.frames_base or settings.frames_odom == settings.frames_base:
        raise UserError(
            f'frames.odom {settings.frames_odom!r} and frames.base {settings.frames_base!r} have to be two frames'
        )
    device = resolve_device(settings.device)
    dtype = resolve_dtype(settings.dtype, device)
    choice = choose_policy(
        settings.cache_policy, preset_of(settings.weights, settings.preset), measured_policy(settings.weights)
    )
    cache = CacheConfig(
        choice.policy,
        settings.cache_tokens,
        memory_mb=settings.cache_memory_mb or None,
        bits=parse_bits(str(settings.cache_bits)),
        scores=settings.cache_scores,
        budget=settings.cache_budget,
        camera_frames=settings.cache_camera_frames,
    )
    _check_memory(settings, device, dtype, cache, log)
    if device.type == 'cpu':
        # One core is left to DDS, the camera and the rest of the robot: OpenMP's threads spin while they wait for
        # each other, and where another process wants their core a frame takes many times as long.
        torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
    network = load_network(
        settings.weights, settings.preset, device, dtype, settings.seed, weights_bits=settings.weights_bits
    )
    return network, Stream(network, cache, image_width=settings.image_width or None)


def describe(settings: Settings, network: StreamVGGT, stream: Stream) -> str:
    """Return in a line what runs."""
    dtype = str(network.dtype).removeprefix('torch.')
    packed = f', linear layers in {settings.weights_bits} bits' if settings.weights_bits < 16 else ''
    choice = choose_policy(settings.cache_policy, network.preset.name, network.measured_policy)
    return (
        f'{network.source}, preset {network.preset.name}, {dtype}{packed} on {network.device}; cache: '
        f'{choice.text}, {stream.config.tokens} tokens a layer, {settings.cache_bits} bits, '
        f'{stream.stats().cache_bytes / 2**20:.1f} MiB; engine {kernels.describe_engine(network.device)}'
    )


def _check_memory(
    settings: Settings, device: torch.device, dtype: str, cache: CacheConfig, log: Callable[[bool, str], None]
) -> None:
    """Refuse, before anything is loaded, what does not fit the device; the log then has the whole plan."""
    if POLICIES[cache.policy].grows:
        log(False, f'policy {cache.policy} takes more memory with every frame: it is for comparison, not for robots')
        return
    preset = preset_of(settings.weights, settings.preset)
    width = settings.image_width or PRESETS[preset].image_width
    planned = plan(
        preset,
        cache,
        (width, width),
        dtype,
        device.type == 'cuda',
        weights_bits=settings.weights_bits,
        workspace=workspace_bytes(device),
    )
    try:
        refuse_unless_fits(planned, free_memory(device))
    except UserError:
        log(True, f'the plan:\n{planned.table()}')
        raise
