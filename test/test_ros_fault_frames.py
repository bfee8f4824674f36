# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of docs/faults.md from inside a frame, or of hundreds of frames: without DDS, with the real network."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

import rclpy
import torch
from evict3r_ros.msg import StreamStatus
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from ros_bench import MOUNT, NEVER, SIZE, START_NS, STEP_NS, Bench, pose
from ros_robot import image_message, map_of, nanoseconds, points_of, rgb_of, scene
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from evict3r_ros.io.scene_record import SceneRecord
from evict3r_ros.io.tum import read_tum
from evict3r_ros.network import load_network
from evict3r_ros.profiling.soak import living_tensor_bytes
from evict3r_ros.ros.messages.conversions import transform_from_pose
from evict3r_ros.ros.node.lifecycle_node import Evict3rNode
from evict3r_ros.ros.node.status import status_message
from evict3r_ros.ros.perception.image_check import FROZEN_AFTER
from evict3r_ros.ros.perception.worker import Counts, Pace
from evict3r_ros.ros.settings import assembly


@pytest.fixture(scope='module')
def network():
    return load_network('random', preset='nano')


@pytest.fixture
def bench(network):
    return Bench(network)


def failing(network, error: Exception | None):
    """Let the network raise, or answer NaN; returns what ends it."""

    def fail(module, arguments, output):
        if error is not None:
            raise type(error)(*error.args)  # a fresh one: an exception keeps the frames that it came through
        return torch.full_like(output, torch.nan) if isinstance(output, torch.Tensor) else output

    part = network.camera_head if error is None else network.aggregator
    return part.register_forward_hook(fail)


@pytest.mark.parametrize(
    ('error', 'kind'),
    [
        (None, 'not_finite'),
        (torch.cuda.OutOfMemoryError('CUDA out of memory'), 'out_of_memory'),
        (RuntimeError('cuBLAS'), 'network_failed'),
    ],
)
def test_a_frame_that_fails_costs_itself_and_the_stream_begins_anew(network, error, kind):
    bench = Bench(network)
    bench.see(0)
    last = bench.see(1)
    gc.collect()
    held = living_tensor_bytes()
    hook = failing(network, error)
    try:
        assert bench.refuse(2) == kind
        assert bench.refuse(3) == kind
    finally:
        hook.remove()
    again = bench.see(4)
    assert bench.stream.stats().frames == 1
    np.testing.assert_allclose(pose(again), pose(last), atol=1e-9)  # odom goes on where it was
    assert np.isfinite(map_of(again.depth)).any()
    bench.see(5)
    del again  # an answer holds its maps
    gc.collect()
    assert living_tensor_bytes() <= held + 2**16


def test_no_memory_at_configure_is_told_and_a_second_try_works(monkeypatch, tmp_path: Path):
    """The node itself, in this process, so that the card can be too small without there being one."""
    context = Context()
    words = [
        word
        for name, value in {
            'weights': 'random',
            'preset': 'nano',
            'device': 'cpu',
            'cache.tokens': 512,
            'save.folder': str(tmp_path),
        }.items()
        for word in ('-p', f'{name}:={value}')
    ]
    rclpy.init(args=['--ros-args', *words], context=context)
    node = Evict3rNode(context=context)
    try:

        def too_small(*_, **__):
            raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 4.00 GiB')

        with monkeypatch.context() as patch:
            patch.setattr(assembly, 'load_network', too_small)
            assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
        assert 'CUDA out of memory' in node._faults.last
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        assert list(tmp_path.iterdir()) == []
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_a_device_that_is_lost_at_configure_ends_the_process(monkeypatch):
    ended: list[bool] = []
    context = Context()
    rclpy.init(args=[], context=context)
    node = Evict3rNode(context=context, device_lost=lambda: ended.append(True))
    try:

        def lost(*_, **__):
            raise torch.AcceleratorError('CUDA error: uncorrectable ECC error encountered')

        monkeypatch.setattr(assembly, 'load_network', lost)
        assert node.trigger_configure() != TransitionCallbackReturn.SUCCESS
        assert ended and 'uncorrectable ECC' in node._faults.last
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


