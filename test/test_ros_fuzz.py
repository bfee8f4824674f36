# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""10 000 mutated messages of each type that is subscribed to: each is converted, or refused with MessageError."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest

pytest.importorskip('sensor_msgs.msg', reason='ROS 2 is not installed here')

from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from ros_images import HEADER, encode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from evict3r_ros.camera.rectify import Rectifier
from evict3r_ros.errors import MessageError
from evict3r_ros.io.encodings import COLOUR_ENCODINGS, DEPTH_ENCODINGS
from evict3r_ros.ros.messages import conversions
from evict3r_ros.ros.perception.transforms import StaticTransforms

COUNT = 10_000
NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-300, 1e300, -1e300, math.nan, math.inf, -math.inf, 0.7071)
SIZES = (0, 1, 2, 3, 7, 8, 640, 4096, 65_535, 2**31 - 1, 2**31, 2**32 - 1)
WORDS = (
    '',
    '/',
    'rgb8',
    'RGB8',
    'rgb8 ',
    '32FC1',
    '16UC1',
    'mono16',
    'yuyv',
    'bayer_',
    'nv21',
    'jpeg',
    'plumb_bob',
    'equidistant',
    'rational_polynomial',
    'thin_prism',
    '\x00',
    'ü' * 50,
    'x' * 10_000,
)


def pick(random: np.random.Generator, values: tuple) -> object:
    return values[random.integers(len(values))]


def mutated_bytes(random: np.random.Generator, data: bytes) -> bytes:
    """Return the bytes cut, lengthened, with bits or whole stretches changed, or as they are."""
    kind, data = random.integers(6), bytearray(data)
    at = int(random.integers(len(data) + 1))
    if kind == 0:
        del data[at:]
    elif kind == 1:
        data += random.integers(0, 256, int(random.integers(1, 40)), np.uint8).tobytes()
    elif kind == 2:
        for _ in range(random.integers(1, 6)):
            data[random.integers(len(data))] ^= 1 << int(random.integers(8))
    elif kind == 3:
        data[at : at + 8] = random.integers(0, 256, min(8, len(data) - at), np.uint8).tobytes()
    elif kind == 4:
        data[:40] = random.integers(0, 256, min(40, len(data)), np.uint8).tobytes()
    return bytes(data)


def mutated_image(random: np.random.Generator, encodings: list[str]) -> Image:
    """Return an image of some small size of which none to three things are wrong."""
    encoding = encodings[random.integers(len(encodings))]
    height, width = int(random.integers(1, 9)), 2 * int(random.integers(1, 5))
    if encoding in COLOUR_ENCODINGS:
        height += height % 2 if encoding.startswith('nv') else 0
        rgb = random.integers(0, 256, (height, width, 3), np.uint8)
        message = encode(rgb, encoding, padding=int(random.integers(4)))
    else:
        step = width * DEPTH_ENCODINGS[encoding].channels * int(encoding[:2]) // 8
        message = Image(header=HEADER, height=height, width=width, encoding=encoding, step=step)
        message.data.frombytes(random.bytes(height * step))
    for _ in range(random.integers(4)):
        what = random.integers(6)
        if what == 0:
            message.height = pick(random, SIZES)
        elif what == 1:
            message.width = pick(random, SIZES)
        elif what == 2:
            message.step = pick(random, SIZES)
        elif what == 3:
            message.encoding = pick(random, WORDS)
        elif what == 4:
            message.is_bigendian = int(random.integers(256))
        elif message.data:
            message.data = mutated_bytes(random, bytes(message.data))
    return message


def survive(make: Callable[[np.random.Generator], object], convert: Callable[[object], None]) -> tuple[int, int]:
    """Convert so many messages; returns how many were converted and refused. Any other error fails the test."""
    random, refused = np.random.default_rng(0), 0
    for _ in range(COUNT):
        message = make(random)
        try:
            convert(message)
        except MessageError as error:
            refused += 1
            assert str(error)
    return COUNT - refused, refused


def test_images():
    def convert(message: Image) -> None:
        rgb = conversions.rgb_from_image(message)
        heights = (message.height, message.height * 2 / 3, message.height / 3)  # nv12 and nv24 may count both planes
        assert rgb.shape[0] in heights[: 3 if message.encoding.startswith('nv') else 1]
        assert rgb.shape[1:] == (message.width, 3) and rgb.dtype == np.uint8

    converted, refused = survive(lambda random: mutated_image(random, list(COLOUR_ENCODINGS)), convert)
    assert converted > 2000 and refused > 2000


