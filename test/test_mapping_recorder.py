# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which frames of a segmented stream become keyframes of a map."""

from __future__ import annotations

import numpy as np
import pytest
from test_mapping_segments import image_of, segmented, straight, winding

from evict3r_ros.errors import UserError
from evict3r_ros.mapping.map_file import MapFile
from evict3r_ros.mapping.recorder import MapRecorder


@pytest.fixture
def target(tmp_path):
    with MapFile(tmp_path / 'map.db', 'weights', write=True) as opened:
        yield opened


def record(path, recorder):
    stream = segmented(path)
    written = []
    for number in range(len(path)):
        stream.step(image_of(number))
        if recorder.observe(number, stream):
            written.append(number)
    return stream, written


def test_keyframes_lie_on_the_true_path_over_many_segments(target):
    path = winding(120)
    stream, written = record(path, MapRecorder(target, spacing=0.06))
    assert 30 < len(written) < 120 and target.summary().segments == stream.stats().segments > 3
    poses = list(target.poses())
    assert [stamp for stamp, _, _ in poses] == written
    np.testing.assert_allclose(np.stack([pose for _, _, pose in poses]), path[written], atol=1e-6)
    keyframe = list(target.keyframes())[-1]
    scale = dict(target.segments())[keyframe.segment].scale
    np.testing.assert_allclose(keyframe.depth.astype(float) * scale, 3.0, rtol=1e-3)


def test_standing_still_adds_nothing(target):
    _, written = record(straight(200, step=0.0), MapRecorder(target))
    assert written == [0]


def test_a_map_over_its_cap_is_thinned(target):
    record(straight(200), MapRecorder(target, spacing=0.01, most=20))
    assert target.summary().keyframes <= 22


def test_a_map_that_takes_nothing_is_told_once_and_does_not_stop_the_stream(target, caplog, monkeypatch):
    recorder = MapRecorder(target, spacing=0.01)

    def full(*_):
        raise UserError('map.db: database or disk is full')

    monkeypatch.setattr(target, 'add_keyframe', full)
    _, written = record(straight(50), recorder)
    assert written == [] and recorder.lost == 50
    assert sum('disk is full' in message for message in caplog.messages) == 1
    monkeypatch.undo()
    assert len(record(straight(50), recorder)[1]) > 5


@pytest.mark.parametrize(('spacing', 'most'), [(0.0, 10), (0.1, 1)])
def test_settings_that_cannot_work_are_refused(target, spacing, most):
    with pytest.raises(UserError):
        MapRecorder(target, spacing, most)
