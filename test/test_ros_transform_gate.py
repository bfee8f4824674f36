# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether odom -> base goes to /tf: who vouches for it, who else moves it, and what is told of that."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

from rclpy.serialization import serialize_message
from ros_bench import SIZE, START_NS, STEP_NS, Bench, pose
from safetensors.torch import save_file
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from evict3r_ros.network import checkpoint, load_network
from evict3r_ros.ros.messages.conversions import transform_from_pose
from evict3r_ros.ros.perception.other_movers import OtherMovers
from evict3r_ros.ros.perception.transform_gate import TransformGate
from evict3r_ros.ros.settings import parameters


@pytest.fixture(scope='module')
def network():
    return load_network('random', preset='nano')


class Gated(Bench):
    """A perception, and the gate behind it, on a clock that only the test moves."""

    def __init__(self, network, **settings) -> None:
        super().__init__(network, **settings)
        self.now = 100.0
        self.movers = OtherMovers(lambda: self.now)
        self.movers.start()
        self.now += 10.0  # by the first image /tf has been listened to for long enough
        self.gate = TransformGate(
            self.perception, network, self.movers, self.faults, lambda _, text: self.told.append(text)
        )
        self.index = 0

    def sends(self, **options) -> bool:
        """See the next image; return whether its transform is sent."""
        self.index += 1
        self.last = self.see(self.index, **options)
        return self.gate.admits(self.last.transform)

    def other(self, parent: str, matrix: np.ndarray, child: str = 'base_link') -> None:
        """Let somebody else publish in /tf, with the stamp of the last image."""
        header = Header(stamp=self.last.depth.header.stamp, frame_id=parent)
        self.movers.hear(serialize_message(TFMessage(transforms=[transform_from_pose(matrix, header, child)])))


def test_the_cameras_own_frame_is_left_alone_once_its_mount_has_been_heard(network):
    """By tf2 a frame is static or moves, whichever it heard last: a transform in work when the mount comes is late."""
    bench = Gated(network, publish_tf='true')
    assert bench.sends(frame='cam9') and bench.last.transform.child_frame_id == 'cam9'
    header = Header(frame_id='base_link')
    bench.static.update([transform_from_pose(np.eye(4), header, 'cam9')])
    assert not bench.gate.admits(bench.last.transform)
    assert bench.sends(frame='cam9') and bench.last.transform.child_frame_id == 'base_link'
    bench.static.update([transform_from_pose(np.eye(4), header, 'lidar')])
    assert bench.gate.admits(bench.last.transform), 'what is said of others holds up no base'


@pytest.mark.parametrize(
    ('publish_tf', 'demonstration', 'scale', 'sent'),
    [
        ('auto', True, 'none', False),
        ('auto', True, 'fixed', True),
        ('auto', False, 'none', True),
        ('auto', False, 'fixed', True),
        ('true', True, 'none', True),
        ('false', False, 'fixed', False),
    ],
)
def test_a_transform_is_sent_only_where_somebody_vouches_for_it(
    network, monkeypatch, publish_tf, demonstration, scale, sent
):
    monkeypatch.setattr(network, 'demonstration', demonstration)
    bench = Gated(network, publish_tf=publish_tf, scale_source=scale)
    assert bench.sends() is sent
    assert bool(bench.gate.withheld()) is not sent
    if publish_tf == 'auto' and not sent:
        assert 'the weights are untrained and the scale is not metric' in bench.gate.withheld()
        assert bench.told == bench.gate.conditions() == [bench.gate.withheld()], 'told once, before the first image'
    else:
        assert bench.gate.conditions() == [], 'what a user has decided is no warning'


def test_weights_say_themselves_that_they_are_for_demonstration(network, tmp_path):
    assert network.demonstration and load_network('tiny').demonstration
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    for said, expected in (('true', True), ('false', False), (None, False)):
        path = tmp_path / f'{said}.safetensors'
        about = {checkpoint.PRESET_KEY: 'nano', **({checkpoint.DEMONSTRATION_KEY: said} if said else {})}
        save_file(state, path, about)
        assert load_network(str(path)).demonstration is expected


def test_a_scale_that_gets_metric_late_and_is_lost_begins_and_ends_it_without_a_jump(network):
    """What goes out is the odometry as it is then: it went on all the while, and so does the transform."""
    bench = Gated(network, scale_source='depth')
    assert not any(bench.sends() for _ in range(4))
    before = pose(bench.last)
    assert not np.allclose(before, np.eye(4)), 'the odometry has moved from the origin by then'
    for index in (5, 6, 7):  # it takes three that agree
        bench.perception.scale.add_depth(START_NS + index * STEP_NS, np.full(SIZE, 2.0, np.float32))
    while not bench.sends():
        assert bench.index < 7
        before = pose(bench.last)
    assert bench.index == 7 and bench.gate.withheld() == ''
    moved = np.linalg.inv(before) @ pose(bench.last)
    again = Gated(network, scale_source='fixed', scale_fixed=bench.perception.scale.state.scale)
    poses = [pose(again.see(index)) for index in range(1, 8)]
    np.testing.assert_allclose(moved, np.linalg.inv(poses[-2]) @ poses[-1], rtol=1e-4, atol=1e-6)
    last = pose(bench.last)
    bench.perception.ask_for_reset()
    assert not bench.sends(), 'a new stream has a unit of its own'
    np.testing.assert_allclose(pose(bench.last), last, atol=1e-9)
    assert [text.split(':')[0] for text in bench.told] == [
        'nothing is sent to /tf',
        'the odometry is sent to /tf from now on',
        'nothing is sent to /tf',
    ]


