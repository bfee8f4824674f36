# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a robot's other nodes take from this one beside depth and cloud: one live node for all of it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from rclpy.qos import ReliabilityPolicy
from ros_bench import MOUNT, START_NS, STEP_NS
from ros_robot import (
    BEST_EFFORT,
    LATCHED,
    RELIABLE,
    SMALL,
    NodeUnderTest,
    Robot,
    image_message,
    map_of,
    nanoseconds,
    scene,
)
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from evict3r_ros.geometry import motion_of_twist
from evict3r_ros.io.ply import read_ply
from evict3r_ros.io.tum import read_tum
from evict3r_ros.ros.messages.conversions import (
    matrix_from_transform,
    path_from_poses,
    pose_from_odometry,
    rgb_from_image,
    transform_from_pose,
)

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]


class Live:
    """A running node, its robot, and the next stamp."""

    def __init__(self, robot: Robot, node: NodeUnderTest, folder: Path) -> None:
        self.robot, self.node, self.folder = robot, node, folder
        self.index = 0

    def see(self, image: int | None = None) -> int:
        """Show an image, the next or another, and wait for its answer; returns its stamp."""
        self.index += 1
        pixels = scene(self.index if image is None else image)
        stamp = self.robot.show_and_wait(image_message(pixels, START_NS + self.index * STEP_NS))
        self.robot.until(lambda: stamp in self.robot.heard['odometry'], 'odometry')
        return stamp

    def pose(self, stamp: int) -> np.ndarray:
        return pose_from_odometry(self.robot.heard['odometry'][stamp][0])

    def ask(self, service: str) -> Trigger.Response:
        return self.robot.call(Trigger, service, Trigger.Request())


@pytest.fixture(scope='module')
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp('maps')
    parameters = {
        **SMALL,
        'preset': 'nano',
        'save.folder': str(folder),
        'points.min_confidence': 1.0,
        'scale.source': 'odometry',
        'scale.baseline': 0.01,
        'qos_overrides./evict3r/points.publisher.reliability': 'best_effort',
        'qos_overrides./evict3r/points.publisher.depth': 5,
        'tf_prediction_rate': 40.0,
    }
    with (
        Robot(points=False) as robot,
        NodeUnderTest(tmp_path_factory.mktemp('log') / 'node.log', parameters=parameters) as node,
    ):
        robot.listen('rgb', Image, '/evict3r/rgb/image_rect')
        robot.listen('rgb_info', CameraInfo, '/evict3r/rgb/camera_info')
        robot.listen('diagnostics', DiagnosticArray, '/diagnostics')
        robot.mount_camera(MOUNT)
        robot.until_active()
        yield Live(robot, node, folder)


