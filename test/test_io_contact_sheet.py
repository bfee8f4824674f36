# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Contact sheets: where things are drawn, what colours mean, and that UNTRAINED cannot be overlooked."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from evict3r_ros.errors import UserError
from evict3r_ros.io.contact_sheet import CELL_WIDTH, SheetRow, colour_map, draw_contact_sheet, write_contact_sheet

RED = np.array([30, 30, 200])


def rows(count=2, confidence=True):
    ramp = np.linspace(1, 5, 40 * 60).reshape(40, 60).astype(np.float32)
    grey = np.linspace(0, 255, 80 * 120).reshape(80, 120).astype(np.uint8)
    return [
        SheetRow(f'frame {index}', grey if index % 2 else np.dstack([grey] * 3), ramp, ramp if confidence else None)
        for index in range(count)
    ]


def test_the_file_is_a_picture_of_all_rows(tmp_path):
    write_contact_sheet(tmp_path / 'sheet.png', rows(3), ['a title'], untrained=False)
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    assert np.array_equal(sheet, draw_contact_sheet(rows(3), ['a title'], untrained=False))
    assert sheet.shape[1] > 3 * CELL_WIDTH
    assert sheet.shape[0] > 3 * CELL_WIDTH * 40 // 60
    for column in range(3):
        cell = sheet[60:200, 8 + column * (CELL_WIDTH + 8) :][:, :CELL_WIDTH]
        assert cell.std() > 20, f'column {column} is empty'


def test_untrained_is_said_in_red_and_big():
    plain, warned = (draw_contact_sheet(rows(), [], untrained=untrained) for untrained in (False, True))
    banner = warned[: warned.shape[0] - plain.shape[0]]
    assert np.array_equal(warned[len(banner) :], plain)
    assert len(banner) >= 60 and (banner == RED).all(axis=-1).mean() > 0.6
    assert ((banner == 255).all(axis=-1)).any(axis=1).sum() > 30  # letters over 30 pixels high
    assert not (plain == RED).all(axis=-1).any()


def test_hot_is_near_and_grey_is_invalid():
    values = np.array([[1.0, 5.0, np.nan, np.inf]])
    near, far, *invalid = colour_map(values, 1.0, 5.0, near_is_hot=True)[0].astype(int)
    assert near[2] > near[0] + 50, 'near should be red (BGR)'
    assert far[2] < far[0] + 50, 'far should not be'
    assert np.array_equal(colour_map(values, 1.0, 5.0, near_is_hot=False)[0][:2], [far, near])
    assert all(len(set(colour)) == 1 for colour in invalid)


def test_maps_without_a_valid_or_a_second_value_can_be_drawn():
    flat, nothing = np.ones((4, 6), dtype=np.float32), np.full((4, 6), np.nan, dtype=np.float32)
    image = np.zeros((4, 6), dtype=np.uint8)
    sheet = draw_contact_sheet([SheetRow('', image, flat, nothing), SheetRow('', image, nothing)], ['x' * 500], True)
    assert sheet.dtype == np.uint8


def test_no_rows_no_sheet():
    with pytest.raises(ValueError, match='at least one row'):
        draw_contact_sheet([], [], untrained=False)


def test_a_sheet_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(UserError, match='could not be written'):
        write_contact_sheet(tmp_path / 'no' / 'folder' / 'sheet.png', rows(), [], untrained=False)