@pytest.mark.parametrize('level', [0, 255])
def test_five_hundred_black_or_white_images_leave_the_stream_alone(bench, level):
    bench.see(0)
    blank = np.full((*SIZE, 3), level, np.uint8)
    for i in range(1, 501):
        message = image_message(blank, START_NS + i * STEP_NS)
        with pytest.raises(ValueError, match='without contrast'):
            bench.perception.process(message, NEVER)
    after = bench.see(501)
    assert bench.perception.resets == 0 and bench.stream.stats().frames == 2
    assert np.isfinite(pose(after)).all()


def test_five_hundred_frozen_images_are_answered_and_told_once(network):
    bench = Bench(network, image_width=42)
    bench.see(0)
    held = None
    answers = []
    for i in range(1, 501):
        answer = bench.perception.process(image_message(scene(0, SIZE), START_NS + i * STEP_NS), NEVER)
        assert np.isfinite(pose(answer)).all()
        answers.append((pose(answer), spread(answer.odometry)))
        if i == 50:
            held = living_tensor_bytes()
    assert bench.faults.counts() == {'frozen_image': 1} and bench.perception.frozen
    assert living_tensor_bytes() <= held
    # the pose is held, and less and less sure
    assert bench.perception.tracking_state == StreamStatus.COASTING
    assert all(np.array_equal(later, answers[FROZEN_AFTER][0]) for later, _ in answers[FROZEN_AFTER:])
    spreads = [value for _, value in answers[FROZEN_AFTER:]]
    assert spreads == sorted(set(spreads))
    bench.see(501)
    assert not bench.perception.frozen and bench.perception.tracking_state == StreamStatus.TRACKING


def test_an_image_of_8k_is_answered_at_the_networks_size(bench):
    big = cv2.resize(scene(3, (270, 480)), (7680, 4320), interpolation=cv2.INTER_NEAREST)
    answer = bench.perception.process(image_message(big, START_NS), NEVER)
    assert (answer.depth.width, answer.depth.height) == (154, 84)


@pytest.mark.parametrize('side', ['width', 'height'])
def test_a_line_of_pixels_is_refused_before_it_is_resized(bench, side):
    assert bench.refuse(0, size=(6000, 1) if side == 'height' else (1, 6000)) == 'broken_image'


def test_a_corrupt_jpeg_is_answered_or_refused_but_never_fails(bench):
    rng = np.random.default_rng(4)
    whole = cv2.imencode('.jpg', scene(0, SIZE))[1].tobytes()
    kinds = set()
    for i in range(60):
        data = bytearray(whole)
        for place in rng.integers(2, len(data), rng.integers(1, 30)):
            data[place] = rng.integers(256)
        message = CompressedImage(
            header=image_message(scene(0), START_NS + i * STEP_NS).header,
            format='jpeg',
            data=bytes(data[: rng.integers(10, len(data))] if i % 3 == 0 else data),
        )
        try:
            bench.perception.process(message, NEVER)
        except ValueError:
            kinds.add('refused')
        else:
            kinds.add('answered')
    assert kinds == {'refused', 'answered'}
    assert set(bench.faults.counts()) <= {'image_changed', 'image_gap'}


def test_a_static_transform_that_comes_late_takes_over(network):
    """Until it comes the camera is the robot; then the base is, and the camera is left to its new parent."""
    bench = Bench(network, startup_timeout=0.0)
    first = bench.see(0, frame='late_cam')
    assert first.transform.child_frame_id == 'late_cam'
    assert bench.faults.counts() == {'no_transform': 1}
    bench.static.update([transform_from_pose(MOUNT, Header(frame_id='base_link'), 'late_cam')])
    second = bench.see(1, frame='late_cam')
    assert second.transform.child_frame_id == 'base_link' and bench.perception.resets == 0
    np.testing.assert_allclose(pose(second)[2, :3], [0.0, 0.0, 1.0], atol=0.5)
    assert bench.perception.mount.problem == ''


def test_a_base_that_is_fixed_in_the_world_is_not_moved(bench):
    bench.static.update([transform_from_pose(np.eye(4), Header(frame_id='map'), 'base_link')])
    answer = bench.see(0)
    assert answer.transform is None and answer.odometry.child_frame_id == 'base_link'
    assert bench.faults.counts() == {'second_parent': 1}


