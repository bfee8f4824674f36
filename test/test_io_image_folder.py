# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Image folders: what a good one gives, and what is said about each way one can be wrong."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from evict3r_ros.errors import UserError
from evict3r_ros.io.image_folder import CameraModel, Frame, read_camera_file, read_image_folder

CAMERA = """
image_width: 32
image_height: 24
camera_name: cam0
camera_matrix: {rows: 3, cols: 3, data: [30.0, 0.0, 16.0, 0.0, 30.0, 12.0, 0.0, 0.0, 1.0]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.28, 0.07, 0.0001, 1.7e-05, 0.0]}
T_base_link_camera: [0, 0, 1, 0.1, -1, 0, 0, 0.2, 0, -1, 0, 0.3, 0, 0, 0, 1]
"""
STAMPS = [1403638538577829376, 1403638538677829377]


@pytest.fixture
def folder(tmp_path):
    """Two frames, one colour and one grey, with ground truth."""
    (tmp_path / 'frames').mkdir()
    colour = np.zeros((24, 32, 3), dtype=np.uint8)
    colour[..., 0] = 200  # blue, as OpenCV writes it
    cv2.imwrite(str(tmp_path / 'frames/a.png'), colour)
    cv2.imwrite(str(tmp_path / 'frames/b.png'), np.full((24, 32), 77, dtype=np.uint8))
    (tmp_path / 'frames.csv').write_text(f'stamp_ns,file\n{STAMPS[0]},frames/a.png\n{STAMPS[1]},frames/b.png\n')
    (tmp_path / 'camera.yaml').write_text(CAMERA)
    (tmp_path / 'groundtruth_cam0.tum').write_text('1403638538.577829376 1 2 3 0 0 0 1\n')
    return tmp_path


def test_a_good_folder(folder):
    images = read_image_folder(folder)
    assert [frame.stamp_ns for frame in images.frames] == STAMPS and len(images) == 2
    colour, grey = (frame.read() for frame in images.frames)
    assert colour.shape == (24, 32, 3) and tuple(colour[0, 0]) == (0, 0, 200)
    assert grey.shape == (24, 32) and (grey == 77).all()
    assert images.ground_truth.stamps_ns.tolist() == STAMPS[:1]
    camera = images.camera
    assert (camera.name, camera.width, camera.height) == ('cam0', 32, 24)
    assert camera.K.tolist() == [[30, 0, 16], [0, 30, 12], [0, 0, 1]] and camera.D[0] == -0.28
    assert np.array_equal(camera.P, np.hstack([camera.K, np.zeros((3, 1))])) and np.array_equal(camera.R, np.eye(3))
    assert camera.base_from_camera[:3, 3].tolist() == [0.1, 0.2, 0.3]


def test_ground_truth_and_the_place_on_the_robot_are_optional(folder):
    (folder / 'groundtruth_cam0.tum').unlink()
    (folder / 'camera.yaml').write_text(CAMERA[: CAMERA.index('T_base')])
    images = read_image_folder(folder)
    assert images.ground_truth is None and images.camera.base_from_camera is None


def test_a_camera_without_distortion():
    camera = CameraModel.pinhole('camera', 32, 24, np.diag([30, 30, 1]))
    assert camera.distortion_model == 'plumb_bob' and not camera.D.any() and camera.P.shape == (3, 4)


@pytest.mark.parametrize('name', ['frames.csv', 'camera.yaml'])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=f'{name} missing'):
        read_image_folder(folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match='no such folder'):
        read_image_folder(tmp_path / 'nothing')


@pytest.mark.parametrize(
    'table, said',
    [
        ('', 'frames.csv:1: expected the header'),
        ('time,image\n', 'frames.csv:1: expected the header'),
        ('stamp_ns,file\n', 'names no frames'),
        ('stamp_ns,file\n1.5,a.png\n', 'frames.csv:2: expected stamp_ns,file'),
        ('stamp_ns,file\n5\n', 'frames.csv:2'),
        ('stamp_ns,file\n5,a.png\n5,b.png\n', 'frames.csv:3: stamp 5 is not after'),
        ('stamp_ns,file\n5,\n', 'frames.csv:2'),
    ],
)
def test_a_wrong_table_is_told_with_its_line(folder, table, said):
    (folder / 'frames.csv').write_text(table)
    with pytest.raises(UserError, match=said):
        read_image_folder(folder)


def test_a_binary_table_is_refused(folder):
    (folder / 'frames.csv').write_bytes(b'\x89PNG\xff\x00')
    with pytest.raises(UserError, match='not a text table'):
        read_image_folder(folder)


@pytest.mark.parametrize(
    'old, new, said',
    [
        ('image_width: 32', 'image_width: wide', 'image_width must be'),
        ('image_height: 24', '', 'image_height must be'),
        ('camera_matrix:', 'matrix:', 'camera_matrix is missing'),
        ('data: [30.0, 0.0,', 'data: [0.0,', 'must hold 9'),
        ('data: [30.0,', 'data: [-30.0,', 'must be positive'),
        ('data: [30.0,', 'data: [.nan,', 'not finite'),
        ('data: [30.0,', 'data: [x,', 'must hold numbers'),
        ('0, 0, 0, 1]', '0, 0, 0]', 'must hold 16'),
        ('[0, 0, 1, 0.1', '[0, 0, 2, 0.1', 'no rotation'),
        ('camera_name: cam0', 'camera_name: [', 'not YAML'),
    ],
)
def test_a_wrong_camera_file_is_told_with_its_key(folder, old, new, said):
    path = folder / 'camera.yaml'
    assert old in CAMERA
    path.write_text(CAMERA.replace(old, new))
    with pytest.raises(UserError, match=said) as refusal:
        read_camera_file(path)
    assert str(path) in str(refusal.value)


def test_a_camera_file_of_another_kind_is_refused(folder):
    (folder / 'camera.yaml').write_text('just words')
    with pytest.raises(UserError, match='expected a camera_info file'):
        read_camera_file(folder / 'camera.yaml')
    with pytest.raises(UserError, match='cannot be read'):
        read_camera_file(folder / 'none.yaml')


def test_images_are_refused_when_they_are_read(folder):
    images = read_image_folder(folder)
    path = images.frames[0].path
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match='not an image'):
        images.frames[0].read()
    path.unlink()
    with pytest.raises(UserError, match='no such image'):
        images.frames[0].read()


def test_images_of_16_bits_are_brought_to_8(folder):
    images = read_image_folder(folder)
    path = images.frames[1].path.with_suffix('.png')
    cv2.imwrite(str(path), np.full((24, 32), 65535 // 5, dtype=np.uint16))
    assert np.array_equal(Frame(0, path).read(), np.full((24, 32), 51, np.uint8))
