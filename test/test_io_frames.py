# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames from videos, folders, globs and cameras: which are chosen, how they are turned, what is refused."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evict3r_ros.errors import UserError
from evict3r_ros.io import camera_source
from evict3r_ros.io.frame_source import open_source
from evict3r_ros.io.frames import FramePicker, Selection
from evict3r_ros.io.video_decoding import StampClock
from evict3r_ros.io.video_file import VideoWriter

SIZE = (48, 64)


def picture(level):
    """Grey of a level, with a white mark in the upper left corner."""
    image = np.full((*SIZE, 3), level, dtype=np.uint8)
    image[:16, :16] = 255
    return image


def make_video(path, count=20, fps=10.0):
    with VideoWriter(path, fps, SIZE) as writer:
        for index in range(count):
            writer.write(picture(10 * index))
    return path


def levels(source):
    """Return the numbers of the frames, by their grey values."""
    return [round(float(frame.image[40, 50].mean()) / 10) for frame in source.frames()]


def stamps(source):
    return [frame.stamp_ns / 1e9 for frame in source.frames()]


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp('video') / 'clip.mp4')


@pytest.mark.parametrize(
    'selection, numbers',
    [
        (Selection(), range(20)),
        (Selection(interval_s=0.5), [0, 5, 10, 15]),
        (Selection(interval_s=0.25), [0, 3, 5, 8, 10, 13, 15, 18]),
        (Selection(start_s=1.0), range(10, 20)),
        (Selection(start_s=0.95, end_s=1.5), range(10, 16)),
        (Selection(count=3), [0, 1, 2]),
        (Selection(interval_s=0.5, start_s=0.3, count=2), [3, 8]),
    ],
)
def test_frames_of_a_video_are_chosen_by_time(video, selection, numbers):
    source = open_source(str(video), selection)
    assert levels(source) == list(numbers)
    assert stamps(source) == pytest.approx([number / 10 for number in numbers])
    assert source.exact_count() == len(list(numbers))
    assert source.expected() == pytest.approx(len(list(numbers)), abs=3) and not source.is_live


@settings(deadline=None, max_examples=50)
@given(st.floats(0.01, 2.0), st.lists(st.integers(1, 400_000_000), min_size=1, max_size=200))
def test_chosen_frames_lie_on_a_grid_that_does_not_drift(interval, gaps):
    picker, stamp, taken = FramePicker(Selection(interval_s=interval)), 0, []
    for gap in gaps:
        if picker.takes(stamp):
            taken.append(stamp)
        stamp += gap
    steps = [round((stamp + 1_000_000) // round(interval * 1e9)) for stamp in taken]
    assert len(set(steps)) == len(steps), 'two frames in one interval'
    assert taken[0] == 0


@pytest.mark.parametrize('degrees', [90, 180, 270])
def test_rotation_metadata_is_honoured(tmp_path, degrees):
    """The display matrix of a track is put in by hand, and OpenCV's own reader is the judge."""
    path = make_video(tmp_path / 'turned.mp4', count=2)
    content = path.read_bytes()
    unit = struct.pack('>9i', 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    one, cosine, sine = 1 << 16, round(np.cos(np.radians(degrees))), round(np.sin(np.radians(degrees)))
    turned = struct.pack('>9i', cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30)
    track = content.index(b'tkhd')
    place = content.index(unit, track)
    path.write_bytes(content[:place] + turned + content[place + len(unit) :])
    image = next(open_source(str(path), Selection()).frames()).image
    _, expected = cv2.VideoCapture(str(path)).read()
    assert image.shape == expected.shape == ((64, 48, 3) if degrees != 180 else (48, 64, 3))
    assert np.abs(image.astype(int) - cv2.cvtColor(expected, cv2.COLOR_BGR2RGB)).mean() < 4
    assert image[8, 8].mean() < 128, 'the mark has left the upper left corner'


def test_stamps_of_a_video_of_uneven_rate_are_the_containers(tmp_path):
    path = tmp_path / 'uneven.mp4'
    times_ms = [0, 40, 500, 510, 2000]
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=30)
        stream.height, stream.width, stream.pix_fmt = *SIZE, 'yuv420p'
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time_ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(picture(10 * number), format='rgb24')
            frame.pts, frame.time_base = time_ms, stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert stamps(open_source(str(path), Selection())) == pytest.approx([time / 1000 for time in times_ms], abs=1e-3)
    assert levels(open_source(str(path), Selection(interval_s=0.5))) == [0, 2, 4]


def write_images(folder, names):
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), picture(10 * number))