@pytest.mark.parametrize(('parent', 'child'), [('map', 'base_link'), ('world', 'fixed_cam'), ('odom', 'fixed_cam')])
def test_a_place_in_the_world_that_is_told_late_ends_the_transform(network, parent, child):
    """The moved frame and the camera's place on it are as before: only that somebody else places it is new."""
    bench = Bench(network, startup_timeout=0.0)
    frame = 'cam0' if child == 'base_link' else child
    before = [bench.see(i, frame=frame) for i in range(3)][-1]
    assert before.transform.child_frame_id == child
    bench.static.update([transform_from_pose(np.eye(4), Header(frame_id=parent), child)])
    answer = bench.see(3, frame=frame)
    assert answer.transform is None and answer.odometry.child_frame_id == child
    assert bench.faults.counts()['second_parent'] == 1 and bench.perception.mount.taken
    np.testing.assert_allclose(answer.state.odom_from_child, before.state.odom_from_child, atol=1e-12)


def test_a_fixed_scale_makes_all_lengths_longer(network):
    unit, metric = Bench(network), Bench(network, scale_source='fixed', scale_fixed=2.5)
    for i in range(3):
        a, b = unit.see(i), metric.see(i)
    np.testing.assert_allclose(map_of(b.depth), 2.5 * map_of(a.depth), rtol=1e-5)
    np.testing.assert_allclose(points_of(b.points)[0], 2.5 * points_of(a.points)[0], rtol=1e-5)
    # the camera's way is longer, but not its place on the base
    ways = [pose(answer) @ MOUNT for answer in (a, b)]
    np.testing.assert_allclose(ways[1][:3, 3] - MOUNT[:3, 3], 2.5 * (ways[0][:3, 3] - MOUNT[:3, 3]), rtol=1e-5)
    state = metric.perception.scale.state
    assert (state.is_metric, state.source, state.scale) == (True, 'fixed', pytest.approx(2.5))


def test_a_cloud_waits_for_a_metric_scale_where_that_is_wished(network):
    assert Bench(network, points_require_metric=True).see(0).points is None
    assert Bench(network, points_require_metric=True, scale_source='fixed').see(0).points is not None


def test_rgb_is_the_published_image(network):
    for at, size in (('camera', SIZE), ('network', (112, 154))):
        answer = Bench(network, depth_size=at).see(0)
        assert rgb_of(answer.rgb).shape == (*size, 3) and answer.rgb.header == answer.depth.header
    np.testing.assert_array_equal(rgb_of(Bench(network, depth_size='camera').see(0).rgb), scene(0, SIZE))


