# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""An estimate of a frame's time on a board: its work over the board's published rates, by a card's measured share.

Nothing here was measured on a board. The work is counted on torch's meta device; how much of the published rates our
kernels reach is taken from the card that they were measured on, for the frame nearest in size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from evict3r_ros.network import PRESETS, StreamVGGT
from evict3r_ros.network.packed_linear import pack_layers, weight_bytes
from evict3r_ros.network.precision import torch_dtype
from evict3r_ros.stream.planning import Plan


@dataclass(frozen=True)
class Board:
    """A machine's published rates."""

    name: str
    bandwidth: float
    """Of its memory, bytes a second."""
    half_rate: float
    """Of its tensor cores in 16 bits, dense, operations a second."""


@dataclass(frozen=True)
class Measurement:
    """A median that `evict3r bench` found on CARD, preset official, 4 bits; docs/performance.md has the commands."""

    size: tuple[int, int]
    tokens: int
    scored: bool
    """Whether attention is scored, as for evict3r."""
    seconds: float


CARD = Board('H100', 3.35e12, 989e12)
"""SXM, 80 GB: NVIDIA's data sheet."""
MEASURED = (
    Measurement((392, 518), 8192, True, 14.3e-3),
    Measurement((392, 518), 8192, False, 12.6e-3),
    Measurement((266, 350), 2048, True, 7.2e-3),
)
# NVIDIA's data sheets give sparse INT8 rates of the GPU (without the DLA): 40, 60 and 171 TOPS; dense 16-bit ones are a
# quarter of these. Rates of the modules' first power modes: those of the later "super" modes are higher.
BOARDS = {
    'orin_nano_8gb': Board('Jetson Orin Nano 8 GB', 68e9, 10e12),
    'orin_nx_16gb': Board('Jetson Orin NX 16 GB', 102.4e9, 15e12),
    'orin_agx_64gb': Board('Jetson AGX Orin 64 GB', 204.8e9, 42.7e12),
}
"""By the name of the profile in config/."""


@dataclass(frozen=True)
class Work:
    """What a frame with a full cache moves and computes."""

    moved: float
    """Bytes: weights, those of the camera head once a round, the stored cache, and its scratch, written and read. What
    the layers hand to each other is left out: it stays in a chip's own memory in part, and the share stands for it."""
    operations: float
    """Of matrix products, convolutions and attention; a multiplication and an addition are two."""

    def seconds(self, board: Board) -> float:
        """Return the time at the board's published rates, one after the other."""
        return self.moved / board.bandwidth + self.operations / board.half_rate


class _OperationCounter(TorchDispatchMode):
    """Counts the operations of products and convolutions; torch's own FlopCounterMode also follows modules, slowly."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.operations += formula(*args, **(kwargs or {}), out_val=result)
        return result


def work_of_a_frame(
    preset: str,
    size: tuple[int, int],
    tokens: int,
    cache_bytes: int,
    scored: bool,
    dtype: str = 'bfloat16',
    weights_bits: int = 16,
) -> Work:
    """Return the work of a frame (height, width) beside a cache of ``tokens`` a layer, ``cache_bytes`` in all."""
    shape = PRESETS[preset]
    # Not inference_mode, in which linear layers and attention are not taken apart into products.
    with torch.device('meta'), torch.no_grad():
        network = StreamVGGT(shape, ('camera', 'depth')).to(torch_dtype(dtype))
        patches = (size[0] // 14, size[1] // 14)
        # The products are the same whatever the weights are stored in.
        with _OperationCounter() as counter:
            network.causal(torch.empty(1, 1, 3, *size), patches)
        pack_layers(network, weights_bits, network.get_parameter)
    frame = shape.special_tokens + patches[0] * patches[1]
    # Queries times keys, weights times values, and once more queries times keys where attention is scored.
    products = 3 if scored else 2
    attention = 2.0 * products * frame * tokens * shape.width * shape.pairs
    trunk = weight_bytes(network.camera_head)
    unpacked = 2 * tokens * shape.width * torch_dtype(dtype).itemsize * shape.pairs
    moved = weight_bytes(network) + (shape.camera_rounds - 1) * trunk + cache_bytes + 2 * unpacked
    return Work(float(moved), counter.operations + attention)


@dataclass(frozen=True)
class Estimate:
    """An estimated time and what it is made of."""

    board: Board
    size: tuple[int, int]
    work: Work
    share: float
    """Of CARD's published rates that the same kernels reach there."""
    nearest: Measurement

    @property
    def seconds(self) -> float:
        """Return the estimated time of a frame."""
        return self.work.seconds(self.board) / self.share

    def as_dict(self) -> dict[str, Any]:
        """Return the estimate and what it is made of."""
        return {
            'measured': False,
            'board': self.board.name,
            'size': list(self.size),
            'milliseconds': 1e3 * self.seconds,
            'gigabytes': self.work.moved / 1e9,
            'teraflop': self.work.operations / 1e12,
            'published_gigabytes_a_second': self.board.bandwidth / 1e9,
            'published_teraflop_a_second': self.board.half_rate / 1e12,
            'share': self.share,
            'share_of': CARD.name,
        }

    def lines(self) -> str:
        """Return the estimate in words, both factors in it."""
        height, width = self.nearest.size
        return (
            f'ESTIMATE of a frame, {self.size[1]} x {self.size[0]}, {self.board.name}: {1e3 * self.seconds:.0f} ms '
            '(not measured)\n'
            f'  {self.work.moved / 1e9:.2f} GB at {self.board.bandwidth / 1e9:g} GB/s and '
            f'{self.work.operations / 1e12:.2f} Tflop at {self.board.half_rate / 1e12:g} Tflop/s, as published: '
            f'{1e3 * self.work.seconds(self.board):.0f} ms\n'
            f'  over {self.share:.2f}, the share of its rates at which an {CARD.name} takes '
            f'{1e3 * self.nearest.seconds:.1f} ms for {width} x {height}, {self.nearest.tokens} tokens'
        )


def measured_share(measurement: Measurement, cache_bytes: int) -> float:
    """Return the share of CARD's published rates that a measured frame reached."""
    work = work_of_a_frame('official', measurement.size, measurement.tokens, cache_bytes, measurement.scored)
    return work.seconds(CARD) / measurement.seconds


def estimate(planned: Plan, board: Board, size: tuple[int, int]) -> Estimate:
    """Return the estimate for frames of a size (height, width) with a plan's network and cache."""
    tokens, config = planned.config.tokens, planned.config
    # Pooled queries are a sixteenth of all.
    scored = (config.policy == 'evict3r' and config.scores == 'exact') or config.budget == 'adaptive'
    work = work_of_a_frame(
        planned.preset, size, tokens, planned.cache, scored, planned.dtype, weights_bits=planned.weights_bits
    )
    nearest = _nearest(MEASURED, size, scored)
    # Bytes a token of a layer are alike for all sizes of official at 4 bits.
    official = PRESETS['official']
    a_token = 2 * official.width * 4 // 8 + 2 * 4 * official.heads
    share = measured_share(nearest, a_token * nearest.tokens * official.pairs)
    return Estimate(board, size, work, share, nearest)


def _nearest(measured: Sequence[Measurement], size: tuple[int, int], scored: bool) -> Measurement:
    """Return the measurement of the same kind of scoring, and among these of the nearest size."""
    alike = [one for one in measured if one.scored == scored] or measured
    return min(alike, key=lambda one: abs(one.size[0] * one.size[1] - size[0] * size[1]))
