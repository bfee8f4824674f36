# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Draws how a training went, keeps its curve beside the picture, tells it to the model card: ``--help`` says how."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evict3r_ros.errors import UserError
from evict3r_ros.io.figures import new_figure, save
from evict3r_ros.training.schedule import learning_rate_factor, long_share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FIGURES = ('step', 'done', 'minutes', 'loss')
_SETTINGS = (
    'command',
    'seed',
    'device_name',
    'processes',
    'torch',
    'frames_a_step',
    'learning_rate',
    'lengths',
    'size',
)
_BEGIN, _END = '<!-- training: written by evict3r_ros.training.plot -->\n', '<!-- end of training -->\n'


def main(arguments: list[str] | None = None) -> int:
    """Run. Returns the exit code: 2 for an error that the user can mend."""
    parser = argparse.ArgumentParser(
        prog='python -m evict3r_ros.training.plot',
        description='Draws the curve of a training, and writes it as JSON beside the picture.',
    )
    parser.add_argument(
        'curves',
        nargs='+',
        type=Path,
        metavar='CURVE.json',
        help='what the training wrote; several, in order, where it went on from weights alone, which know of no curve',
    )
    parser.add_argument(
        '--out', type=Path, required=True, metavar='PNG', help='the picture; the curve goes to the same name with .json'
    )
    parser.add_argument(
        '--card', type=Path, metavar='MD', help='put the settings and the last figures between the marks in this file'
    )
    args = parser.parse_args(arguments)
    try:
        curve = join([read_curve(path) for path in args.curves])
        # Looked at first: once the curve is written, it may be what the next call would join.
        card = None if args.card is None else around_table(args.card)
        draw(curve, args.out)
        args.out.with_suffix('.json').write_text(as_text(curve), encoding='utf-8')
        if card is not None:
            args.card.write_text(markdown(curve).join(card), encoding='utf-8')
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(markdown(curve), end='')
    return 0