def test_a_disk_that_is_full_costs_poses_of_the_record_only(network, tmp_path: Path, monkeypatch):
    record = SceneRecord(tmp_path, 10_000)
    bench = Bench(network, record=record)
    bench.see(0)
    with monkeypatch.context() as patch:
        patch.setattr(record, 'add_pose', lambda *_: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
        bench.see(1)
    bench.see(2)
    assert bench.faults.counts() == {'not_saved': 1} and 'No space left' in bench.faults.last
    assert record.save().poses == 2


def test_a_clock_set_back_empties_the_record(network, tmp_path: Path):
    record = SceneRecord(tmp_path, 10_000)
    bench = Bench(network, record=record)
    for i in range(3):
        bench.see(i)
    back_ns = START_NS - 30 * 10**9
    for i in (3, 4):
        assert bench.refuse(i, stamp_ns=back_ns + i * STEP_NS) == 'bad_stamp'
    bench.see(5, stamp_ns=back_ns + 5 * STEP_NS)
    assert record.save().poses == 1


def test_a_mount_that_comes_late_begins_the_record_anew(network, tmp_path: Path):
    """What is saved is of one frame; another place on the same base is no other frame."""
    record = SceneRecord(tmp_path, 10_000)
    bench = Bench(network, record=record, startup_timeout=0.0)
    for i in range(3):
        bench.see(i, frame='late_cam')
    bench.static.update([transform_from_pose(MOUNT, Header(frame_id='base_link'), 'late_cam')])
    answers = [bench.see(i, frame='late_cam') for i in (3, 4)]
    assert record.save().poses == 2
    moved = MOUNT.copy()
    moved[2, 3] += 0.5
    bench.static.update([transform_from_pose(moved, Header(frame_id='base_link'), 'late_cam')])
    bench.see(5, frame='late_cam')
    saved = record.save()
    assert saved.poses == 3
    trajectory = read_tum(saved.folder / 'trajectory.tum')
    np.testing.assert_allclose(trajectory.positions[1], (pose(answers[1]) @ MOUNT)[:3, 3], atol=1e-6)


def spread(odometry) -> float:
    return float(np.trace(np.reshape(odometry.pose.covariance, (6, 6))))


def test_a_blank_camera_lets_odometry_say_the_last_pose_less_and_less_surely(bench):
    perception, black = bench.perception, np.zeros((*SIZE, 3), np.uint8)
    assert bench.refuse(0, pixels=black) == 'blank_image'
    assert perception.coast(bench.moment) is None and perception.tracking_state == StreamStatus.INITIALISING
    for i in (1, 2):
        last = bench.see(i)
    held = []
    for i in (3, 4, 50):
        assert bench.refuse(i, pixels=black) == 'blank_image'
        held.append(perception.coast(bench.moment))
        assert perception.tracking_state == StreamStatus.COASTING
        assert nanoseconds(held[-1].header) == START_NS + i * STEP_NS
    assert all(odometry.pose.pose == last.odometry.pose.pose for odometry in held)
    assert (held[0].header.frame_id, held[0].child_frame_id) == ('odom', 'base_link')
    spreads = [spread(odometry) for odometry in (last.odometry, *held)]
    assert spreads == sorted(set(spreads)) and held[-1].twist.covariance[0] >= 1000
    again = bench.see(51)
    assert perception.tracking_state == StreamStatus.TRACKING
    assert spread(again.odometry) > spreads[-1], 'where the robot went meanwhile nobody saw'


def test_a_pause_keeps_stream_odometry_and_record(network, tmp_path: Path):
    record = SceneRecord(tmp_path, 10_000)
    bench, steady = Bench(network, record=record), Bench(network)
    for i in range(3):
        last = bench.see(i)
        steady.see(i)
    bench.perception.pause()
    assert bench.perception.tracking_state == StreamStatus.COASTING
    after, expected = bench.see(103), steady.see(103)
    assert bench.perception.tracking_state == StreamStatus.TRACKING
    np.testing.assert_allclose(pose(after), pose(expected), atol=1e-9)
    assert bench.stream.stats().frames == 4 and record.save().poses == 4 and bench.perception.resets == 0
    assert spread(after.odometry) > spread(last.odometry)
    assert after.state.twist_covariance[0, 0] >= 1000, 'a motion of ten seconds is no twist'
    assert bench.faults.counts() == {}, 'nobody listened: that is no gap of the camera'
    assert steady.faults.counts() == {'image_gap': 1}


def test_a_pause_while_a_mount_is_waited_for_leaves_the_image_to_the_next_time(network):
    bench, stopping = Bench(network), threading.Event()
    bench.see(0)
    stopping.set()
    moment = bench.perception.stamps.admit(START_NS + STEP_NS, START_NS + STEP_NS)
    other = image_message(scene(1, SIZE), moment.stamp_ns, 'other_cam')
    with pytest.raises(InterruptedError):
        bench.perception.process(other, stopping, moment)
    bench.perception.pause()
    assert bench.see(2, frame='other_cam').transform.child_frame_id == 'other_cam'
    assert bench.faults.counts() == {'image_changed': 1, 'no_transform': 1} and bench.perception.resets == 1


def test_a_reset_clears_the_scale_of_the_status(network):
    bench = Bench(network, scale_source='depth')

    def status() -> StreamStatus:
        return status_message(Counts(), Pace(), bench.faults, network, bench.perception, None)

    def see(index: int) -> None:
        depth = np.full((60, 80), 7.0, np.float32)
        bench.perception.scale.add_depth(START_NS + index * STEP_NS, depth)
        bench.see(index)

    assert np.isnan(status().scale) and not status().is_metric
    for i in range(20):
        see(i)
    assert status().is_metric and status().scale > 0.0 and status().scale_source == 'depth'
    bench.perception.ask_for_reset()
    bench.see(20)
    cleared = status()
    assert np.isnan(cleared.scale) and np.isnan(cleared.scale_stddev) and not cleared.is_metric
    assert cleared.scale_source == '' and cleared.tracking_state == StreamStatus.TRACKING
