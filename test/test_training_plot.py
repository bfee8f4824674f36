# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The curve of a training as picture, JSON and part of the model card."""

from __future__ import annotations

import json

import cv2
import pytest

from evict3r_ros.training import plot

ENTRIES = [
    {
        'minutes': minute,
        'done': minute / 4,
        'step': 10 * minute,
        'loss': 2 / minute,
        'loss_12': 2 / minute,
        **(
            {'absrel_12': 0.3, 'rotation_deg_12': 9.0, 'late_rotation_deg_12': 12.5, 'loss_64': 3 / minute}
            if minute > 1
            else {}
        ),
    }
    for minute in (1, 2, 3, 4)
]
SETTINGS = {
    'command': 'python -m x --out DIR',
    'seed': '3',
    'device_name': 'a card',
    'processes': '4',
    'torch': '2.11',
    'frames_a_step': '384',
    'learning_rate': '0.0016330',
    'lengths': '(12, 64)',
    'size': '(168, 224)',
}


@pytest.fixture
def curve(tmp_path):
    """Write what a training does."""
    path = tmp_path / 'curve.json'
    path.write_text(json.dumps({'calls': [SETTINGS], 'curve': ENTRIES}))
    return path


def test_picture_json_and_card(curve, tmp_path, capsys):
    card = tmp_path / 'card.md'
    card.write_text(f'before\n{plot._BEGIN}old\n{plot._END}after\n')
    for _ in range(2):
        assert plot.main([str(curve), '--out', str(tmp_path / 'training.png'), '--card', str(card)]) == 0
    assert cv2.imread(str(tmp_path / 'training.png')).std() > 10
    kept = json.loads((tmp_path / 'training.json').read_text())
    assert kept['curve'] == [
        {name: pytest.approx(value, rel=1e-4) for name, value in entry.items()} for entry in ENTRIES
    ]
    (settings,) = kept['calls']
    assert settings == SETTINGS
    table = plot.markdown(kept)
    assert card.read_text() == f'before\n{plot._BEGIN}{table}{plot._END}after\n' and table in capsys.readouterr().out
    for words in ('`python -m x --out DIR`', '4 x a card', '| frames a step | 1536 |', '12 and 64 frames', '| 40 |'):
        assert words in table


@pytest.fixture
def later(tmp_path):
    """Write what a training does that went on from the first one's weights, which say their calls."""
    path = tmp_path / 'later.json'
    calls = [SETTINGS, SETTINGS | {'command': 'python -m x --resume', 'processes': '2'}]
    path.write_text(
        json.dumps(
            {
                'calls': calls,
                'curve': [entry | {'step': entry['step'] + 40, 'minutes': entry['minutes'] + 4} for entry in ENTRIES],
            }
        )
    )
    return path


def test_a_training_that_went_on_from_weights_is_one_curve(curve, later, tmp_path, capsys):
    kept = tmp_path / 'training.json'
    assert plot.main([str(curve), '--out', str(kept.with_suffix('.png'))]) == 0
    assert plot.main([str(kept), str(later), '--out', str(kept.with_suffix('.png'))]) == 0
    joined = plot.read_curve(kept)
    assert [entry['step'] for entry in joined['curve']] == [10, 20, 30, 40, 50, 60, 70, 80]
    table = plot.markdown(joined)
    for words in (
        '`python -m x --out DIR`, then `python -m x --resume`',
        '| 4 x a card, then 2 x a card |',
        '| seed | 3 |',
        '| 1536, then 768 |',
        '| steps | 80 |',
    ):
        assert words in table
    again = plot.markdown(joined | {'calls': [*joined['calls'], joined['calls'][-1]]})
    assert ', then `python -m x --resume` (2 calls) |' in again and ', then 2 x a card |' in again
    before = kept.read_text()
    assert plot.main([str(kept), str(later), '--out', str(kept.with_suffix('.png'))]) == 2
    assert kept.read_text() == before and 'does not go on' in capsys.readouterr().err
    curve.write_text(curve.read_text().replace('"seed": "3"', '"seed": "4"'))
    assert plot.main([str(curve), str(later), '--out', str(kept.with_suffix('.png'))]) == 2
    assert kept.read_text() == before and 'of another training' in capsys.readouterr().err


@pytest.mark.parametrize(
    'content',
    [
        '',
        '[]',
        '{"settings": {}}',
        '{"settings": {}, "curve": []}',
        '{"curve": [{"a": 1}]}',
        '{"calls": [], "curve": [{"minutes": 1, "loss": 1, "step": 1, "done": 1}]}',
        '{"calls": [{}], "curve": [{"minutes": 1, "loss": 1, "step": 1, "done": 1}]}',
        json.dumps({'calls': [SETTINGS], 'curve': [{'minutes': 1, 'loss': 1, 'done': 1}]}),
        json.dumps({'calls': [SETTINGS, {'command': ''}], 'curve': ENTRIES}),
    ],
)
def test_what_is_no_curve_is_refused(content, tmp_path, capsys):
    (tmp_path / 'curve.json').write_text(content)
    assert plot.main([str(tmp_path / 'curve.json'), '--out', str(tmp_path / 'a.png')]) == 2
    assert 'no curve of a training' in capsys.readouterr().err and not (tmp_path / 'a.png').exists()


def test_a_card_without_marks_is_left_alone(curve, tmp_path, capsys):
    (tmp_path / 'card.md').write_text('mine')
    assert plot.main([str(curve), '--out', str(tmp_path / 'a.png'), '--card', str(tmp_path / 'card.md')]) == 2
    assert (tmp_path / 'card.md').read_text() == 'mine' and 'no place for it' in capsys.readouterr().err
    assert not (tmp_path / 'a.json').exists()


def test_a_place_that_is_not_there_is_told(curve, tmp_path, capsys):
    assert plot.main([str(curve), '--out', str(tmp_path / 'not there' / 'a.png')]) == 2
    assert 'could not be written' in capsys.readouterr().err
