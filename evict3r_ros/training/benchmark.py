# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where a step's time goes."""

from __future__ import annotations

import time

import torch

from evict3r_ros.training import schedule
from evict3r_ros.training.batches import BatchSpec, make_batch
from evict3r_ros.training.trainer import Trainer
from evict3r_ros.training.warm_up import warm_up


def benchmark(trainer: Trainer, steps: int = 10) -> None:
    """Print it, for both lengths of clip."""

    def now() -> float:
        if trainer.device.type == 'cuda':
            torch.cuda.synchronize()
        return time.monotonic()

    start = now()
    warm_up(trainer)
    args, model = trainer.args, trainer.model
    trainer.say(
        f'ready in {now() - start:.1f} s: compiled or recorded {", ".join(sorted(model.compiled)) or "nothing"}'
    )
    for frames in args.lengths:
        start = time.monotonic()
        batch = make_batch(
            BatchSpec(1 + trainer.ranks.rank, schedule.clips(args.frames_a_step, frames), frames, (1, 4), args.places),
            args.size,
            trainer.photos,
        )
        drawn = time.monotonic() - start
        for _ in range(2):
            trainer.step(batch)
        parts = dict.fromkeys(('render', 'forward and backward', 'optimizers'), 0.0)
        for _ in range(steps):
            times = [now()]
            rendered = model.render(batch, args.size, trainer.supervised(frames))
            times.append(now())
            model.forward_backward(rendered)
            times.append(now())
            trainer.optimizer_step()
            times.append(now())
            parts = {name: total + b - a for (name, total), a, b in zip(parts.items(), times, times[1:], strict=False)}
        start = now()
        for _ in range(steps):
            trainer.step(batch)
        issued = (time.monotonic() - start) / steps
        whole = (now() - start) / steps
        shown = ', '.join(f'{name} {1000 * total / steps:.1f} ms' for name, total in parts.items())
        all_frames = batch.times.numel() * trainer.ranks.count
        trainer.say(
            f'{trainer.ranks.count} x {len(batch.times)} clips of {frames}: drawn in {drawn:.2f} s on the CPU; '
            f'{1000 * whole:.1f} ms a step ({all_frames / whole:.0f} frames/s; {1000 * issued:.1f} ms until the '
            f'CPU has asked for it all); {shown}'
        )
    if trainer.device.type == 'cuda':
        trainer.say(f'peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB')
