# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What becomes of one image after another, with the real network and without DDS: when the stream begins anew."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

from evict3r_ros.msg import StreamStatus
from nav_msgs.msg import Odometry
from ros_bench import NEVER, SIZE, START_NS, STEP_NS, Bench, info, pose
from ros_robot import image_message, map_of, points_of, scene
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from evict3r_ros import geometry
from evict3r_ros.io.scene_record import SceneRecord
from evict3r_ros.network import load_network
from evict3r_ros.ros.messages.conversions import transform_from_pose
from evict3r_ros.ros.perception.camera_model import names_rectified_images
from evict3r_ros.ros.perception.faults import FrameRefused
from evict3r_ros.ros.perception.scale_inputs import ScaleInputs
from evict3r_ros.ros.settings import parameters


@pytest.fixture(scope='module')
def network():
    return load_network('random', preset='small')


@pytest.fixture
def bench(network):
    return Bench(network)


def test_a_cloud_is_made_only_for_those_who_listen(bench):
    bench.wanted.clear()
    assert bench.see(0).points is None
    bench.wanted.add('points')
    assert bench.see(1).points is not None


def test_all_answers_carry_the_stamp_of_the_image(bench):
    answer = bench.see(0)
    header = image_message(scene(0), START_NS).header
    for message in (answer.depth, answer.confidence, answer.info, answer.points):
        assert message.header == header
    assert answer.odometry.header.stamp == answer.transform.header.stamp == header.stamp
    assert bench.perception.camera_frame == 'cam0' and bench.told == []


@pytest.mark.parametrize('at', ['network', 'camera'])
def test_calibration_decides_about_the_camera_matrix_and_the_cloud(network, at):
    bench = Bench(network, depth_size=at)
    bench.perception.camera.on_camera_info(info())
    answer = bench.see(0)
    K = np.reshape(answer.info.k, (3, 3))
    scale = answer.info.width / SIZE[1]
    np.testing.assert_allclose(K[0, 0], 70.0 * scale, rtol=1e-9)
    np.testing.assert_allclose(K[0, 2], 40.0 * scale + (scale - 1) / 2, rtol=1e-9)
    xyz, _ = points_of(answer.points)
    z = map_of(answer.depth)
    v, u = 3, 7
    np.testing.assert_allclose(xyz[v, u], z[v, u] * (np.linalg.inv(K) @ [u, v, 1]), rtol=1e-5)


def test_a_cloud_with_a_stride_has_every_nth_point(network):
    dense, sparse = (Bench(network, points_stride=stride).see(0) for stride in (1, 3))
    np.testing.assert_allclose(points_of(sparse.points)[0], points_of(dense.points)[0][::3, ::3], rtol=1e-5)
    np.testing.assert_array_equal(points_of(sparse.points)[1], points_of(dense.points)[1][::3, ::3])


