# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The options about the cache that several commands share."""

from __future__ import annotations

import argparse

from evict3r_ros.cache.config import CacheConfig, parse_bits


def add_cache_options(parser: argparse.ArgumentParser, tokens: int, of_a_sequence: bool = False) -> None:
    """Add them; ``tokens`` is the default budget. of_a_sequence: the command knows how many frames come: --P too."""
    group = parser.add_argument_group('cache')
    group.add_argument(
        '--policy', default=CacheConfig.policy, help='who stays when the cache is full (default: %(default)s)'
    )
    budget = group.add_mutually_exclusive_group()
    budget.add_argument(
        '--tokens',
        type=int,
        default=tokens,
        metavar='T',
        help='tokens a layer that survive a frame (default: %(default)s)',
    )
    budget.add_argument('--memory-mb', type=float, metavar='MIB', help='MiB of keys and values, instead of --tokens')
    if of_a_sequence:
        group.add_argument(
            '--P',
            type=float,
            metavar='SHARE',
            help="Evict3R's budget, instead of --tokens: a share, "
            'in (0, 1], of all tokens of the whole input; more memory the longer that is',
        )
    group.add_argument(
        '--temp',
        type=float,
        default=0.5,
        metavar='T',
        help='evict3r and infinitevggt: how strongly a '
        "layer's share follows its statistics; smaller is stronger (default: %(default)s)",
    )
    group.add_argument(
        '--bits',
        default='4',
        metavar='B',
        help='stored precision: 32, 16, 8, 4, 2, or mixed as PINNED/RECENT/REST, such as 16/8/4 (default: %(default)s)',
    )
    group.add_argument(
        '--scores',
        default='exact',
        choices=('exact', 'pooled'),
        help='evict3r: whose attention counts (default: %(default)s)',
    )
    group.add_argument(
        '--budget',
        default='fixed',
        choices=('fixed', 'adaptive'),
        help='whether a still scene attends to less (default: %(default)s)',
    )
    group.add_argument(
        '--camera-frames',
        type=int,
        default=96,
        metavar='F',
        help='frames that the camera head remembers (default: %(default)s)',
    )


def add_configuration_options(parser: argparse.ArgumentParser, budget: str, several: bool) -> None:
    """Those of evaluations, which say in the same words one configuration of the cache or, ``several``, lists with commas
    that are combined: ``--policies`` and ``--budgets`` instead of ``--policy`` and ``--budget``. budget: the default.
    """
    group = parser.add_argument_group('cache, each a list with commas' if several else 'cache')
    policy, budgets, metavar = ('--policies', '--budgets', 'A,B') if several else ('--policy', '--budget', 'A')
    example = 'uniform,evict3r:scores=pooled,ovggt:anchors=3' if several else 'evict3r:temperature=1.5'
    group.add_argument(
        policy,
        default=CacheConfig.policy,
        metavar=metavar,
        help=f'with more settings behind colons: {example} (default: %(default)s)',
    )
    group.add_argument(
        budgets,
        default=budget,
        metavar=metavar,
        help='tokens a layer, a share of all tokens of the '
        "stream (Evict3R's P), or bytes: 2500, 10%%, 12MiB (default: %(default)s)",
    )
    group.add_argument(
        '--bits', default='4', metavar=metavar, help='32, 16, 8, 4, 2 or mixed as 16/8/4 (default: %(default)s)'
    )
    group.add_argument(
        '--camera-frames',
        default='96',
        metavar=metavar,
        help="frames that the camera head remembers: a number, a share, or 'all' (default: %(default)s)",
    )


def cache_config(args: argparse.Namespace, frames: int | None = None) -> CacheConfig:
    """The settings that the options say; frames: how many will come, for --P. Raises UserError for those that cannot be."""
    share = getattr(args, 'P', None)
    return CacheConfig(
        args.policy,
        args.tokens,
        memory_mb=args.memory_mb,
        share=share,
        sequence_length=frames if share is not None else None,
        bits=parse_bits(args.bits),
        temperature=args.temp,
        scores=args.scores,
        budget=args.budget,
        camera_frames=args.camera_frames,
    )
