# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Before the clock of a training starts: everything compiled and run once, and settings that fit the device."""

import sys

import torch

from evict3r_ros.errors import UserError
from evict3r_ros.training.batches import Lesson, make_batch
from evict3r_ros.training.pieces import PIECES, PieceFailed, is_out_of_memory

_FINE, _MEMORY = 0, len(PIECES) + 1


def warm_up(training) -> None:
    """
    Forward and backward for both lengths of clip, on all ranks at once; weights stay as they are.

    Where a compiled piece fails, it runs as written from then on; where memory does not suffice, frames a step are
    halved: with a warning, and on all ranks alike. Raises what went wrong where neither helps.
    """
    if not training.trainee.compiled and training.device.type != 'cuda':
        return
    args, ranks = training.args, training.ranks
    while True:
        outcome, reason = _try(training)
        if training.device.type == 'cuda':
            torch.cuda.empty_cache()
        worst = ranks.worst(outcome)
        if worst == _FINE:
            return
        reason = reason or 'at another rank'
        if worst == _MEMORY:
            if args.frames_a_step < 2 * args.lengths[1]:
                raise UserError(f'{args.frames_a_step} frames a step do not fit into the memory of {training.device}')
            args.frames_a_step //= 2
            told = f'out of memory; {args.frames_a_step} frames a step from now on'
        else:
            piece = PIECES[worst - 1]
            training.trainee.give_up(piece)
            told = f'{piece} cannot be compiled and runs as written, slower'
        print(f'warning: {told} ({reason})', file=sys.stderr, flush=True)


def _try(training) -> tuple[int, str]:
    """How it went, as a number, and what was wrong."""
    args, trainee = training.args, training.trainee
    outcome, reason = _FINE, ''
    try:
        for frames in args.lengths:
            batch = make_batch(Lesson(0, max(1, args.frames_a_step // frames), frames, (1, 2)), args.size)
            images, depth = trainee.look(batch, args.size)
            trainee.judge(trainee.answer(batch, images, depth, training.judged(frames)))['loss'].backward()
        if training.device.type == 'cuda':
            torch.cuda.synchronize()
    except PieceFailed as error:
        outcome, reason = PIECES.index(error.piece) + 1, _first_line(error.__cause__)
    except Exception as error:
        reason = _first_line(error)
        if is_out_of_memory(error):
            outcome = _MEMORY
        elif trainee.compiled:
            # In the backward pass nothing tells whose fault it is.
            outcome = next(number for number, piece in enumerate(PIECES, start=1) if piece in trainee.compiled)
        else:
            raise
    training.improver.forget_gradients()
    return outcome, reason


def _first_line(error: BaseException) -> str:
    return f'{type(error).__name__}: {(str(error).strip().splitlines() or [""])[0]}'
