# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images and depth images as messages: every encoding, padded rows, both byte orders, and messages that lie."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip('sensor_msgs.msg', reason='ROS 2 is not installed here')

from ros_images import encode, mosaic, rows_message
from sensor_msgs.msg import CompressedImage

from evict3r_ros.camera.tone import SteadyTone
from evict3r_ros.errors import MessageError
from evict3r_ros.io.encodings import COLOUR_ENCODINGS, DEPTH_ENCODINGS
from evict3r_ros.ros.messages import conversions

# What keeps each pixel apart; bayer and yuv, which don't, are tested on their own.
WHOLE = [name for name in COLOUR_ENCODINGS if not name.startswith(('bayer', 'yuv', 'uyvy', 'yuyv', 'nv'))]
PLANAR = ['nv12', 'nv21', 'nv24']


def test_the_table_is_that_of_the_contract():
    wanted = {f'{name}{bits}' for name in ('rgb', 'bgr', 'rgba', 'bgra', 'mono') for bits in (8, 16)}
    wanted |= {f'bayer_{name}{bits}' for name in ('rggb', 'bggr', 'gbrg', 'grbg') for bits in (8, 16)}
    wanted |= {f'{bits}UC{channels}' for bits in (8, 16) for channels in (1, 3, 4)}
    assert set(COLOUR_ENCODINGS) == wanted | {'yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv', *PLANAR}


@settings(max_examples=200, deadline=None)
@given(
    encoding=st.sampled_from(WHOLE),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 5),
    big=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_encoding_comes_back_as_rgb(encoding, height, width, padding, big, seed):
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    wanted = rgb[..., :1].repeat(3, 2) if encoding.startswith('mono') or encoding.endswith('C1') else rgb
    message = encode(rgb, encoding, big, padding)
    answer = conversions.rgb_from_image(message)
    assert answer.dtype == np.uint8 and answer.flags.c_contiguous
    np.testing.assert_array_equal(answer, wanted)


@pytest.mark.parametrize('encoding', [name for name in COLOUR_ENCODINGS if name.startswith('bayer')])
@pytest.mark.parametrize(('big', 'padding'), [(False, 0), (True, 6)])
def test_bayer_finds_the_colours_that_the_filter_saw(encoding, big, padding):
    """Four flat quarters: but at their seams, each colour is what it was; another pattern would swap red and blue."""
    rgb = np.zeros((16, 20, 3), np.uint8)
    rgb[:8, :10], rgb[:8, 10:], rgb[8:, :10], rgb[8:, 10:] = (200, 30, 90), (10, 220, 60), (40, 80, 250), (90, 90, 90)
    answer = conversions.rgb_from_image(encode(rgb, encoding, big, padding))
    for rows in (slice(2, 6), slice(10, 14)):
        for columns in (slice(2, 8), slice(12, 18)):
            np.testing.assert_array_equal(answer[rows, columns], rgb[rows, columns])


@pytest.mark.parametrize('encoding', ['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv'])
@pytest.mark.parametrize('padding', [0, 3])
def test_yuv_in_both_orders(encoding, padding):
    rgb = np.random.default_rng(0).integers(0, 256, (8, 5, 3), np.uint8).repeat(2, axis=1)
    answer = conversions.rgb_from_image(encode(rgb, encoding, padding=padding))
    assert np.abs(answer.astype(int) - rgb).max() <= 3


@pytest.mark.parametrize('encoding', PLANAR)
@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('counts_colour', [False, True])
def test_colour_in_a_plane_of_its_own(encoding, padding, counts_colour):
    """The height is the picture's (sensor_msgs), or, from some drivers, that of both planes."""
    rgb = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8).repeat(2, axis=1).repeat(2, axis=0)
    message = encode(rgb, encoding, padding=padding)
    message.height = len(message.data) // message.step if counts_colour else message.height
    answer = conversions.rgb_from_image(message)
    assert answer.shape == rgb.shape and np.abs(answer.astype(int) - rgb).max() <= 3


