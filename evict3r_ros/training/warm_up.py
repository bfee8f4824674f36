# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Before the clock of a training starts: everything compiled, run once and recorded, and settings that fit the device."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch

from evict3r_ros.errors import UserError
from evict3r_ros.training import schedule
from evict3r_ros.training.batches import Lesson, make_batch
from evict3r_ros.training.model import Seen
from evict3r_ros.training.pieces import PIECES, RECORDING, PieceFailed, is_out_of_memory

_FINE, _MEMORY = 0, len(PIECES) + 1


def warm_up(training) -> None:
    """Forward and backward for both lengths of clip, on all ranks at once; weights stay as they are.

    Where a piece fails, it runs as written from then on; where memory does not suffice, frames a step are halved: with a
    warning, and on all ranks alike. Raises what went wrong where neither helps.
    """
    if not training.trainee.compiled and training.device.type != 'cuda':
        return
    args, ranks = training.args, training.ranks
    # What one rank has compiled, others of the same host find on the disk: they begin with different things.
    works = (_look, _learn, _record) if ranks.rank % 2 else (_learn, _look, _record)
    done = 0
    while done < len(works):
        outcome, reason = _try(training, works[done])
        worst = ranks.worst(outcome)
        if worst == _FINE:
            done += 1
            continue
        done = 0
        reason = reason or 'at another rank'
        if worst == _MEMORY:
            if args.frames_a_step < 2 * args.lengths[1]:
                raise UserError(f'{args.frames_a_step} frames a step do not fit into the memory of {training.device}')
            args.frames_a_step //= 2
            training.trainee.forget_recordings()
            told = f'out of memory; {args.frames_a_step} frames a step from now on'
        else:
            piece = PIECES[worst - 1]
            training.trainee.give_up(piece)
            told = f'{piece} does not work here; that part runs as written, slower'
        print(f'warning: {told} ({reason})', file=sys.stderr, flush=True)


def _made_up(training, frames: int) -> Seen:
    clips = schedule.clips(training.args.frames_a_step, frames)
    return Seen.made_up(clips, frames, training.judged(frames), training.args.size, training.device)


def _look(training) -> None:
    for frames in training.args.lengths:
        clips = schedule.clips(training.args.frames_a_step, frames)
        batch = make_batch(Lesson(0, clips, frames, (1, 2)), training.args.size)
        training.trainee.look(batch, training.args.size, training.judged(frames))


def _learn(training) -> None:
    for frames in training.args.lengths:
        training.trainee.learn(_made_up(training, frames))
        training.network.zero_grad()


def _record(training) -> None:
    if RECORDING in training.trainee.compiled:
        for frames in training.args.lengths:
            training.trainee.record(_made_up(training, frames))


def _try(training, work: Callable[..., None]) -> tuple[int, str]:
    """How it went, as a number, and what was wrong."""
    outcome, reason = _FINE, ''
    try:
        work(training)
        if training.device.type == 'cuda':
            torch.cuda.synchronize()
    except PieceFailed as error:
        outcome, reason = PIECES.index(error.piece) + 1, _first_line(error.__cause__)
    except Exception as error:
        reason = _first_line(error)
        if is_out_of_memory(error):
            outcome = _MEMORY
        elif suspects := [piece for piece in PIECES if piece in training.trainee.compiled - {RECORDING}]:
            # In the backward pass nothing tells whose fault it is.
            outcome = PIECES.index(suspects[0]) + 1
        else:
            raise
    training.network.zero_grad()
    if outcome != _FINE and training.device.type == 'cuda':
        torch.cuda.empty_cache()
    return outcome, reason


def _first_line(error: BaseException) -> str:
    return f'{type(error).__name__}: {(str(error).strip().splitlines() or [""])[0]}'
