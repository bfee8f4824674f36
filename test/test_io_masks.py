# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Masks of black, white and sky; the sky's networks are small real ONNX files run by onnxruntime."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from evict3r_ros.errors import UserError
from evict3r_ros.io.masks import SkyModel, black_pixels, white_pixels

onnx = pytest.importorskip('onnx', reason='writes the networks of these tests')
pytest.importorskip('onnxruntime')


def test_black_and_white_pixels():
    image = np.array([[[0, 0, 0], [5, 5, 5], [5, 5, 6], [255, 255, 255], [241, 241, 240], [241, 255, 241]]], np.uint8)
    assert black_pixels(image).tolist() == [[True, True, False, False, False, False]]
    assert white_pixels(image).tolist() == [[False, False, False, True, False, True]]


def save_blue_is_sky(path, size=('h', 'w'), weight=(0.0, 0.0, 5.0), bias=0.0, sigmoid=True, channels=1):
    """Write a 1 x 1 convolution: sky where the normalised blue is over 0."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.tile(np.array(weight, np.float32).reshape(1, 3, 1, 1), (channels, 1, 1, 1))
    nodes = [helper.make_node('Conv', ['image', 'weight', 'bias'], ['logit'])]
    if sigmoid:
        nodes.append(helper.make_node('Sigmoid', ['logit'], ['sky']))
    graph = helper.make_graph(
        nodes,
        'sky',
        [helper.make_tensor_value_info('image', kind, [1, 3, *size])],
        [helper.make_tensor_value_info(nodes[-1].output[0], kind, [1, channels, *size])],
        [
            onnx.numpy_helper.from_array(weights, 'weight'),
            onnx.numpy_helper.from_array(np.full(channels, bias, np.float32), 'bias'),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8), path)
    return path


@pytest.mark.parametrize('size', [('h', 'w'), (32, 48)])
@pytest.mark.parametrize('sigmoid', [True, False])
def test_the_sky_is_where_the_network_says(tmp_path, size, sigmoid):
    image = np.zeros((60, 80, 3), np.uint8)
    image[:20] = [90, 140, 250]
    image[20:] = [120, 100, 60]
    sky = SkyModel(save_blue_is_sky(tmp_path / 'sky.onnx', size, sigmoid=sigmoid))(image)
    assert sky.shape == (60, 80) and sky[:18].all() and not sky[22:].any()


def test_what_is_no_sky_network_is_told(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r'no such file.*neither contains nor downloads'):
        SkyModel(tmp_path / 'none.onnx')
    (tmp_path / 'text.onnx').write_text('hello')
    with pytest.raises(UserError, match='not an ONNX network'):
        SkyModel(tmp_path / 'text.onnx')
    with pytest.raises(UserError, match='expected one value per pixel'):
        SkyModel(save_blue_is_sky(tmp_path / 'two.onnx', channels=2))(np.zeros((60, 80, 3), np.uint8))
    path = save_blue_is_sky(tmp_path / 'sky.onnx')
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(UserError, match='pip install onnxruntime'):
        SkyModel(path)
