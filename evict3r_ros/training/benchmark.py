# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where a step's time goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from evict3r_ros.training import schedule
from evict3r_ros.training.batches import BatchSpec, make_batch
from evict3r_ros.training.warm_up import warm_up

if TYPE_CHECKING:
    from evict3r_ros.training.train import Training


def benchmark(training: Training, steps: int = 10) -> None:
    """Print it, for both lengths of clip."""

    def now() -> float:
        if training.device.type == 'cuda':
            torch.cuda.synchronize()
        return time.monotonic()

    start = now()
    warm_up(training)
    args, model = training.args, training.model
    training.say(
        f'ready in {now() - start:.1f} s: compiled or recorded {", ".join(sorted(model.compiled)) or "nothing"}'
    )
    for frames in args.lengths:
        start = time.monotonic()
        batch = make_batch(
            BatchSpec(1 + training.ranks.rank, schedule.clips(args.frames_a_step, frames), frames, (1, 4), args.places),
            args.size,
            training.photos,
        )
        drawn = time.monotonic() - start
        for _ in range(2):
            training.step(batch)
        parts = dict.fromkeys(('render', 'forward and backward', 'optimizers'), 0.0)
        for _ in range(steps):
            times = [now()]
            rendered = model.render(batch, args.size, training.supervised(frames))
            times.append(now())
            model.forward_backward(rendered)
            times.append(now())
            training.optimizer_step()
            times.append(now())
            parts = {name: total + b - a for (name, total), a, b in zip(parts.items(), times, times[1:], strict=False)}
        start = now()
        for _ in range(steps):
            training.step(batch)
        issued = (time.monotonic() - start) / steps
        whole = (now() - start) / steps
        shown = ', '.join(f'{name} {1000 * total / steps:.1f} ms' for name, total in parts.items())
        all_frames = batch.times.numel() * training.ranks.count
        training.say(
            f'{training.ranks.count} x {len(batch.times)} clips of {frames}: drawn in {drawn:.2f} s on the CPU; '
            f'{1000 * whole:.1f} ms a step ({all_frames / whole:.0f} frames/s; {1000 * issued:.1f} ms until the '
            f'CPU has asked for it all); {shown}'
        )
    if training.device.type == 'cuda':
        training.say(f'peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB')