def test_others_who_move_the_frame_hold_it_back_for_good(network):
    bench = Gated(network, publish_tf='true', startup_timeout=2.0)
    assert bench.sends()
    bench.other('odom', pose(bench.last))
    assert bench.sends(), 'that was ours, come back'
    bench.other('vslam_odom', pose(bench.last))
    assert not bench.sends()
    bench.now += 3600.0
    assert not bench.sends(), 'no time brings it back'
    assert bench.faults.counts() == {'second_parent': 1}
    assert 'somebody else publishes vslam_odom -> base_link' in bench.faults.last
    assert bench.gate.conditions() == [bench.gate.withheld()]
    assert not bench.sends(frame='another_camera') and bench.movers.listened_s() == 0.0
    assert not bench.sends(), 'nor does another camera in between'
    bench.movers.forget(silent_s=2.0)  # as ~/reset and a new activation do
    assert bench.sends() and bench.gate.withheld() == ''
    bench.other('vslam_odom', pose(bench.last))
    counted = bench.faults.counts()['second_parent']
    assert not bench.sends() and bench.faults.counts()['second_parent'] == counted + 1


def test_others_before_the_first_image_are_heard(network):
    bench = Gated(network, publish_tf='true')
    header = Header(frame_id='odom')
    bench.movers.hear(serialize_message(TFMessage(transforms=[transform_from_pose(np.eye(4), header, 'base_link')])))
    assert not bench.sends() and bench.faults.counts() == {'second_parent': 1}


def test_a_frame_that_was_moved_until_the_mount_was_known_is_left_alone(network):
    """A prediction that is made while the first image with the mount is in work: the camera has a parent by now."""
    bench = Gated(network, publish_tf='true', startup_timeout=0.0)
    assert bench.sends(frame='late_cam') and bench.last.transform.child_frame_id == 'late_cam'
    before = bench.last.transform
    bench.static.update([transform_from_pose(np.eye(4), Header(frame_id='base_link'), 'late_cam')])
    assert bench.sends(frame='late_cam') and bench.last.transform.child_frame_id == 'base_link'
    assert not bench.gate.admits(before) and bench.gate.admits(bench.last.transform)


def test_the_first_transform_waits_until_others_could_be_heard(network):
    bench = Gated(network, publish_tf='true', startup_timeout=20.0)
    assert not bench.sends() and 'listened to for 20 s' in bench.gate.withheld()
    assert bench.gate.conditions() == [] and bench.faults.counts() == {}
    waited: list[float] = []
    bench.gate.wait(SimpleNamespace(wait=waited.append))
    assert waited == [], 'only the first image waits'
    bench.now += 15.0
    assert bench.sends()


@pytest.mark.parametrize(('publish_tf', 'expected'), [('true', [0.5, 0.0]), ('auto', []), ('false', [])])
def test_the_first_image_waits_for_others_unless_nothing_would_be_sent(network, publish_tf, expected):
    bench = Gated(network, publish_tf=publish_tf, startup_timeout=2.0)
    bench.movers.start()
    waited: list[float] = []
    for seconds in (1.5, 3.0):
        bench.now += seconds
        bench.gate.wait(SimpleNamespace(wait=waited.append))
    assert waited == expected


def test_others_are_no_fault_where_nothing_would_be_sent(network):
    """The wheels move the robot and give the scale, as in the example for Nav2."""
    bench = Gated(network, publish_tf='false')
    bench.sends()
    bench.other('odom', np.eye(4))
    assert not bench.sends() and bench.faults.counts() == {} and bench.gate.withheld() == 'publish_tf is false'


@pytest.mark.parametrize(
    ('given', 'taken'), [(True, 'true'), (False, 'false'), ('true', 'true'), ('false', 'false'), ('auto', 'auto')]
)
def test_a_boolean_decides_alone(given, taken):
    assert parameters.from_values({'publish_tf': given}).publish_tf == taken


@pytest.mark.parametrize('given', [1, 'maybe', 1.0, 'True'])
def test_what_is_neither_is_refused(given):
    with pytest.raises(ValueError, match='not one of auto, true, false'):
        parameters.from_values({'publish_tf': given})
