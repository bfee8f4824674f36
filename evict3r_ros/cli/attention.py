# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r attention`: plots of what the global blocks attend to, and of what the cache keeps."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from evict3r_ros.cli.options.cache import add_cache_options, cache_config
from evict3r_ros.cli.options.inputs import add_input_options, selection
from evict3r_ros.cli.options.network import add_network_options, load
from evict3r_ros.cli.output import print_notes
from evict3r_ros.errors import UserError

FRAMES = 32
_ARRAYS, _FRAMES, _KEPT = 'attention.npz', 'frames.png', 'kept.png'
_EVICTIONS, _MEAN = 'evictions.png', 'tokens_mean.png'


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        'attention',
        help='attention maps by layer, and what the cache keeps of each frame',
        description='Runs some frames through the network and draws, for chosen layers, attention between tokens (mean '
        'over heads, each row divided by its maximum) and between frames; and, for all layers, which patches of '
        'each frame are kept to the end and when the others are evicted. Works for any policy.',
    )
    parser.add_argument(
        '--out', type=Path, default=Path('out_attention'), metavar='FOLDER', help='output folder (default: %(default)s)'
    )
    parser.add_argument(
        '--layers',
        type=_layers,
        metavar='L',
        help="such as 0,5,11, or 'all' (default: the first, the middle and the last)",
    )
    parser.add_argument(
        '--pixels',
        type=int,
        default=1000,
        metavar='N',
        help='most pixels on a side of a token map; with more '
        'tokens, a pixel is the mean of several (default: %(default)s)',
    )
    add_input_options(parser, FRAMES)
    add_network_options(parser)
    add_cache_options(parser, tokens=8192, with_share=True)
    parser.set_defaults(run=run)


def _layers(text: str) -> list[int] | str:
    if text == 'all':
        return text
    try:
        return [int(part) for part in text.split(',')]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: give numbers such as 0,5,11, or 'all'") from error


def run(args: argparse.Namespace) -> int:
    """Record and draw. Raises UserError for wrong input."""
    import numpy as np
    from tqdm import tqdm

    from evict3r_ros.evaluation.attention import plots as attention_plots
    from evict3r_ros.evaluation.attention.maps import record
    from evict3r_ros.io.frame_source import open_source
    from evict3r_ros.io.run_folder import RunFolder
    from evict3r_ros.stream.default_policy import with_policy

    if not 50 <= args.pixels <= 10_000:
        raise UserError(f'--pixels {args.pixels}: give 50 to 10000')
    source = open_source(args.input, selection(args), args.input_fps)
    frames = source.exact_count()
    network = load(args)
    config = with_policy(cache_config(args, frames), network.preset.name, network.measured_policy)
    count = network.preset.pairs
    layers = args.layers if isinstance(args.layers, list) else list(range(count))
    if args.layers is None:
        layers = sorted({0, count // 2, count - 1})
    of_layer = {layer: f'tokens_layer_{layer:02d}.png' for layer in range(count)}
    folder = RunFolder(args.out, 'evict3r attention', (*of_layer.values(), _MEAN, _FRAMES, _KEPT, _EVICTIONS, _ARRAYS))
    folder.check()
    with tqdm(total=frames, unit='frame', disable=None) as bar:
        images = (frame.image for frame in source.frames())
        maps = record(network, config, images, frames, layers, args.image_width, args.pixels, bar.update)
    print_notes(source.notes)
    folder.prepare()
    title = (
        f'{args.input}, {len(maps.images)} frames; preset {network.preset.name}, policy {config.policy}'
        + (f', P {args.P:g}' if args.P is not None else f', {config.tokens} tokens per layer')
        + f', {args.bits} bits'
    )
    shown = f'{"UNTRAINED; " if network.untrained else ""}{title}'
    for layer, values in zip(maps.layers, maps.tokens, strict=True):
        attention_plots.plot_tokens(folder.file(of_layer[layer]), values, maps, f'layer {layer}; {shown}')
    with np.errstate(invalid='ignore'):
        there = np.isfinite(maps.tokens)
        mean = np.where(there, maps.tokens, 0.0).sum(axis=0) / np.where(there.any(axis=0), there.sum(axis=0), np.nan)
    names = ', '.join(map(str, layers))
    attention_plots.plot_tokens(folder.file(_MEAN), mean, maps, f'mean of layers {names}; {shown}')
    attention_plots.plot_frames(folder.file(_FRAMES), maps, shown)
    for name, draw in ((_KEPT, attention_plots.draw_kept), (_EVICTIONS, attention_plots.draw_evictions)):
        attention_plots.write_picture(folder.file(name), draw(maps, title, network.untrained))
    np.savez_compressed(
        folder.file(_ARRAYS),
        layers=np.array(maps.layers),
        frames=maps.frames,
        tokens=maps.tokens,
        tokens_per_pixel=maps.tokens_per_pixel,
        kept=maps.kept,
        patches=np.array(maps.patches),
        special_tokens=maps.special_tokens,
    )
    print(f'written to {folder.path}/: {", ".join(folder.sizes())}')
    return 0