def test_depth_images():
    def convert(message: Image) -> None:
        depth = conversions.depth_from_image(message)
        assert depth.shape == (message.height, message.width) and depth.dtype == np.float32
        assert not (depth <= 0.0).any()

    converted, refused = survive(lambda random: mutated_image(random, list(DEPTH_ENCODINGS)), convert)
    assert converted > 2000 and refused > 2000


def test_compressed_images():
    picture = np.random.default_rng(5).integers(0, 256, (12, 16, 3), np.uint8)
    wholes = [
        cv2.imencode(extension, image)[1].tobytes()
        for extension in ('.jpg', '.png')
        for image in (picture, picture[..., 0], picture.astype(np.uint16) * 257)
        if extension == '.png' or image.dtype == np.uint8
    ]

    def make(random: np.random.Generator) -> CompressedImage:
        data = mutated_bytes(random, wholes[random.integers(len(wholes))])
        return CompressedImage(header=HEADER, format=pick(random, WORDS), data=data)

    def convert(message: CompressedImage) -> None:
        rgb = conversions.rgb_from_compressed(message)
        assert rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.dtype == np.uint8

    converted, refused = survive(make, convert)
    assert converted > 2000 and refused > 2000


def test_camera_infos():
    size = (6, 8)

    def make(random: np.random.Generator) -> CameraInfo:
        message = CameraInfo(
            header=HEADER,
            height=size[0],
            width=size[1],
            distortion_model='plumb_bob',
            d=[0.1] * 5,
            k=[7.0, 0, 4, 0, 7, 3, 0, 0, 1],
            p=[7.0, 0, 4, 0, 0, 7, 3, 0, 0, 0, 1, 0],
        )
        for _ in range(random.integers(4)):
            what = random.integers(5)
            if what == 0:
                message.k[random.integers(9)] = pick(random, NUMBERS)
            elif what == 1:
                message.p[random.integers(12)] = pick(random, NUMBERS)
            elif what == 2:
                count = int(random.integers(20)) if random.random() < 0.99 else 100_000
                message.d = [pick(random, NUMBERS)] * count
            elif what == 3:
                message.distortion_model = pick(random, WORDS)
            else:
                message.height, message.width = pick(random, SIZES), pick(random, SIZES)
        return message

    def convert(message: CameraInfo) -> None:
        calibration = conversions.calibration_from_info(message)
        if calibration is None or calibration.size != size:  # another than the image's is not used
            return
        assert calibration == conversions.calibration_from_info(message), 'else each one would begin a stream'
        try:
            rectifier = Rectifier(calibration)
        except ValueError as error:
            raise MessageError(str(error)) from error
        assert rectifier(np.zeros((*size, 3), np.uint8)).shape == (*size, 3)
        assert calibration.pixels_apart(calibration) == 0.0

    converted, refused = survive(make, convert)
    # Only a K that is none is refused: what is wrong with D or P costs those alone.
    assert converted > 2000 and refused > 1000


def spoil_pose(random: np.random.Generator, position: object, orientation: object) -> None:
    for _ in range(random.integers(3)):
        part, names = ((position, 'xyz'), (orientation, 'xyzw'))[random.integers(2)]
        setattr(part, names[random.integers(len(names))], pick(random, NUMBERS))


def check_rigid(matrix: np.ndarray) -> None:
    assert np.isfinite(matrix).all()
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-9)


def test_odometry():
    def make(random: np.random.Generator) -> Odometry:
        message = Odometry(header=HEADER)
        spoil_pose(random, message.pose.pose.position, message.pose.pose.orientation)
        return message

    converted, refused = survive(make, lambda message: check_rigid(conversions.pose_from_odometry(message)))
    assert converted > 2000 and refused > 2000


def test_static_transforms():
    transforms = StaticTransforms()

    def make(random: np.random.Generator) -> TransformStamped:
        message = TransformStamped(header=HEADER, child_frame_id='camera')
        spoil_pose(random, message.transform.translation, message.transform.rotation)
        if random.random() < 0.2:
            message.child_frame_id = pick(random, WORDS)
        if random.random() < 0.2:
            message.header.frame_id = pick(random, WORDS)
        return message

    def convert(message: TransformStamped) -> None:
        refused = transforms.update([message])
        if refused:
            raise MessageError(refused[0])
        found = transforms.find(message.header.frame_id, message.child_frame_id)
        check_rigid(found)

    converted, refused = survive(make, convert)
    assert converted > 2000 and refused > 2000