@pytest.mark.parametrize('written', ['RGB8', 'Bgr8', 'MONO8', '8uc3', 'BAYER_RGGB8', ' bgr8 '])
def test_the_case_of_an_encoding_means_nothing(written):
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    name = written.upper() if written.startswith('8') else written.strip().lower()
    message, plain = encode(rgb, name), encode(rgb, name)
    message.encoding = written
    np.testing.assert_array_equal(conversions.rgb_from_image(message), conversions.rgb_from_image(plain))


@pytest.mark.parametrize('encoding', sorted(COLOUR_ENCODINGS))
@pytest.mark.parametrize('size', [(1, 2), (2, 2), (3, 4)])
def test_the_smallest_images_keep_their_size(encoding, size):
    if encoding in ('nv12', 'nv21') and size[0] % 2:
        message = rows_message(np.zeros(((3 * size[0] + 1) // 2, size[1]), np.uint8), encoding, size[1])
        message.height = size[0]
        with pytest.raises(MessageError, match='rows in pairs'):
            conversions.rgb_from_image(message)
        return
    assert conversions.rgb_from_image(encode(np.full((*size, 3), 9, np.uint8), encoding)).shape == (*size, 3)


@pytest.mark.parametrize('big', [False, True])
def test_mono16_respects_byte_order(big):
    message = rows_message(np.array([[0x12, 0x34]], np.uint8), 'mono16', 1, big)
    assert conversions.rgb_from_image(message)[0, 0, 0] == (0x12 if big else 0x34)


def test_big_endian_means_nothing_for_bytes():
    rgb = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(conversions.rgb_from_image(encode(rgb, 'bgr8', big=True)), rgb)


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'encoding': 'yuv999'}, "encoding 'yuv999'"),
        ({'encoding': ''}, "encoding ''"),
        ({'step': 11}, 'step of 11 bytes'),
        ({'step': 0}, 'step of 0 bytes'),
        ({'step': 13}, '39'),
        ({'height': 0}, 'empty'),
        ({'width': 0}, 'empty'),
        ({'width': 5}, 'step of 12 bytes'),
        ({'height': 4}, '48'),
        ({'data': b''}, '0 bytes of data'),
        ({'data': bytes(35)}, '35 bytes of data'),
        ({'encoding': 'yuyv', 'width': 5}, 'pixels in pairs'),
        ({'width': 2**31, 'height': 2**31, 'step': 2**32 - 1}, 'larger than'),
    ],
)
def test_messages_that_lie_are_refused(change, reason):
    message = encode(np.zeros((3, 4, 3), np.uint8), 'rgb8')
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(MessageError, match=reason):
        conversions.rgb_from_image(message)


@pytest.mark.parametrize(
    ('format_', 'extension', 'error'), [('png', '.png', 0), ('rgb8; jpeg compressed bgr8', '.jpg', 8)]
)
def test_compressed(format_, extension, error):
    y, x = np.mgrid[:48, :64]
    rgb = np.stack([y * 4, x * 3, (x + y) * 2], 2).astype(np.uint8)
    data = cv2.imencode(extension, rgb[..., ::-1])[1].tobytes()
    answer = conversions.rgb_from_compressed(CompressedImage(format=format_, data=data))
    assert answer.shape == rgb.shape and answer.dtype == np.uint8
    assert np.abs(answer.astype(int) - rgb).max() <= error


def test_compressed_grey_becomes_rgb():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    data = cv2.imencode('.png', grey)[1].tobytes()
    answer = conversions.rgb_from_compressed(CompressedImage(format='png', data=data))
    np.testing.assert_array_equal(answer, grey[..., None].repeat(3, 2))


@pytest.mark.parametrize('data', [b'', b'\x00', b'not an image at all', b'\xff\xd8\xff\xe0' + bytes(40)])
def test_corrupt_compressed_is_refused(data):
    with pytest.raises(MessageError, match='compressed image'):
        conversions.rgb_from_compressed(CompressedImage(format='jpeg', data=data))