def test_a_folder_and_a_glob_in_natural_order(tmp_path):
    write_images(tmp_path / 'shots', ['a1.png', 'a2.png', 'a10.png'])
    (tmp_path / 'shots' / 'notes.txt').write_text('mine')
    for text in (str(tmp_path / 'shots'), str(tmp_path / 'shots' / '*.png'), str(tmp_path / '*' / 'a*')):
        source = open_source(text, Selection(), fps=2.0)
        assert [frame.name for frame in source.frames()] == ['a1.png', 'a2.png', 'a10.png']
        assert levels(source) == [0, 1, 2] and stamps(source) == [0.0, 0.5, 1.0]
    assert levels(open_source(str(tmp_path / 'shots'), Selection(interval_s=1.0), fps=2.0)) == [0, 2]
    assert levels(open_source(str(tmp_path / 'shots' / 'a2.png'), Selection())) == [1]


def test_grey_deep_and_turned_images_become_upright_rgb(tmp_path):
    folder = tmp_path / 'shots'
    folder.mkdir()
    cv2.imwrite(str(folder / '0.png'), picture(100)[..., 0])
    cv2.imwrite(str(folder / '1.png'), picture(100).astype(np.uint16) * 257)
    jpeg = cv2.imencode('.jpg', cv2.rotate(picture(100), cv2.ROTATE_90_COUNTERCLOCKWISE))[1].tobytes()
    # EXIF says: turn by 90 degrees clockwise (6) to see it upright.
    exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0'
    (folder / '2.jpg').write_bytes(jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + jpeg[2:])
    images = [frame.image for frame in open_source(str(folder), Selection()).frames()]
    for image in images:
        assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
        assert np.abs(image.astype(int) - picture(100)).mean() < 3


def test_a_folder_with_a_table_of_stamps_has_those(tmp_path):
    write_images(tmp_path / 'shots', ['x.png', 'y.png', 'z.png'])
    rows = ('stamp_ns,file', '5000000000,z.png', '5100000000,x.png', '7000000000,y.png')
    (tmp_path / 'shots' / 'frames.csv').write_text('\n'.join(rows) + '\n')
    source = open_source(str(tmp_path / 'shots'), Selection(interval_s=0.5))
    assert [frame.name for frame in source.frames()] == ['z.png', 'y.png'] and stamps(source) == [5.0, 7.0]


def test_a_camera_is_read_until_enough_has_come(monkeypatch):
    class Capture:
        def __init__(self, number):
            self.number, self.reads = number, 0

        def isOpened(self):
            return self.number == 0

        def set(self, *_):
            return True

        def grab(self):
            self.reads += 1
            return self.reads < 9

        def retrieve(self):
            return True, cv2.cvtColor(picture(10 * self.reads), cv2.COLOR_RGB2BGR)

        def release(self):
            self.released = True

    monkeypatch.setattr(camera_source.cv2, 'VideoCapture', Capture)
    source = open_source('0', Selection(count=3))
    assert source.is_live and source.expected() == 3 and levels(source) == [1, 2, 3]
    assert levels(open_source('0', Selection())) == list(range(1, 9))
    with pytest.raises(UserError, match='camera 5 cannot be opened'):
        list(open_source('5', Selection()).frames())
    with pytest.raises(UserError, match='number of frames of a camera is not known'):
        open_source('0', Selection()).exact_count()


def test_a_real_camera_that_is_not_there_is_told():
    with pytest.raises(UserError, match='camera 93 cannot be opened'):
        list(open_source('93', Selection()).frames())


def test_sizes_that_change_and_damaged_images_are_named(tmp_path):
    write_images(tmp_path / 'shots', ['0.png', '1.png'])
    cv2.imwrite(str(tmp_path / 'shots' / '2.png'), np.zeros((10, 20, 3), np.uint8))
    source = open_source(str(tmp_path / 'shots'), Selection())
    with pytest.raises(UserError, match=r'2\.png: 20 x 10 pixels, but 0\.png has 64 x 48'):
        list(source.frames())
    (tmp_path / 'shots' / '1.png').write_bytes((tmp_path / 'shots' / '1.png').read_bytes()[:40])
    with pytest.raises(UserError, match=r'1\.png: not an image'):
        list(source.frames())


