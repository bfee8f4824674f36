# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node as a process, images over real DDS, and every field of what comes back."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

from evict3r_ros.msg import StreamStatus
from geometry_msgs.msg import TransformStamped
from ros_bench import MOUNT, START_NS, STEP_NS, info
from ros_robot import LATCHED, SMALL, NodeUnderTest, Robot, image_message, map_of, points_of, scene
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, CompressedImage

from evict3r_ros import geometry
from evict3r_ros.camera.view import ImageView
from evict3r_ros.io.image_folder import read_image_folder
from evict3r_ros.ros.messages.conversions import matrix_from_transform
from evict3r_ros.ros.node import qos
from evict3r_ros.ros.node.outputs import Outputs

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]

SMALL_WIDTH = 154
OUTPUTS = ('depth', 'confidence', 'info', 'rgb_info', 'rgb', 'odometry', 'points')
ANSWERS = ('depth', 'confidence', 'info', 'points', 'odometry', 'tf')


def test_the_transform_is_published_before_all_else(monkeypatch):
    """Order of publication, not of arrival: a busy reader that finds both waiting takes either first."""
    published = []
    monkeypatch.setattr(
        qos, 'publish_on', lambda node, kind, topic, profile: SimpleNamespace(publish=lambda _: published.append(topic))
    )
    answer = SimpleNamespace(transform=TransformStamped(), **dict.fromkeys(OUTPUTS, object()))
    Outputs(None).publish(answer, with_tf=True)
    assert published[0] == '/tf' and '~/points' in published and len(published) == 1 + len(OUTPUTS)