@pytest.mark.parametrize('extension', ['.png', '.jpg'])
@pytest.mark.parametrize('part', [0.1, 0.5, 0.95])
def test_truncated_compressed_is_refused(extension, part):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = cv2.imencode(extension, noise)[1].tobytes()
    with pytest.raises(MessageError, match='compressed image'):
        conversions.rgb_from_compressed(CompressedImage(format='any', data=whole[: int(part * len(whole))]))


def test_jpeg_with_padding_behind_its_end_is_taken():
    data = cv2.imencode('.jpg', np.full((16, 16, 3), 90, np.uint8))[1].tobytes() + bytes(200)
    assert conversions.rgb_from_compressed(CompressedImage(format='jpeg', data=data)).shape == (16, 16, 3)


@pytest.mark.parametrize(('height', 'width'), [(65535, 65535), (30000, 30000), (8001, 8000)])
def test_a_jpeg_that_claims_to_be_huge_is_refused_before_memory_is_taken(height, width):
    data = bytearray(cv2.imencode('.jpg', np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    at = data.index(b'\xff\xc0')
    data[at + 5 : at + 9] = height.to_bytes(2, 'big') + width.to_bytes(2, 'big')
    with pytest.raises(MessageError, match='larger than'):
        conversions.rgb_from_compressed(CompressedImage(format='jpeg', data=bytes(data)))


def test_a_png_that_claims_to_be_huge_is_refused_before_memory_is_taken():
    data = bytearray(cv2.imencode('.png', np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    data[16:24] = (60_000).to_bytes(4, 'big') * 2
    with pytest.raises(MessageError, match='larger than'):
        conversions.rgb_from_compressed(CompressedImage(format='png', data=bytes(data)))


def test_a_png_whose_chunk_claims_a_gigabyte_is_refused_at_once():
    """OpenCV would take the memory, and seconds, before it finds that the bytes are not there."""
    data = bytearray(cv2.imencode('.png', np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    at = data.index(b'IDAT') - 4
    data[at : at + 4] = (2**30).to_bytes(4, 'big')
    with pytest.raises(MessageError, match=r'PNG. is truncated or corrupt'):
        conversions.rgb_from_compressed(CompressedImage(format='png', data=bytes(data)))


@pytest.mark.parametrize(
    ('written', 'start', 'name'),
    [
        ('16UC1; compressedDepth png', bytes(12) + b'\x89PNG\r\n\x1a\n', 'compressedDepth'),
        ('32FC1; compressedDepth rvl', bytes(12), 'compressedDepth'),
        ('theora', b'', 'Theora'),
        ('h264', b'\x00\x00\x00\x01\x67', r'H\.264'),
        ('', b'\x00\x00\x00\x01\x67', r'H\.264 or H\.265'),
        ('rgb8; hevc compressed', b'\x00', r'H\.265'),
        ('AV1', b'\x00', 'AV1'),
        ('ffmpeg', b'\x00', 'FFmpeg'),
        ('', b'\x28\xb5\x2f\xfd', 'zstd'),
        ('draco', b'DRACO', 'Draco'),
        ('rgb8; jxl compressed rgb8', b'\xff\x0a', 'JPEG XL'),
        ('', b'RIFF1234WEBP', 'WebP'),
        ('rgb8; tiff compressed', b'II*\x00', 'TIFF'),
        ('bmp', b'BM', 'BMP'),
        ('something else', b'\x01', "neither JPEG nor PNG .its format says 'something else'"),
    ],
)
def test_other_kinds_are_refused_by_their_name(written, start, name):
    with pytest.raises(MessageError, match=f'compressed image .* is {name}'):
        conversions.rgb_from_compressed(CompressedImage(format=written, data=start + bytes(30)))


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize(
    ('written', 'extension', 'bits', 'channels'),
    [
        ('bayer_{}8; jpeg compressed ', '.jpg', 8, 1),
        ('bayer_{}8; jpeg compressed bgr8', '.jpg', 8, 3),
        ('bayer_{}8; png compressed ', '.png', 8, 1),
        ('bayer_{}16; png compressed ', '.png', 16, 1),
    ],
)
def test_a_mosaic_inside_a_compressed_image_gets_its_colours(pattern, written, extension, bits, channels):
    """image_transport compresses what the sensor saw as one channel, and only its format says so."""
    rgb = np.zeros((32, 32, 3), np.uint8)
    rgb[...] = (200, 90, 30)
    sensor = mosaic(rgb, pattern) if bits == 8 else mosaic(rgb, pattern).astype(np.uint16) * 257
    stored = sensor if channels == 1 else sensor[..., None].repeat(3, 2)
    finest = [cv2.IMWRITE_JPEG_QUALITY, 100] if extension == '.jpg' else []
    data = cv2.imencode(extension, stored, finest)[1].tobytes()
    message = CompressedImage(format=written.format(pattern), data=data)
    answer = conversions.rgb_from_compressed(message)
    assert np.abs(answer[4:-4, 4:-4].astype(int) - rgb[4:-4, 4:-4]).max() <= 8


def test_a_mosaic_that_was_turned_into_colours_before_is_left_alone():
    y, x = np.mgrid[:48, :64]
    bgr = np.stack([y * 4, x * 3, (x + y) * 2], 2).astype(np.uint8)
    data = cv2.imencode('.png', bgr)[1].tobytes()
    answer = conversions.rgb_from_compressed(CompressedImage(format='bayer_rggb8; png compressed bgr8', data=data))
    np.testing.assert_array_equal(answer, bgr[..., ::-1])


def test_sixteen_bits_inside_a_png_are_kept_for_the_tone():
    """A thermal camera's 400 counts are one or two shades once each pixel has lost its lower 8 bits."""
    counts = np.linspace(7800, 8200, 64 * 64).reshape(64, 64).astype(np.uint16)
    message = CompressedImage(format='mono16; png compressed ', data=cv2.imencode('.png', counts)[1].tobytes())
    assert np.ptp(conversions.rgb_from_compressed(message)) <= 2
    assert np.ptp(conversions.rgb_from_compressed(message, SteadyTone())) > 200


def test_a_jpeg_is_not_turned_by_its_exif():
    """Orientation 6 says: turn by a quarter. camera_info and the cloud know nothing of that."""
    plain = cv2.imencode('.jpg', np.zeros((16, 32, 3), np.uint8))[1].tobytes()
    tiff = b'MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00'
    exif = b'Exif\x00\x00' + tiff
    data = plain[:2] + b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif + plain[2:]
    assert conversions.rgb_from_compressed(CompressedImage(format='jpeg', data=data)).shape == (16, 32, 3)


@pytest.mark.parametrize('encoding', sorted(DEPTH_ENCODINGS))
@pytest.mark.parametrize(('big', 'padding'), [(False, 0), (True, 0), (False, 6), (True, 4)])
def test_depth_is_metres_and_nan_where_it_says_nothing(encoding, big, padding):
    metres = np.array([[0.0, 0.5, 1.234], [2.0, 60.0, np.nan]], np.float32)
    order = '>' if big else '<'
    if encoding == '32FC1':
        stored = np.where(metres == 2.0, -1.0, metres).astype(order + 'f4')
        wanted = [[np.nan, 0.5, 1.234], [np.nan, 60.0, np.nan]]
    else:
        stored = np.nan_to_num(metres * 1000).round().astype(order + 'u2')
        wanted = [[np.nan, 0.5, 1.234], [2.0, 60.0, np.nan]]
    answer = conversions.depth_from_image(rows_message(stored.view(np.uint8), encoding, 3, big, padding))
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, np.array(wanted, np.float32), rtol=1e-6)


def test_a_colour_image_is_no_depth():
    with pytest.raises(MessageError, match="'rgb8' is not supported"):
        conversions.depth_from_image(encode(np.zeros((2, 2, 3), np.uint8), 'rgb8'))
