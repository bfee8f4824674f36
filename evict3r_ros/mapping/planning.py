# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the memory of a segmented stream goes: two streams that share the weights."""

from __future__ import annotations

from evict3r_ros.errors import UserError
from evict3r_ros.stream.planning import MIB, Plan, largest_tokens


def second_stream(planned: Plan) -> int:
    """Return the bytes that the second stream adds to the plan of one.

    The weights are there once. Activations come one stream after the other, but on CUDA each stream's recorded frame
    keeps its own.
    """
    recorded = planned.activations if planned.runtime else 0
    return planned.cache + planned.camera_cache + planned.bookkeeping + planned.scratch + planned.tables + recorded


def rows_of_both(planned: Plan) -> list[tuple[str, int, str]]:
    """Return the rows of a plan with the second stream before the total."""
    *parts, (what, total, _) = planned.rows()
    second = second_stream(planned)
    return [
        *parts,
        (
            'second stream',
            second,
            'all of the above but weights' + (' and runtime' if planned.runtime else ' and activations'),
        ),
        (what, total + second, ''),
    ]


def largest_tokens_of_both(planned: Plan, memory: int) -> int:
    """Return how many tokens a layer of each stream fit into ``memory`` bytes; 0 if not even a frame does."""
    # The memory that is left over, or lacking, is shared evenly.
    return largest_tokens(planned, planned.total + (memory - planned.total - second_stream(planned)) // 2)


def refuse_unless_both_fit(planned: Plan, memory: int) -> None:
    """Raise UserError, with the largest cache that fits, for two streams of more than ``memory`` bytes."""
    total = planned.total + second_stream(planned)
    if total > memory:
        raise UserError(
            f'{total / MIB:.0f} MiB are needed for two streams and the device has {memory / MIB:.0f}: the largest '
            f'cache that fits is {largest_tokens_of_both(planned, memory)} tokens a layer of each; one stream '
            '(--mapping off), fewer bits, a smaller image or half precision take less'
        )