def read_curve(path: Path) -> dict[str, Any]:
    """Read ``calls``: the settings (text by name) of each; ``curve``: figures by name, a dict an entry.

    path: of what the training wrote, or of what this wrote beside a picture. Raises UserError for what is neither.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        curve, calls = content['curve'], content['calls']
        for name, those, needed in (('calls', calls, _SETTINGS), ('curve', curve, _FIGURES)):
            if not those or not all(key in one for one in those for key in needed):
                raise ValueError(f'{name}: one or more with {", ".join(needed)} expected')
        return {'calls': calls, 'curve': curve}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{path}: no curve of a training ({error})') from error


def join(curves: list[dict[str, Any]]) -> dict[str, Any]:
    """Join curves that go on from each other: each knows the calls before it, but not always their figures.

    Raises UserError where one does not go on from the one before it.
    """
    entries: list[dict[str, Any]] = []
    calls: list[dict[str, str]] = []
    for curve in curves:
        if entries and curve['curve'][0]['step'] <= entries[-1]['step']:
            raise UserError(
                f'a curve from step {curve["curve"][0]["step"]} on does not go on from one that ends at step '
                f'{entries[-1]["step"]}'
            )
        if curve['calls'][: len(calls)] != calls:
            raise UserError(
                f'a curve from step {curve["curve"][0]["step"]} on is of another training: its calls are not '
                'those of the one before it and more'
            )
        entries, calls = entries + curve['curve'], curve['calls']
    return {'calls': calls, 'curve': entries}


def as_text(curve: dict[str, Any]) -> str:
    """Format the curve as JSON, an entry a line, rounded to what can be told apart; null for what is no number."""

    def rounded(value: Any) -> Any:
        if not isinstance(value, float):
            return value
        return float(f'{value:.5g}') if math.isfinite(value) else None

    entries = ',\n'.join(
        json.dumps({name: rounded(value) for name, value in entry.items()}) for entry in curve['curve']
    )
    return f'{{"calls": {json.dumps(curve["calls"])},\n"curve": [\n{entries}\n]}}\n'


def draw(curve: dict[str, Any], path: Path) -> None:
    """Losses by length of clip, errors on held-out worlds, and the schedule, against minutes of training."""
    figure = new_figure(11, 7)
    axes = figure.subplots(2, 2)
    entries = curve['curve']

    def lines(axis: Axes, names: dict[str, str], marker: str | None = None) -> None:
        for name, label in names.items():
            points = [(entry['minutes'], entry[name]) for entry in entries if name in entry]
            if points:
                axis.plot(*zip(*points, strict=True), label=label, marker=marker)
        axis.legend()
        axis.grid(alpha=0.3)
        axis.set_xlabel('minutes of training')

    lengths = sorted({int(name.rsplit('_', 1)[1]) for entry in entries for name in entry if name.startswith('loss_')})
    lines(axes[0, 0], {f'loss_{frames}': f'loss, clips of {frames} frames' for frames in lengths})
    worlds = {'': 'rooms', 'places_': 'places'}
    absrel = {
        f'absrel_{family}{frames}': f'AbsRel, {name}, {frames} frames'
        for family, name in worlds.items()
        for frames in lengths
    }
    lines(axes[0, 1], absrel, marker='o')
    lines(
        axes[1, 0],
        {
            name: label
            for frames in lengths
            for name, label in (
                (f'rotation_deg_{frames}', f'rotation, rooms, {frames} frames, degrees'),
                (f'rotation_deg_places_{frames}', f'rotation, places, {frames} frames'),
                (f'late_rotation_deg_{frames}', f'the last eighth of {frames} frames'),
            )
        },
        marker='o',
    )
    axes[0, 0].set_yscale('log')
    schedule = axes[1, 1]
    minutes, done = [entry['minutes'] for entry in entries], [entry['done'] for entry in entries]
    schedule.plot(minutes, [learning_rate_factor(share) for share in done], label='learning rate, share of the highest')
    schedule.plot(minutes, [long_share(share) for share in done], label='share of steps on long clips')
    schedule.legend()
    schedule.grid(alpha=0.3)
    schedule.set_xlabel('minutes of training')
    axes[0, 0].set_title('training')
    axes[0, 1].set_title('held-out worlds, running mean of the weights')
    axes[1, 0].set_title('held-out worlds, running mean of the weights')
    schedule.set_title('schedule')
    save(figure, path)


def markdown(curve: dict[str, Any]) -> str:
    """Tell settings of the calls, where they differ one after the other, and last figures as a table."""
    calls, last = curve['calls'], curve['curve'][-1]

    def told(say: Callable[[dict[str, str]], str], again: str = '{}') -> str:
        groups = ((text, len(list(same))) for text, same in groupby(map(say, calls)))
        return ', then '.join(again.format(text, count) if count > 1 else text for text, count in groups)

    def device(settings: dict[str, str]) -> str:
        processes, name = int(settings['processes']), settings['device_name']
        return f'{processes} x {name}' if processes > 1 else name

    rows = [
        ('command', told(lambda of: f'`{of["command"]}`', '{} ({} calls)')),
        ('seed', told(lambda of: of['seed'])),
        ('device', told(device)),
        ('PyTorch', told(lambda of: of['torch'])),
        ('minutes of training, by the clock, compiling not included', f'{last["minutes"]:.1f}'),
        ('steps', str(last['step'])),
        ('frames a step', told(lambda of: str(int(of['processes']) * int(of['frames_a_step'])))),
        ('highest learning rate', told(lambda of: f'{float(of["learning_rate"]):.2g}')),
        ('clips', told(lambda of: ' and '.join(of['lengths'].strip('()').split(', ')) + ' frames')),
        ('images', told(lambda of: of['size'].strip('()').replace(', ', ' x ') + ' pixels')),
        ('loss at the end', f'{last["loss"]:.3g}'),
    ]
    lines = ['| | |', '|---|---|', *(f'| {name} | {value} |' for name, value in rows)]
    return '\n'.join(lines) + '\n'


def around_table(path: Path) -> tuple[str, str]:
    """Return what stands before and after the table in a model card. Raises UserError for a file without the marks."""
    text = path.read_text(encoding='utf-8') if path.is_file() else ''
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise UserError(f'{path}: no place for it: expected the lines {_BEGIN.strip()} and {_END.strip()}')
    return before + begin, end + after


if __name__ == '__main__':
    sys.exit(main())