@pytest.mark.parametrize('damage', [lambda data: data[: len(data) // 2], lambda data: b'', lambda data: b'hello' * 99])
def test_a_damaged_video_is_told(tmp_path, video, damage):
    path = tmp_path / 'damaged.mp4'
    path.write_bytes(damage(video.read_bytes()))
    with pytest.raises(UserError, match=r'damaged\.mp4: not a video that can be read'):
        open_source(str(path), Selection())


def test_what_cannot_be_decoded_is_passed_over_and_counted(tmp_path):
    path = tmp_path / 'damaged.mp4'
    rng = np.random.default_rng(0)
    with VideoWriter(path, 10.0, SIZE) as writer:
        for _ in range(40):
            writer.write(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    content = bytearray(path.read_bytes())
    begin = content.index(b'mdat') + 4
    middle = begin + (len(content) - begin) // 2
    content[middle : middle + 4000] = rng.integers(0, 256, 4000, dtype=np.uint8).tobytes()
    path.write_bytes(content)
    source = open_source(str(path), Selection())
    there = stamps(source)
    assert source.damaged > 0 and 20 <= len(there) < 40 and there == sorted(there)
    assert there[0] == 0.0 and there[-1] > 3.0, "the stamps are still the file's"
    content[begin:-2000] = bytes(len(content) - 2000 - begin)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'no frame can be decoded|not a video'):
        list(open_source(str(path), Selection()).frames())


def test_what_is_no_source_is_told(tmp_path, video):
    (tmp_path / 'empty').mkdir()
    for text, said in (
        (str(tmp_path / 'none.mp4'), 'no such video'),
        (str(tmp_path / 'empty'), 'no images there'),
        (str(tmp_path / '*.png'), 'no images there'),
    ):
        with pytest.raises(UserError, match=said):
            open_source(text, Selection())
    with pytest.raises(UserError, match='no frame in the time'):
        list(open_source(str(video), Selection(start_s=50.0)).frames())
    for wrong, said in (
        ({'interval_s': -1.0}, 'negative'),
        ({'start_s': 2.0, 'end_s': 1.0}, 'not after'),
        ({'count': 0}, 'nothing to do'),
    ):
        with pytest.raises(UserError, match=said):
            Selection(**wrong)
    with pytest.raises(UserError, match='cannot be'):
        open_source(str(tmp_path), Selection(), fps=0.0)


def write_film(path, form=None, count=30, rate=10, aspect=None, shift=0, rotation=0):
    with av.open(str(path), 'w', format=form) as container:
        stream = container.add_stream('libx264', rate=rate)
        stream.height, stream.width, stream.pix_fmt = *SIZE, 'yuv420p'
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(5 * (number + shift)), format='rgb24')
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(('fps', 'rate'), [(None, 10), (20.0, 20)])
@pytest.mark.parametrize(('name', 'form'), [('raw.h264', 'h264'), ('raw.264', 'h264')])
def test_a_raw_stream_without_stamps_has_the_rate_that_it_says_or_that_is_given(tmp_path, name, form, fps, rate):
    source = open_source(str(write_film(tmp_path / name, form)), Selection(), fps)
    assert stamps(source) == pytest.approx([number / rate for number in range(30)])
    (note,) = source.notes
    assert '30 frames have no stamps' in note and f'{rate} a second' in note
    assert len(stamps(open_source(str(tmp_path / name), Selection(interval_s=1.0), fps))) == 30 // rate + bool(
        30 % rate
    )


@pytest.mark.parametrize('parts', [2, 3])
def test_streams_put_one_behind_the_other_go_on(tmp_path, parts):
    """The stamps of a transport stream begin anew with each part."""
    files = [write_film(tmp_path / f'{part}.ts', 'mpegts', shift=part).read_bytes() for part in range(parts)]
    (tmp_path / 'all.ts').write_bytes(b''.join(files))
    source = open_source(str(tmp_path / 'all.ts'), Selection())
    assert stamps(source) == pytest.approx([number / 10 for number in range(30 * parts)], abs=1e-4)
    assert f'went back {parts - 1} times' in source.notes[0]
    assert len(stamps(open_source(str(tmp_path / 'all.ts'), Selection(interval_s=0.5)))) == 6 * parts
    assert open_source(str(tmp_path / '0.ts'), Selection()).exact_count() == 30


def test_stamps_rise_whatever_the_container_says():
    def stamped(times):
        clock = StampClock(10.0)
        return [clock.stamp(SimpleNamespace(pts=pts, time_base=Fraction(1, 10))) for pts in times], clock

    second = 10**9
    assert stamped([5, 6, 8, 0, 1, 3])[0] == [
        0,
        second // 10,
        3 * second // 10,
        second // 2,
        6 * second // 10,
        8 * second // 10,
    ]
    assert stamped([None, None, 7, 8])[0] == [0, second // 10, 7 * second // 10, 8 * second // 10]
    found, clock = stamped([3, 3, 3, None, 4])
    assert found == sorted(set(found)) and clock.unstamped == 1


@pytest.mark.parametrize(
    ('aspect', 'rotation', 'shape'),
    [
        (Fraction(4, 3), 0, (48, 85)),
        (Fraction(1, 2), 0, (96, 64)),
        (Fraction(4, 3), 90, (85, 48)),
        (Fraction(100, 1), 0, (48, 64)),
    ],
)
def test_pixels_become_square_before_the_image_is_turned(tmp_path, aspect, rotation, shape):
    path = write_film(tmp_path / 'wide.mp4', count=2, aspect=aspect, rotation=rotation)
    image = next(open_source(str(path), Selection()).frames()).image
    assert image.shape == (*shape, 3)
    share = (image.mean(axis=2) > 200).mean()
    assert share == pytest.approx(16 * 16 / (48 * 64), rel=0.15), 'the white mark keeps its share of the image'


def test_hidden_files_are_none_of_the_images(tmp_path):
    write_images(tmp_path, ['0001.jpg', '0002.jpg'])
    for name in ('._0001.jpg', '._0002.jpg', '.thumb.png'):
        (tmp_path / name).write_bytes(bytes.fromhex('00051607') + bytes(150))
    (tmp_path / '.DS_Store').write_bytes(b'\0\0\0\1Bud1')
    for text in (str(tmp_path), str(tmp_path / '*.jpg')):
        assert [frame.name for frame in open_source(text, Selection()).frames()] == ['0001.jpg', '0002.jpg']


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_what_is_transparent_becomes_white(tmp_path, dtype):
    """A fully transparent pixel shows white whatever colour lies below, half a one shows half of each."""
    full = np.iinfo(dtype).max
    image = np.zeros((*SIZE, 4), dtype)
    image[..., 2], image[:, 32:, 3], image[:, 16:32, 3] = full, full, full // 2
    cv2.imwrite(str(tmp_path / '0.png'), image)
    found = next(open_source(str(tmp_path), Selection()).frames()).image
    assert found[0, 0].tolist() == [255, 255, 255] and found[0, 40].tolist() == [255, 0, 0]
    np.testing.assert_allclose(found[0, 20], [255, 128, 128], atol=1)


def test_a_stream_from_the_network_is_read_while_it_lasts(tmp_path):
    """A transport stream over TCP, told at the pace of its reader."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    film = write_film(tmp_path / 'film.ts', 'mpegts').read_bytes()
    listening = threading.Event()

    def serve():
        with socket.create_server(('127.0.0.1', port)) as server:
            listening.set()
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(film)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    assert listening.wait(10)
    source = open_source(f'tcp://127.0.0.1:{port}', Selection(count=30))
    found = list(source.frames())
    server.join(10)
    times = [frame.stamp_ns for frame in found]
    assert found and found[0].image.shape == (*SIZE, 3) and times == sorted(set(times))
    assert source.is_live and source.identity()['stream'].startswith('tcp://')
    assert open_source('rtsp://127.0.0.1/none', Selection()).expected() is None


def test_an_address_that_does_not_answer_is_told(tmp_path):
    with socket.socket() as closed:
        closed.bind(('127.0.0.1', 0))
        port = closed.getsockname()[1]
    for scheme in ('rtsp', 'http'):
        with pytest.raises(UserError, match=f'{scheme}://127.0.0.1:{port}/x: cannot be opened: Connection refused'):
            list(open_source(f'{scheme}://127.0.0.1:{port}/x', Selection()).frames())


@pytest.mark.parametrize('place', ['/dev/video93', '/dev/null'])
def test_a_device_that_is_no_camera_is_told(place):
    source = open_source(place, Selection())
    assert source.is_live
    with pytest.raises(UserError, match=f'camera {place} cannot be opened'):
        list(source.frames())


def test_stamps_that_are_rounded_or_out_of_order_do_not_slow_down_time():
    clock = StampClock(30.0)
    times = [0, 33, 33, 67, 100, 67, 133, 133, 133, 167]
    found = [clock.stamp(SimpleNamespace(pts=pts, time_base=Fraction(1, 1000))) / 1e6 for pts in times]
    assert found == sorted(set(found)) and clock.restarts == 0
    assert found[0] == 0 and found[3] == 67 and found[6] == 133 and found[-1] == 167


@pytest.mark.parametrize('colours', [1, 3])
def test_images_of_a_sensor_of_ten_to_fourteen_bits_are_stretched(tmp_path, colours):
    """All of a thermal camera lies within a few hundred counts; the whole range of 16 bits would be nearly black."""
    for index in range(3):
        counts = picture(20 * index).astype(np.uint16)
        counts = 7000 + 2 * counts[..., 0] if colours == 1 else 16 * counts
        cv2.imwrite(str(tmp_path / f'{index}.png'), counts)
    for frame in open_source(str(tmp_path), Selection()).frames():
        assert frame.image.dtype == np.uint8 and frame.image.std() > 20