@pytest.mark.parametrize('at', ['network', 'camera'])
def test_what_the_camera_did_not_see_has_no_depth(network, at):
    """A wide camera matrix for the rectified image leaves black corners, and a network answers for those as well."""
    bench = Bench(network, depth_size=at)
    message = info(D=(-0.3, 0.1, 0.0, 0.0, 0.0))
    message.p = [40.0, 0.0, 40.0, 0.0, 0.0, 40.0, 30.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    bench.perception.camera.on_camera_info(message)
    z = map_of(bench.see(0).depth)
    assert np.isnan(z[0, 0]) and np.isnan(z[-1, -1]) and np.isfinite(z[z.shape[0] // 2, z.shape[1] // 2])


@pytest.mark.parametrize(
    ('message', 'reason'), [(info((30, 40)), 'for 40 x 30 pixels'), (info(focal=-3.0), 'not a camera matrix')]
)
def test_a_calibration_of_no_use_is_told_once_and_left_out(bench, message, reason):
    bench.perception.camera.on_camera_info(message)
    for i in range(3):
        bench.perception.camera.on_camera_info(message)
        bench.see(i)
    assert len(bench.told) == 1 and reason in bench.told[0]
    assert bench.perception.resets == 0


def test_a_calibration_that_is_no_number_is_told_once_and_begins_no_stream(bench):
    for i in range(3):
        bench.perception.camera.on_camera_info(info(focal=float('nan')))
        bench.see(i)
    assert bench.told == ['camera_info is not used: camera_info has a K of numbers that are not finite']
    assert bench.perception.resets == 0


def test_a_calibration_that_comes_late_begins_a_stream(bench):
    first = bench.see(0)
    bench.perception.camera.on_camera_info(info())
    second = bench.see(1)
    assert bench.perception.resets == 1 and bench.stream.stats().frames == 1
    assert first.info.k[0] != second.info.k[0]
    bench.perception.camera.on_camera_info(info())
    bench.see(2)
    assert bench.perception.resets == 1


def test_a_focus_that_breathes_moves_the_matrix_and_keeps_the_stream(bench):
    focal = []
    for i in range(8):
        bench.perception.camera.on_camera_info(info(focal=70.0 + 0.05 * i))
        answer = bench.see(i)
        focal.append(answer.info.k[0] * SIZE[1] / answer.info.width)
    assert bench.perception.resets == 0 and bench.stream.stats().frames == 8
    assert len(bench.told) == 1 and 'autofocus' in bench.told[0]
    np.testing.assert_allclose(focal, 70.0 + 0.05 * np.arange(8), atol=0.12)


def test_noise_in_the_calibration_is_none_of_the_streams_business(bench):
    for i in range(4):
        bench.perception.camera.on_camera_info(info(focal=70.0 + 1e-9 * (i % 2)))
        bench.see(i)
    assert bench.perception.resets == 0 and bench.told == []


def test_a_focus_that_hunts_begins_no_stream(bench):
    for i in range(10):
        bench.perception.camera.on_camera_info(info(focal=70.0 * (1.03 if i % 2 else 1.0)))
        bench.see(i)
    assert bench.perception.resets == 0 and bench.stream.stats().frames == 10


def test_another_lens_begins_one_stream(bench):
    for i in range(10):
        bench.perception.camera.on_camera_info(info(focal=70.0 if i < 3 else 90.0))
        answer = bench.see(i)
    assert bench.perception.resets == 1
    assert answer.info.k[0] == pytest.approx(90.0 * answer.info.width / SIZE[1])


def test_a_zoom_begins_a_stream_however_slow_it_is(bench):
    for i in range(20):
        bench.perception.camera.on_camera_info(info(focal=70.0 + 0.2 * i))
        bench.see(i)
    assert 1 <= bench.perception.resets <= 5
    assert bench.faults.last == 'stream reset: the calibration in camera_info changed'


@pytest.mark.parametrize(
    ('name', 'D', 'reason'),
    [
        ('double_sphere', (0.1, 0.2), "'double_sphere' is not known"),
        ('plumb_bob', (float('nan'),) * 5, 'no numbers'),
        ('plumb_bob', (0.1, 0.05, 0.001), '3 coefficients of plumb_bob'),
    ],
)
def test_the_camera_matrix_is_used_whatever_the_distortion_says(bench, name, D, reason):
    message = info(D=D)
    message.distortion_model = name
    bench.perception.camera.on_camera_info(message)
    answer = bench.see(0)
    np.testing.assert_allclose(answer.info.k[0], 70.0 * answer.info.width / SIZE[1])
    assert len(bench.told) == 1 and reason in bench.told[0]


@pytest.mark.parametrize('P', [(1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0, 0), (35.0, 0, 20, 0, 0, 35, 15, 0, 0, 0, 1, 0)])
def test_a_projection_matrix_of_something_else_is_told_and_left_out(bench, P):
    message = info()
    message.p = [float(value) for value in P]
    bench.perception.camera.on_camera_info(message)
    answer = bench.see(0)
    np.testing.assert_allclose(answer.info.k[0], 70.0 * answer.info.width / SIZE[1])
    assert np.isfinite(map_of(answer.depth)).all()
    assert len(bench.told) == 1 and 'K is used instead' in bench.told[0]


@pytest.mark.parametrize(
    ('topic', 'rectified'),
    [
        ('/camera/image_rect', True),
        ('/left/image_rect_color', True),
        ('/zed/zed_node/rgb/color/rect/image', True),
        ('/cam/rectified/image/compressed', True),
        ('/camera/infra1/image_rect_raw', True),
        ('/camera/image_undistorted', True),
        ('/rectify_node/image', False),
        ('/camera/image_raw', False),
        ('/direct/image', False),
        ('/unrectified/image', False),
    ],
)
def test_a_topics_name_says_whether_images_are_rectified(topic, rectified):
    assert names_rectified_images(topic) == rectified


@pytest.mark.parametrize(('setting', 'topic'), [('auto', '/left/image_rect'), ('true', '/image')])
def test_a_rectified_image_is_not_rectified_again(network, setting, topic):
    bench = Bench(network, image_topic=topic, image_rectified=setting, depth_size='camera')
    message = info(D=(-0.3, 0.1, 0.0, 0.0, 0.0))
    message.p = [60.0, 0.0, 40.0, 0.0, 0.0, 60.0, 30.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    bench.perception.camera.on_camera_info(message)
    answer = bench.see(0)
    assert answer.info.k[0] == 60.0 and bench.told == []
    np.testing.assert_array_equal(points_of(answer.points)[1], scene(0, SIZE))


@pytest.mark.parametrize(
    ('window', 'focal', 'centre'),
    [
        ({'binning_x': 2, 'binning_y': 2}, 70.0, 40.25),
        ({'roi': RegionOfInterest(x_offset=50, y_offset=20, width=SIZE[1], height=SIZE[0])}, 140.0, 31.0),
        (
            {
                'binning_x': 2,
                'binning_y': 2,
                'roi': RegionOfInterest(x_offset=2, y_offset=4, width=2 * SIZE[1], height=2 * SIZE[0]),
            },
            70.0,
            39.25,
        ),
        ({'binning_x': 2, 'binning_y': 2, 'width': SIZE[1], 'height': SIZE[0]}, 140.0, 81.0),
    ],
)
def test_binning_and_region_of_interest_shift_the_camera_matrix(network, window, focal, centre):
    """REP-104: K is the whole sensor's; (81 + 0.5) / 2 - 0.5 = 40.25. Last, a driver that says the size it sends."""
    bench = Bench(network, depth_size='camera')
    whole = {'height': 2 * SIZE[0] + 10, 'width': 2 * SIZE[1] + 10} if 'roi' in window else {}
    sizes = whole or {'height': 2 * SIZE[0], 'width': 2 * SIZE[1]}
    K = [140.0, 0.0, 81.0, 0.0, 140.0, 61.0, 0.0, 0.0, 1.0]
    bench.perception.camera.on_camera_info(CameraInfo(**{**sizes, 'k': K, **window}))
    answer = bench.see(0)
    assert (answer.info.k[0], answer.info.k[2]) == (focal, centre) and bench.told == []


def test_the_first_image_waits_for_camera_info_that_is_published(network):
    bench = Bench(network, expects_info=True, startup_timeout=20.0)
    threading.Timer(0.2, bench.perception.camera.on_camera_info, (info(),)).start()
    answer = bench.see(0)
    assert bench.perception.resets == 0
    np.testing.assert_allclose(answer.info.k[0], 70.0 * answer.info.width / SIZE[1])


def test_a_stop_ends_the_waiting(network):
    bench, stop = Bench(network, startup_timeout=60.0), threading.Event()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(InterruptedError):
        bench.perception.process(image_message(scene(0, SIZE), START_NS, 'elsewhere'), stop)
    assert bench.told == []


def test_another_size_begins_a_stream_and_odom_goes_on(bench):
    bench.see(0)
    last = bench.see(1)
    new = bench.see(2, size=(80, 60))
    assert bench.perception.resets == 1 and 'images are now 60 x 80' in bench.told[0]
    np.testing.assert_allclose(pose(new), pose(last), atol=1e-9)
    assert bench.stream.stats().frames == 1


def test_a_clock_that_is_set_back_begins_a_stream_at_the_origin(bench):
    for i in range(3):
        bench.see(i)
    assert bench.perception.tracking_state == StreamStatus.TRACKING
    back_ns = START_NS - 30 * 10**9
    for i in (3, 4):
        assert bench.refuse(i, stamp_ns=back_ns + i * STEP_NS) == 'bad_stamp'
    assert bench.refuse(5, stamp_ns=back_ns + 5 * STEP_NS, pixels=np.zeros((*SIZE, 3), np.uint8)) == 'blank_image'
    assert bench.perception.coast(bench.moment) is None, 'the pose of before is not said in the new time'
    again = bench.see(6, stamp_ns=back_ns + 6 * STEP_NS)
    assert bench.perception.resets == 1 and 'clock' in bench.told[0]
    np.testing.assert_allclose(pose(again), np.eye(4), atol=1e-9)
    bench.see(7, stamp_ns=back_ns + 7 * STEP_NS)
    assert bench.perception.resets == 1


@pytest.mark.parametrize('off_s', [3600, -5])
def test_one_wrong_stamp_costs_its_image_only(network, tmp_path, off_s):
    record = SceneRecord(tmp_path, 10_000)
    bench = Bench(network, record=record)
    for i in range(3):
        before = bench.see(i)
    assert bench.refuse(3, stamp_ns=START_NS + 3 * STEP_NS + off_s * 10**9) == 'bad_stamp'
    after = bench.see(4)
    assert not np.allclose(pose(after), np.eye(4), atol=1e-9)
    assert np.trace(after.state.pose_covariance) > np.trace(before.state.pose_covariance)
    assert bench.perception.resets == 0 and bench.stream.stats().frames == 4 and record.save().poses == 4


def test_a_clock_set_forward_leaves_stream_odometry_and_record(network, tmp_path):
    """An answer that fails in between does not let the odometry hear of it twice."""
    bench, steady = (Bench(network, record=SceneRecord(tmp_path / name, 10_000)) for name in 'ab')
    for i in range(3):
        bench.see(i)
        steady.see(i)
    ahead_ns = START_NS + 3600 * 10**9
    for i in (3, 4):
        assert bench.refuse(i, stamp_ns=ahead_ns + i * STEP_NS) == 'bad_stamp'
    hook = bench.stream.network.camera_head.register_forward_pre_hook(lambda *_: 1 / 0)
    assert bench.refuse(5, stamp_ns=ahead_ns + 5 * STEP_NS) == 'network_failed'
    hook.remove()
    bench.see(6, stamp_ns=ahead_ns + 6 * STEP_NS)
    moved = bench.see(7, stamp_ns=ahead_ns + 7 * STEP_NS)
    steady.perception.stamps.admit(START_NS + 3 * STEP_NS, START_NS + 3 * STEP_NS)
    steady.perception.ask_for_reset()  # the frame that failed begins a stream
    steady.see(6)
    expected = steady.see(7)
    np.testing.assert_allclose(pose(moved), pose(expected), atol=1e-9)
    np.testing.assert_allclose(moved.state.twist, expected.state.twist, atol=1e-9)
    assert np.trace(moved.state.pose_covariance) < 2 * np.trace(expected.state.pose_covariance)
    assert bench.faults.counts()['clock_set_forward'] == 1 and 'clock_set_back' not in bench.faults.counts()
    assert bench.perception._record.save().poses == 5


@pytest.mark.parametrize('behind_ns', [0, 1_000_000, 999_999_999])
def test_a_frame_out_of_order_is_refused_and_the_stream_goes_on(bench, behind_ns):
    bench.see(0)
    with pytest.raises(ValueError, match='the last'):
        bench.see(1, stamp_ns=START_NS - behind_ns)
    bench.see(2)
    assert bench.perception.resets == 0 and bench.stream.stats().frames == 2


def test_a_frame_that_fails_in_the_network_begins_a_stream(bench):
    bench.see(0)
    last = bench.see(1)
    norm = bench.stream.network.aggregator
    hook = norm.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError('out of memory')))
    with pytest.raises(RuntimeError, match='out of memory'):
        bench.see(2)
    hook.remove()
    new = bench.see(3)
    assert bench.perception.resets == 1
    np.testing.assert_allclose(pose(new), pose(last), atol=1e-9)


def test_a_broken_message_leaves_the_stream_alone(bench):
    bench.see(0)
    broken = image_message(scene(1, SIZE), START_NS + STEP_NS)
    broken.encoding = 'yuv999'
    with pytest.raises(ValueError, match='yuv999'):
        bench.perception.process(broken, NEVER)
    bench.see(2)
    assert bench.perception.resets == 0 and bench.stream.stats().frames == 2


def test_warming_up_leaves_no_trace(bench):
    bench.perception.warm_up()
    bench.perception.begin()
    np.testing.assert_allclose(pose(bench.see(0)), np.eye(4), atol=1e-9)
    assert bench.perception.resets == 0 and bench.stream.stats().frames == 1


@pytest.mark.parametrize('slashes', ['/', '//'])
def test_a_frame_with_a_leading_slash_is_answered_without(network, slashes):
    """tf2 refuses to look up such a frame; the mount, parameters and another odometry may have one as well."""
    bench = Bench(network, scale_source='odometry')
    answer = bench.see(0, frame=f'{slashes}cam0')
    headers = [answer.depth, answer.confidence, answer.info, answer.rgb, answer.points]
    assert {message.header.frame_id for message in headers} == {'cam0'} and bench.perception.camera_frame == 'cam0'
    assert bench.perception.mount.from_tf and bench.told == []
    bench.see(1)
    assert bench.perception.resets == 0, 'the same frame as before'
    given = parameters.from_values({'frames.odom': f'{slashes}odom', 'frames.base': f'{slashes}robot1/base_link'})
    assert (given.frames_odom, given.frames_base) == ('odom', 'robot1/base_link')
    scale = ScaleInputs(bench.perception.scale, bench.static, 'base_link', bench.faults)
    scale.on_odometry(Odometry(header=answer.odometry.header, child_frame_id=f'{slashes}cam0'))
    assert bench.told == []


def test_an_image_without_a_frame_is_answered(bench):
    answer = bench.see(0, frame='')
    assert answer.depth.header.frame_id == '' and answer.transform.child_frame_id == 'base_link'
    assert 'name no frame' in bench.told[0]


def sixteen_bits(index: int, low: float, high: float):
    """Return the scene as mono16 whose counts go from low to high."""
    counts = (low + scene(index, SIZE)[..., 0] * ((high - low) / 255.0)).astype(np.uint16)
    message = image_message(scene(index, SIZE), START_NS + index * STEP_NS)
    message.encoding, message.step = 'mono16', 2 * SIZE[1]
    message.data = type(message.data)('B', counts.tobytes())
    return message


@pytest.mark.parametrize(('low', 'high'), [(7800, 8200), (0, 1023), (500, 4095), (0, 65535)])
def test_a_thermal_camera_is_answered_with_its_contrast_stretched(bench, low, high):
    for index in range(3):
        answer = bench.perception.process(sixteen_bits(index, low, high), NEVER)
        seen = np.frombuffer(answer.rgb.data, np.uint8)
        assert np.percentile(seen, 95) - np.percentile(seen, 5) > 150
    assert bench.told == []


def test_sixteen_bits_without_contrast_are_still_blank(bench):
    with pytest.raises(FrameRefused) as caught:
        bench.perception.process(sixteen_bits(0, 8000, 8004), NEVER)
    assert caught.value.kind == 'blank_image'


def test_an_encoding_that_leaves_its_colours_open_is_answered_and_told_once(bench):
    for index in range(3):
        message = image_message(scene(index, SIZE), START_NS + index * STEP_NS)
        message.encoding = '8UC3'
        answer = bench.perception.process(message, NEVER)
    plain = image_message(scene(2, SIZE), START_NS + 3 * STEP_NS)
    plain.encoding = 'bgr8'
    np.testing.assert_array_equal(answer.rgb.data, bench.perception.process(plain, NEVER).rgb.data)
    assert len(bench.told) == 1 and '8UC3' in bench.told[0] and 'bgr8' in bench.told[0]
    assert bench.faults.counts() == {'encoding_assumed': 1}


def test_a_camera_frame_with_the_axes_of_a_body_is_told_of_once(bench):
    header = image_message(scene(0, SIZE), 0).header
    header.frame_id = 'base_link'
    bench.static.update([transform_from_pose(geometry.transform(np.eye(3), np.ones(3)), header, 'camera_link')])
    for index in range(3):
        bench.see(index, frame='camera_link')
    assert bench.faults.counts() == {'not_optical': 1} and 'points up' in bench.perception.axes_doubt
    bench.see(3, frame='cam0')
    assert bench.perception.axes_doubt == ''


@pytest.mark.parametrize(
    ('useless', 'told'),
    [(info((30, 40)), 1), (info(focal=float('nan')), 1), (info(focal=-3.0), 1), (info(focal=0.9), 1)],
)
def test_a_camera_info_of_no_use_between_good_ones_changes_nothing(bench, useless, told):
    for i in range(5):
        bench.perception.camera.on_camera_info(useless if i % 2 else info())
        answer = bench.see(i)
        np.testing.assert_allclose(answer.info.k[0], 70.0 * answer.info.width / SIZE[1])
    assert bench.perception.resets == 0 and bench.stream.stats().frames == 5 and len(bench.told) == told


@pytest.mark.parametrize(
    ('focal', 'centre', 'told'),
    [(0.9, (0.5, 0.5), 'not in pixels of 80 x 60'), (140.0, (80.0, 60.0), 'is it for another resolution?')],
)
def test_a_camera_matrix_in_other_pixels_is_told(bench, focal, centre, told):
    message = info(focal=focal)
    message.k[2], message.k[5] = centre
    bench.perception.camera.on_camera_info(message)
    bench.see(0)
    assert len(bench.told) == 1 and told in bench.told[0]