def test_rgb_has_the_size_and_stamp_of_the_depth(live):
    stamp = live.see()
    live.robot.until(lambda: stamp in live.robot.heard['rgb'], 'rgb')
    rgb, depth = live.robot.heard['rgb'][stamp][0], live.robot.heard['depth'][stamp][0]
    assert rgb.header == depth.header
    pixels = rgb_from_image(rgb)
    assert pixels.shape[:2] == map_of(depth).shape
    # the same picture: the colours of a coarse grid of the scene
    shown = scene(live.index)
    coarse = [
        image.reshape(4, image.shape[0] // 4, -1, image.shape[1] // 2, 3).mean((1, 3))
        for image in (pixels[: pixels.shape[0] // 4 * 4, : pixels.shape[1] // 2 * 2], shown)
    ]
    np.testing.assert_allclose(*coarse, atol=6.0)


def test_rgb_has_its_camera_info_beside_it(live):
    """Where image_transport and nvblox look for it: the image's name, with camera_info in place of its last part."""
    stamp = live.see()
    heard = live.robot.heard
    live.robot.until(lambda: stamp in heard['rgb'] and stamp in heard['rgb_info'], 'rgb and its camera_info')
    rgb, info, depth_info = (heard[name][stamp][0] for name in ('rgb', 'rgb_info', 'info'))
    assert info.header == rgb.header and (info.height, info.width) == (rgb.height, rgb.width)
    np.testing.assert_array_equal(info.k, depth_info.k)
    np.testing.assert_array_equal(np.reshape(info.p, (3, 4))[:, :3].ravel(), info.k)


def test_odometry_has_twist_and_growing_covariance(live):
    stamps = [live.see() for _ in range(3)]
    first, last = (live.robot.heard['odometry'][stamp][0] for stamp in (stamps[0], stamps[-1]))
    moved = np.linalg.inv(live.pose(stamps[-2])) @ live.pose(stamps[-1])
    linear = last.twist.twist.linear
    speed = np.linalg.norm([linear.x, linear.y, linear.z])
    # along the arc, which is longer than the straight way, but hardly for so small a turn
    np.testing.assert_allclose(speed, np.linalg.norm(moved[:3, 3]) / (STEP_NS * 1e-9), rtol=0.2)
    for message in (first, last):
        for block in (message.pose.covariance, message.twist.covariance):
            matrix = np.reshape(block, (6, 6))
            np.testing.assert_allclose(matrix, matrix.T)
            assert (np.linalg.eigvalsh(matrix) > 0).all()
    # of the attitude: that of the position shrinks where a robot comes back, by a scale that is wrong both ways
    turned = [np.trace(np.reshape(message.pose.covariance, (6, 6))[3:, 3:]) for message in (first, last)]
    assert turned[1] > turned[0]


def test_a_transform_is_predicted_between_images(live):
    """Where publish_tf allows transforms, and up to a second; the measured ones come as ever."""
    robot = live.robot
    last = [live.see() for _ in range(3)][-1]
    # those before it were predicted from an earlier image
    answered = robot.order.index(('odometry', last))
    robot.until(lambda: sum(name == 'tf' for name, _ in robot.order[answered:]) > 8, 'predictions')
    twist, start = robot.heard['odometry'][last][0].twist.twist, live.pose(last)
    vector = np.array([getattr(part, axis) for part in (twist.linear, twist.angular) for axis in 'xyz'])
    for stamp in [stamp for name, stamp in robot.order[answered + 1 :] if name == 'tf'][2:]:
        assert 0 < stamp - last <= 1_000_000_000 and stamp % 1000 == 1
        predicted = start @ motion_of_twist(vector * (stamp - last) * 1e-9)
        np.testing.assert_allclose(matrix_from_transform(robot.heard['tf'][stamp][0].transform), predicted, atol=1e-6)
    assert robot.set_parameter('publish_tf', False) == (True, '')
    forbidden = live.see()
    robot.until(lambda: any(stamp > forbidden for stamp in robot.heard['coasting']), 'more than a second')
    assert max(robot.heard['tf']) < forbidden + STEP_NS or max(robot.heard['tf']) <= last + 1_000_000_000
    assert robot.set_parameter('publish_tf', True) == (True, '')
    measured = live.see()
    robot.until(lambda: measured in robot.heard['tf'], 'TF')
    np.testing.assert_allclose(
        matrix_from_transform(robot.heard['tf'][measured][0].transform), live.pose(measured), atol=1e-9
    )


def test_who_comes_late_gets_the_path(live):
    stamps = [live.see() for _ in range(2)]
    live.robot.until(
        lambda: live.robot.fault('none') == 0 and live.robot.node.count_publishers('/evict3r/path'), 'path'
    )
    live.robot.listen('path', PathMessage, '/evict3r/path', LATCHED)
    live.robot.until(lambda: any(stamp >= stamps[-1] for stamp in live.robot.heard['path']), 'the latest path')
    path = live.robot.heard['path'][max(live.robot.heard['path'])][0]
    assert path.header.frame_id == 'odom'
    stamps = [nanoseconds(pose.header) for pose in path.poses]
    assert stamps == sorted(set(stamps))
    wanted = path_from_poses([(stamp, live.pose(stamp)) for stamp in stamps], Header(frame_id='odom'))
    for pose, other in zip(path.poses, wanted.poses, strict=True):
        assert pose.header == other.header
        for axis in 'xyz':
            assert getattr(pose.pose.position, axis) == pytest.approx(getattr(other.pose.position, axis))


def test_diagnostics_say_what_the_status_says(live):
    live.see()
    robot = live.robot
    robot.until(lambda: robot.heard['diagnostics'], 'diagnostics')
    robot.until(
        lambda: list(robot.heard['diagnostics'].values())[-1][0].status[0].level == DiagnosticStatus.WARN,
        'a warning of untrained weights',
    )
    entry = list(robot.heard['diagnostics'].values())[-1][0].status[0]
    values = {value.key: value.value for value in entry.values}
    assert entry.name == 'evict3r: stream' and 'UNTRAINED' in entry.message
    assert (values['state'], values['preset'], values['device']) == ('active', 'nano', 'cpu')


def test_a_reset_begins_a_stream_where_the_last_one_ended(live):
    before, resets = live.see(), live.robot.statuses[-1].resets
    answer = live.ask('reset')
    assert answer.success and 'next image' in answer.message
    after = live.see()
    np.testing.assert_allclose(live.pose(after), live.pose(before), atol=1e-9)
    live.robot.until(lambda: live.robot.statuses[-1].resets == resets + 1, 'the reset is counted')
    # only the first frame of a stream keeps still
    assert not np.allclose(live.pose(live.see()), live.pose(before), atol=1e-9)


def test_quality_of_service_is_overridden_by_parameters(live):
    def quality(topic: str):
        return live.robot.node.get_publishers_info_by_topic(topic)[0].qos_profile

    assert quality('/evict3r/points').reliability == ReliabilityPolicy.BEST_EFFORT
    assert quality('/evict3r/depth/image_rect').reliability == ReliabilityPolicy.RELIABLE
    descriptors = live.robot.describe_parameters()
    assert 'qos_overrides./image.subscription.reliability' in descriptors
    assert live.robot.get_parameters('qos_overrides./evict3r/points.publisher.depth')[0].integer_value == 5


def test_a_scene_is_saved_while_the_stream_goes_on(live):
    last = live.see()
    answer = live.ask('save')
    assert answer.success, answer.message
    folder = Path(answer.message.split(':')[0])
    assert folder.parent == live.folder and {path.name for path in folder.iterdir()} == {
        'points.ply',
        'trajectory.tum',
        'scene.glb',
    }
    trajectory = read_tum(folder / 'trajectory.tum')
    assert len(trajectory) == len(live.robot.heard['odometry']) and trajectory.stamps_ns[-1] == last
    # the camera's poses in odom, which is the base's poses with the mount behind them
    np.testing.assert_allclose(trajectory.positions[-1], (live.pose(last) @ MOUNT)[:3, 3], atol=1e-6)
    assert len(read_ply(folder / 'points.ply')) > 100


def test_a_full_disk_costs_the_saved_files_only(live):
    """A limit on the size of files stands in for the disk; what is half written goes away."""
    live.see()
    there = set(live.folder.iterdir())
    failed = live.robot.fault('not_saved')
    resource.prlimit(live.node.process.pid, resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
    try:
        answer = live.ask('save')
        live.see()
    finally:
        resource.prlimit(live.node.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert not answer.success and 'not saved' in answer.message and 'too large' in answer.message.lower()
    assert set(live.folder.iterdir()) == there
    live.robot.until_fault('not_saved', failed + 1)
    assert 'not saved' in live.node.said()
    assert live.ask('save').success


def test_a_cloud_is_held_back_until_metric_and_odometry_makes_it_so(live):
    """An odometry in metres, three times what the network says: depth, cloud and motion follow, nothing jumps."""
    robot = live.robot
    robot.listen('points', PointCloud2, '/evict3r/points', BEST_EFFORT)
    robot.until(lambda: robot.node.get_publishers_info_by_topic('/evict3r/points') != [], 'points')
    assert robot.set_parameter('points.require_metric', True) == (True, '')
    odom_in = robot.node.create_publisher(Odometry, 'odom_in', RELIABLE)
    robot.until(lambda: odom_in.get_subscription_count() == 1, 'the node listens to odom_in')
    images = range(500, 515)
    poses = {}
    for factor in (1.0, 3.0):  # once to know what the network says, once with an odometry that says three times that
        live.ask('reset')
        for image in images:
            stamp = live.see(image)
            if factor == 1.0:
                poses[image] = live.pose(stamp)
            else:
                odom_in.publish(odometry_message(robot.heard['odometry'][stamp][0].header, poses[image], factor))
    robot.until(lambda: robot.statuses[-1].is_metric, 'a metric scale')
    stamp = live.see()
    robot.until(lambda: stamp in robot.heard['points'], 'a cloud, now that it is metric')
    status = robot.statuses[-1]
    assert (status.scale_source, status.is_metric) == ('odometry', True)
    # not exact: the camera sits off the base, and its lever arm is in metres already
    assert abs(status.scale / 3.0 - 1.0) < 0.1 and 0.0 <= status.scale_stddev < 0.3
    assert len(robot.heard['points']) <= 11  # none of the fifteen of the first time, nor of those until it was sure
    assert robot.set_parameter('points.require_metric', False) == (True, '')


def odometry_message(header: Header, pose: np.ndarray, factor: float) -> Odometry:
    """Return a pose whose way is longer by a factor, of another odometry at the same time."""
    scaled = pose.copy()
    scaled[:3, 3] *= factor
    transform = transform_from_pose(scaled, header, '').transform
    message = Odometry(header=Header(stamp=header.stamp, frame_id='wheels'), child_frame_id='base_link')
    message.pose.pose.orientation = transform.rotation
    for axis in 'xyz':
        setattr(message.pose.pose.position, axis, getattr(transform.translation, axis))
    return message


def test_an_odometry_that_cannot_be_used_is_counted(live):
    robot = live.robot
    odom_in = robot.node.create_publisher(Odometry, 'odom_in', RELIABLE)
    robot.until(lambda: odom_in.get_subscription_count() == 1, 'the node listens to odom_in')
    header = robot.heard['odometry'][live.see()][0].header
    twisted, strange = (odometry_message(header, np.eye(4), 1.0) for _ in range(2))
    twisted.pose.pose.orientation.w = 7.0
    strange.child_frame_id = 'wheel_left'
    for message in (twisted, strange):
        odom_in.publish(message)
    robot.until_fault('broken_input', 2)
    assert "no static transform joins its 'wheel_left' with 'base_link'" in robot.statuses[-1].last_error


def test_a_frame_that_somebody_else_moves_is_left_to_them(live):
    robot = live.robot
    stamp = live.see()
    robot.until(lambda: stamp in robot.heard['tf'], 'TF of our own')
    tf = robot.node.create_publisher(TFMessage, '/tf', RELIABLE)
    robot.until(lambda: tf.get_subscription_count() >= 2, 'the node listens to /tf')
    header = Header(frame_id='wheel_odom')
    header.stamp.sec, header.stamp.nanosec = divmod(stamp, 1_000_000_000)  # of our image: a visual odometry as well
    tf.publish(TFMessage(transforms=[transform_from_pose(np.eye(4), header, 'base_link')]))
    robot.until_fault('second_parent')
    assert 'wheel_odom -> base_link' in robot.statuses[-1].last_error
    held = live.see()
    later = live.see()
    assert held not in robot.heard['tf'] and later in robot.heard['odometry']
    assert 'somebody else publishes wheel_odom -> base_link' in live.node.said()
    robot.until(lambda: 'wheel_odom -> base_link' in robot.statuses[-1].tf_withheld, 'the status says why')
    robot.until(
        lambda: live.ask('reset').success and live.see() in robot.heard['tf'],
        'TF after a reset, once the other is silent',
    )
    assert robot.fault('second_parent') == 1
