# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Options for the cache that several commands share."""

from __future__ import annotations

import argparse

from evict3r_ros.cache.config import AUTO, CacheConfig, parse_bits

POLICY_HELP = f"eviction policy; '{AUTO}' is what was measured for the weights (default: %(default)s)"


def add_cache_options(parser: argparse.ArgumentParser, tokens: int, with_share: bool = False) -> None:
    """Add the options of one cache. tokens: default of --tokens. with_share: add --P, for a known number of frames."""
    group = parser.add_argument_group('cache')
    group.add_argument('--policy', default=CacheConfig.policy, help=POLICY_HELP)
    budget = group.add_mutually_exclusive_group()
    budget.add_argument(
        '--tokens',
        type=int,
        default=tokens,
        metavar='T',
        help='tokens per layer that are kept after each frame (default: %(default)s)',
    )
    budget.add_argument('--memory-mb', type=float, metavar='MIB', help='MiB of keys and values, instead of --tokens')
    if with_share:
        group.add_argument(
            '--P',
            type=float,
            metavar='SHARE',
            help="Evict3R's budget, instead of --tokens: a share in (0, 1] of all "
            'tokens of the input, so that memory depends on its length',
        )
    group.add_argument(
        '--temp',
        type=float,
        default=0.5,
        metavar='T',
        help='evict3r and infinitevggt: temperature of the '
        'softmax over layers; smaller gives more uneven budgets (default: %(default)s)',
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
        help='evict3r: attention of all queries, or of pooled ones (default: %(default)s)',
    )
    group.add_argument(
        '--budget',
        default='fixed',
        choices=('fixed', 'adaptive'),
        help='adaptive: attend to fewer tokens while the scene is still (default: %(default)s)',
    )
    group.add_argument(
        '--camera-frames',
        type=int,
        default=96,
        metavar='F',
        help='frames in the cache of the camera head (default: %(default)s)',
    )


def add_configuration_options(parser: argparse.ArgumentParser, budget: str, several: bool) -> None:
    """Add the options of an evaluation: cache and mapping of one configuration, or comma-separated lists to combine.

    several: lists, named ``--policies`` and ``--budgets`` instead of ``--policy`` and ``--budget``. budget: default.
    """
    group = parser.add_argument_group('cache, comma-separated lists' if several else 'cache')
    policy, budgets, metavar = ('--policies', '--budgets', 'A,B') if several else ('--policy', '--budget', 'A')
    example = 'uniform,evict3r:scores=pooled,ovggt:anchors=3' if several else 'evict3r:temperature=1.5'
    group.add_argument(
        policy,
        default=CacheConfig.policy,
        metavar=metavar,
        help=f"policy with settings after colons: {example}; '{AUTO}' is what was measured for the weights "
        '(default: %(default)s)',
    )
    group.add_argument(
        budgets,
        default=budget,
        metavar=metavar,
        help='tokens per layer, a share of all tokens of the '
        "stream (Evict3R's P), or bytes: 2500, 10%%, 12MiB (default: %(default)s)",
    )
    group.add_argument(
        '--bits', default='4', metavar=metavar, help='32, 16, 8, 4, 2 or mixed as 16/8/4 (default: %(default)s)'
    )
    group.add_argument(
        '--camera-frames',
        default='96',
        metavar=metavar,
        help="frames in the cache of the camera head: a number, a share, or 'all' (default: %(default)s)",
    )
    parser.add_argument(
        '--mapping',
        default='off',
        metavar=metavar,
        help="'off': one stream; 'odometry': streams that follow each other, chained, with settings behind colons: "
        'odometry:length=48:overlap=12'
        + ("; 'mapping': these, and loops closed (needs gtsam); a list with commas is compared" if several else '')
        + ' (default: %(default)s)',
    )


def cache_config(args: argparse.Namespace, frames: int | None = None) -> CacheConfig:
    """Return the settings of the options. frames: number of frames, for --P. Raises UserError for invalid settings."""
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