def check_answers(robot: Robot, stamps: list[int], min_confidence: float = 1.1) -> None:
    """Check that each stamp was answered once on every topic, and that the answers agree with each other."""
    for name in ANSWERS:
        robot.until(lambda name=name: set(stamps) <= set(robot.heard[name]), f'{name} for every processed image')
        assert sorted(robot.heard[name]) == sorted(stamps), name
        assert all(len(messages) == 1 for messages in robot.heard[name].values()), name
    for stamp in stamps:
        depth, confidence, info, points, odometry, tf = (robot.heard[name][stamp][0] for name in ANSWERS)
        assert {m.header.frame_id for m in (depth, confidence, info, points)} == {'cam0'}
        assert {m.header.frame_id for m in (odometry, tf)} == {'odom'}
        assert {m.child_frame_id for m in (odometry, tf)} == {'base_link'}
        z, sure = map_of(depth), map_of(confidence)
        assert (info.height, info.width) == z.shape == sure.shape
        assert np.isfinite(z).mean() > 0.5 and (z[np.isfinite(z)] > 0).all() and not np.isinf(z).any()
        assert (points.height, points.width) == z.shape and not points.is_dense
        xyz, _ = points_of(points)
        shown = np.isfinite(xyz).all(axis=2)
        np.testing.assert_array_equal(shown, np.isfinite(z) & (sure >= min_confidence))
        K = np.reshape(info.k, (3, 3))
        np.testing.assert_allclose(xyz[shown], geometry.unproject(z, K)[shown], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(np.reshape(info.p, (3, 4))[:, :3], K)
        pose, moved = matrix_from_transform(tf.transform), odometry.pose.pose
        np.testing.assert_allclose(pose[:3, 3], [moved.position.x, moved.position.y, moved.position.z])
        assert tf.transform.rotation == moved.orientation


def base_pose(robot: Robot, stamp: int) -> np.ndarray:
    """Return odom_from_base of an answered image."""
    return matrix_from_transform(robot.heard['tf'][stamp][0].transform)


def test_fifty_real_images(tmp_path: Path, euroc_dir: Path):
    folder = read_image_folder(euroc_dir)
    camera = folder.camera
    info = CameraInfo(
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model,
        d=camera.D.tolist(),
        k=camera.K.ravel(),
        r=camera.R.ravel(),
        p=camera.P.ravel(),
    )
    with Robot() as robot, NodeUnderTest(tmp_path / 'node.log', parameters=SMALL) as node:
        robot.mount_camera(camera.base_from_camera)
        robot.until_active()
        frames = folder.frames[:50]
        messages = [image_message(frame.read(), frame.stamp_ns) for frame in frames]
        for message in messages:
            info.header = message.header
        began = time.monotonic()
        for message in messages[:3]:
            info.header = message.header
            robot.show_and_wait(message, info)
        # from here on like a camera: a fixed rate with room to breathe, and nobody waits
        period = 1.5 * (time.monotonic() - began) / 3
        for message in messages[3:]:
            info.header = message.header
            robot.show(message, info)
            time.sleep(period)
        status = robot.until_counted(50)
        assert status.frames_received == 50 and status.frames_failed == 0 and status.resets == 0
        assert status.frames_processed + status.frames_dropped == 50
        stamps = sorted(robot.heard['odometry'])
        assert len(stamps) == status.frames_processed and set(stamps) <= {frame.stamp_ns for frame in frames}
        # drops depend on what else the machine does; those that were waited for, and the last, are never dropped
        assert {frame.stamp_ns for frame in (*frames[:3], frames[-1])} <= set(stamps)
        check_answers(robot, stamps)
        robot.until(lambda: sorted(robot.heard['depth_best_effort']) == stamps, 'all depth by best effort')

        assert status.untrained and 'UNTRAINED' in status.weights and 'UNTRAINED' in node.said()
        assert (status.preset, status.policy, status.device) == ('small', 'evict3r', 'cpu')
        assert len(status.tokens) == len(status.budget) == 4 and status.cache_bytes > 0
        assert status.rate_hz > 0 and 0 < status.latency_p50_ms <= status.latency_p99_ms
        assert (status.is_metric, status.last_error) == (False, '') and np.isnan(status.scale)
        assert status.tracking_state == StreamStatus.TRACKING

    view = ImageView.of((camera.height, camera.width), SMALL_WIDTH)
    wanted = view.to_network_K(camera.P[:, :3] if camera.P.any() else camera.K)
    first = robot.heard['info'][stamps[0]][0]
    assert (first.height, first.width) == view.network_size
    np.testing.assert_allclose(np.reshape(first.k, (3, 3)), wanted, atol=1e-9)

    # z up: gravity as the first camera saw it, through the static transform into base_link, where odom begins
    np.testing.assert_allclose(base_pose(robot, stamps[0]), np.eye(4), atol=1e-9)
    truth = folder.ground_truth
    nearest = int(np.argmin(np.abs(truth.stamps_ns - stamps[0])))
    up_in_camera = Rotation.from_quat(truth.quaternions[nearest]).inv().apply([0.0, 0.0, 1.0])
    up_in_odom = base_pose(robot, stamps[0])[:3, :3] @ camera.base_from_camera[:3, :3] @ up_in_camera
    assert np.degrees(np.arccos(up_in_odom[2])) < 15.0


def test_synthetic_images_of_a_moving_size_and_encoding(tmp_path: Path):
    """A node that nobody gave a camera_info, at the camera's size; then another resolution, then a clock set back."""
    parameters = {**SMALL, 'depth.size': 'camera', 'points.min_confidence': 1.0}
    with Robot() as robot, NodeUnderTest(tmp_path / 'node.log', parameters=parameters):
        robot.mount_camera(MOUNT)
        robot.until_active()
        messages = [image_message(scene(i), START_NS + i * STEP_NS) for i in range(6)]
        messages[1] = image_message(scene(1)[..., 0], START_NS + STEP_NS)
        messages[2].encoding = 'bgr8'
        stamps = [robot.show_and_wait(message) for message in messages]
        check_answers(robot, stamps, min_confidence=1.0)
        assert map_of(robot.heard['depth'][stamps[0]][0]).shape == (120, 160)
        _, colours = points_of(robot.heard['points'][stamps[0]][0])
        np.testing.assert_array_equal(colours, scene(0))
        np.testing.assert_array_equal(points_of(robot.heard['points'][stamps[2]][0])[1], scene(2)[..., ::-1])
        np.testing.assert_allclose(base_pose(robot, stamps[0]), np.eye(4), atol=1e-9)

        resized = robot.show_and_wait(image_message(scene(6, (160, 120)), START_NS + 6 * STEP_NS))
        robot.until(lambda: robot.statuses[-1].resets == 1, 'the reset is counted')
        robot.until(lambda: resized in robot.heard['tf'] and resized in robot.heard['depth'], 'the answer')
        assert map_of(robot.heard['depth'][resized][0]).shape == (160, 120)
        # odom does not jump: a new stream begins where the last one ended
        np.testing.assert_allclose(base_pose(robot, resized), base_pose(robot, stamps[-1]), atol=1e-9)

        for i in range(2):
            robot.show(image_message(scene(i, (160, 120)), START_NS - (30 - i) * STEP_NS))
            robot.until_fault('bad_stamp', i + 1)
        again = robot.show_and_wait(image_message(scene(2, (160, 120)), START_NS - 28 * STEP_NS))
        robot.until(lambda: robot.statuses[-1].resets == 2, 'the reset is counted')
        assert 'clock' in robot.statuses[-1].last_error
        robot.until(lambda: again in robot.heard['tf'], 'TF in the new time')
        np.testing.assert_allclose(base_pose(robot, again), np.eye(4), atol=1e-9)


def test_broken_images_cost_themselves_only(tmp_path: Path):
    with (
        Robot(compressed=True) as robot,
        NodeUnderTest(tmp_path / 'node.log', parameters={**SMALL, 'image_transport': 'compressed'}) as node,
    ):
        robot.mount_camera(MOUNT)
        robot.until_active()

        def jpeg(index: int, cut: int | None = None) -> CompressedImage:
            data = cv2.imencode('.jpg', scene(index)[..., ::-1])[1].tobytes()[:cut]
            return CompressedImage(
                header=image_message(scene(0), START_NS + index * STEP_NS).header, format='jpeg', data=data
            )

        stamps = [robot.show_and_wait(jpeg(0))]
        robot.show(jpeg(1, cut=300))
        robot.until_counted(2)
        stamps.append(robot.show_and_wait(jpeg(2)))
        robot.show(jpeg(2))  # the same stamp once more
        status = robot.until_counted(4)
        stamps.append(robot.show_and_wait(jpeg(3)))
        assert status.frames_failed == 2 and status.resets == 0 and 'that of the last image' in status.last_error
        assert 'frame not answered' in node.said() and 'Traceback' not in node.said()
        held = robot.heard['odometry'].pop(START_NS + STEP_NS)[0]  # the last pose, in place of an answer
        assert held.pose.pose == robot.heard['odometry'][stamps[0]][0].pose.pose
        check_answers(robot, stamps)


def test_a_camera_faster_than_the_network(tmp_path: Path):
    """Thirty images a second: the latest wins, and each that arrived is either answered or counted."""
    with Robot(points=False) as robot, NodeUnderTest(tmp_path / 'node.log', parameters=SMALL):
        robot.mount_camera(MOUNT)
        robot.until_active()
        robot.show_and_wait(image_message(scene(0), START_NS))
        for i in range(1, 80):
            robot.show(image_message(scene(i), START_NS + i * STEP_NS))
            time.sleep(0.03)
        robot.show_and_wait(image_message(scene(80), START_NS + 80 * STEP_NS))  # the last one waits for nobody
        answered = len(robot.heard['odometry'])
        robot.until(lambda: robot.statuses[-1].frames_processed == answered, 'a status after the last image')
        status = robot.statuses[-1]
        # best effort on a busy machine: DDS itself may lose one or another before the node hears of it
        assert 70 <= status.frames_received <= 81 and status.frames_failed == 0
        assert status.frames_dropped > 20
        assert status.frames_processed + status.frames_dropped == status.frames_received
        robot.until(lambda: len(robot.heard['depth']) == status.frames_processed, 'all depth')
        assert not robot.heard['points']


def test_without_static_transform_the_camera_is_the_robot(tmp_path: Path):
    with Robot() as robot, NodeUnderTest(tmp_path / 'node.log', parameters={**SMALL, 'startup_timeout': 0.3}) as node:
        # said once, before the node was there to hear it
        robot.session.node.create_publisher(CameraInfo, 'camera_info', LATCHED).publish(info(scene(0).shape[:2]))
        robot.until_active()
        stamp = robot.show_and_wait(image_message(scene(0), START_NS))
        robot.until(lambda: stamp in robot.heard['tf'] and stamp in robot.heard['info'], 'TF and camera_info')
        told = robot.heard['info'][stamp][0]
        assert told.k[0] == pytest.approx(70.0 * told.width / scene(0).shape[1])
        tf = robot.heard['tf'][stamp][0]
        assert (tf.header.frame_id, tf.child_frame_id) == ('odom', 'cam0')
        np.testing.assert_allclose(matrix_from_transform(tf.transform), geometry.BODY_FROM_OPTICAL, atol=1e-9)
        assert "no static transform from 'cam0' to 'base_link'" in node.said()
