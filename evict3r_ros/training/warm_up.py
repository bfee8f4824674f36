# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Before the clock of a training starts: all compiled, run once and recorded, and settings that fit the device."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

from evict3r_ros.errors import UserError
from evict3r_ros.kernels.device_errors import is_out_of_memory
from evict3r_ros.training import schedule
from evict3r_ros.training.batches import BatchSpec, make_batch
from evict3r_ros.training.compiled import PARTS, RECORDING, PartFailed
from evict3r_ros.training.rendered_clips import RenderedClips
from evict3r_ros.training.trainer import Trainer

_FINE, _MEMORY = 0, len(PARTS) + 1


def warm_up(trainer: Trainer) -> None:
    """Run forward and backward for both lengths of clip, on all ranks at once; weights stay as they are.

    Where a part fails, it runs as written from then on; where memory does not suffice, frames a step are halved: with a
    warning, and on all ranks alike. Raises what went wrong where neither helps.
    """
    if not trainer.model.compiled and trainer.device.type != 'cuda':
        return
    args, ranks = trainer.args, trainer.ranks
    # What one rank has compiled, others of the same host find on the disk: they begin with different things.
    works = (_render, _forward_backward, _record) if ranks.rank % 2 else (_forward_backward, _render, _record)
    done = 0
    while done < len(works):
        outcome, reason = _try(trainer, works[done])
        worst = ranks.worst(outcome)
        if worst == _FINE:
            done += 1
            continue
        done = 0
        reason = reason or 'at another rank'
        if worst == _MEMORY:
            if args.frames_a_step < 2 * args.lengths[1]:
                raise UserError(f'{args.frames_a_step} frames a step do not fit into the memory of {trainer.device}')
            args.frames_a_step //= 2
            trainer.model.discard_recordings()
            told = f'out of memory; {args.frames_a_step} frames a step from now on'
        else:
            part = PARTS[worst - 1]
            trainer.model.disable(part)
            told = f'{part} does not work here; that part runs as written, slower'
        print(f'warning: {told} ({reason})', file=sys.stderr, flush=True)


def _random_clips(trainer: Trainer, frames: int) -> RenderedClips:
    clips = schedule.clips(trainer.args.frames_a_step, frames)
    return RenderedClips.random_clips(clips, frames, trainer.supervised(frames), trainer.args.size, trainer.device)


def _render(trainer: Trainer) -> None:
    for frames in trainer.args.lengths:
        clips = schedule.clips(trainer.args.frames_a_step, frames)
        batch = make_batch(BatchSpec(0, clips, frames, (1, 2), trainer.args.places), trainer.args.size, trainer.photos)
        trainer.model.render(batch, trainer.args.size, trainer.supervised(frames))


def _forward_backward(trainer: Trainer) -> None:
    for frames in trainer.args.lengths:
        trainer.model.forward_backward(_random_clips(trainer, frames))
        trainer.network.zero_grad()


def _record(trainer: Trainer) -> None:
    if RECORDING in trainer.model.compiled:
        for frames in trainer.args.lengths:
            trainer.model.record(_random_clips(trainer, frames))


def _try(trainer: Trainer, work: Callable[[Trainer], None]) -> tuple[int, str]:
    """Say how it went, as a number, and what was wrong."""
    outcome, reason = _FINE, ''
    try:
        work(trainer)
        if trainer.device.type == 'cuda':
            torch.cuda.synchronize()
    except PartFailed as error:
        outcome, reason = PARTS.index(error.part) + 1, _first_line(error.__cause__)
    except Exception as error:
        reason = _first_line(error)
        if is_out_of_memory(error):
            outcome = _MEMORY
        elif suspects := [part for part in PARTS if part in trainer.model.compiled - {RECORDING}]:
            # In the backward pass nothing tells whose fault it is.
            outcome = PARTS.index(suspects[0]) + 1
        else:
            raise
    trainer.network.zero_grad()
    if outcome != _FINE and trainer.device.type == 'cuda':
        torch.cuda.empty_cache()
    return outcome, reason


def _first_line(error: BaseException | None) -> str:
    return f'{type(error).__name__}: {(str(error).strip().splitlines() or [""])[0]}'
