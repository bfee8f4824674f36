# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Player to recorder over real DDS, between two contexts: every byte arrives, times are kept, the pace is held."""

from __future__ import annotations

import contextlib
import threading
import time

import numpy as np
import pytest

from evict3r_ros.errors import UserError
from evict3r_ros.io.bag import BagReader, BagWriter, header_stamp_ns
from evict3r_ros.io.image_bag import CAMERA_INFO, IMAGE, TF, CameraTopics, write_image_bag
from evict3r_ros.io.image_folder import CameraModel
from evict3r_ros.io.stamps import nanoseconds

pytest.importorskip('rclpy', reason='ROS is not installed')
from evict3r_ros.msg import StreamStatus
from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from tf2_msgs.msg import TFMessage

from evict3r_ros.ros.messages.message_types import definition_text, message_class, message_name
from evict3r_ros.ros.tools.answer_timer import AnswerTimer
from evict3r_ros.ros.tools.middleware import Domain
from evict3r_ros.ros.tools.player import Player
from evict3r_ros.ros.tools.recorder import Recorder
from evict3r_ros.ros.tools.session import Session

pytestmark = [pytest.mark.ros, pytest.mark.timeout(60)]

FRAMES = 12
TOPICS = CameraTopics()
START = 1403638538577829376


@pytest.fixture
def played(tmp_path):
    """Return a bag of small images, 50 ms apart."""
    base = np.eye(4)
    camera = CameraModel.pinhole('cam0', 64, 48, np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]), base)
    random = np.random.default_rng(0)
    frames = (
        (START + index * 50_000_000, random.integers(0, 256, (48, 64), dtype=np.uint8)) for index in range(FRAMES)
    )
    write_image_bag(tmp_path / 'played', frames, camera, TOPICS)
    return tmp_path / 'played'


def until(condition, timeout_s=15.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, 'took too long'
        time.sleep(0.02)


def test_everything_arrives_as_it_was(played, tmp_path):
    heard = threading.Semaphore(0)
    topics = {TOPICS.image: IMAGE, TOPICS.camera_info: CAMERA_INFO}
    with (
        BagReader(played) as bag,
        Session('player') as here,
        Session('recorder') as there,
        BagWriter(tmp_path / 'recorded') as output,
    ):
        player = Player(here.node, bag)
        with Recorder(
            there.node, output, topics, clock=lambda: player.time_ns, received=lambda topic, raw: heard.release()
        ) as recorder:
            until(lambda: all(player.has_listener(topic) for topic in topics) and recorder.hears_all())
            # A late subscriber to the latched topic hears it all the same.
            for topic, time_ns, raw in player.due(rate=None):
                player.publish(topic, time_ns, raw)
                if topic in topics:
                    assert heard.acquire(timeout=10), f'{topic} at {time_ns} did not arrive'
            late = threading.Event()
            there.node.create_subscription(
                message_class(TF), '/tf_static', lambda message: late.set(), latched_quality()
            )
            assert late.wait(10)
        there.check()
    with BagReader(played) as sent, BagReader(tmp_path / 'recorded') as recorded:
        assert recorded.topics[TOPICS.image].count == FRAMES
        for topic in topics:
            # Stamps, bytes and the bag's own times are all as they were.
            assert list(recorded.raw([topic])) == list(sent.raw([topic]))
        assert [header_stamp_ns(raw) for _, _, raw in recorded.raw([TOPICS.image])] == [
            START + index * 50_000_000 for index in range(FRAMES)
        ]


def latched_quality():
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def test_a_late_subscriber_is_given_every_static_transform(tmp_path):
    """Many publishers told one each, and the recorder forgot that they are latched; the player is one publisher."""
    with BagWriter(tmp_path / 'bag') as bag:
        bag.add_topic('/tf_static', TF)
        for number in range(30):
            transforms = [TransformStamped(child_frame_id=f'frame_{number}')]
            bag.write_raw('/tf_static', number, serialize_message(TFMessage(transforms=transforms)))
    heard = []
    with BagReader(tmp_path / 'bag') as bag, Session('player') as here, Session('late') as there:
        player = Player(here.node, bag)
        for topic, time_ns, raw in player.due(rate=None):
            player.publish(topic, time_ns, raw)
        quality = latched_quality()
        quality.depth = 100
        there.node.create_subscription(
            TFMessage, '/tf_static', lambda message: heard.append(message.transforms[0].child_frame_id), quality
        )
        until(lambda: len(heard) == 30)
    assert heard == [f'frame_{number}' for number in range(30)]


def test_the_clock_is_told_before_the_data_and_the_pace_is_held(played):
    sent_at = {'clock': [], 'image': []}  # (bag time, when it was published)
    with BagReader(played) as bag, Session('player') as here, Session('listener') as there:
        player = Player(here.node, bag, [TOPICS.image])

        def hear_clock(message, info):
            sent_at['clock'].append((nanoseconds(message.clock), info['source_timestamp']))

        def hear_image(message, info):
            sent_at['image'].append((nanoseconds(message.header.stamp), info['source_timestamp']))

        there.node.create_subscription(Clock, '/clock', hear_clock, 100)
        there.node.create_subscription(message_class(IMAGE), TOPICS.image, hear_image, 100)
        until(lambda: player.has_listener(TOPICS.image) and here.node.count_subscribers('/clock') > 0)
        time.sleep(0.2)
        started = time.monotonic()
        for topic, time_ns, raw in player.due(rate=0.5):
            player.publish(topic, time_ns, raw)
            assert player.time_ns == time_ns
        took = time.monotonic() - started
        until(lambda: len(sent_at['clock']) == len(sent_at['image']) == FRAMES)
    for (clock, clock_sent), (image, image_sent) in zip(sent_at['clock'], sent_at['image'], strict=True):
        assert clock == image and clock_sent < image_sent
    expected = (FRAMES - 1) * 0.05 / 0.5
    assert expected - 0.05 < took < expected + 1.0


def test_unknown_topics_and_rates_are_refused(played):
    with BagReader(played) as bag, Session('player') as session:
        with pytest.raises(UserError, match='no topic /lidar'):
            Player(session.node, bag, ['/lidar'])
        with pytest.raises(ValueError, match='rate must be'):
            next(Player(session.node, bag).due(rate=0.0))


def test_a_bag_of_types_not_installed_here_is_refused(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.add_topic('/other', 'other_msgs/msg/Other', definition='string data\n')
    with (
        BagReader(tmp_path / 'bag') as bag,
        Session('player') as session,
        pytest.raises(UserError, match='other_msgs/msg/Other is not installed'),
    ):
        Player(session.node, bag)


def test_a_callback_that_fails_is_not_lost():
    with Session('failing') as session:
        session.node.create_timer(0.01, lambda: 1 / 0)
        until(lambda: session.failure is not None)
        with pytest.raises(ZeroDivisionError):
            session.check()


def test_our_status_is_recorded_with_its_definition(tmp_path):
    name = message_name(StreamStatus)
    assert name == 'evict3r_ros/msg/StreamStatus' and message_class(name) is StreamStatus
    arrived = threading.Event()
    with Session('sender') as here, Session('recorder') as there, BagWriter(tmp_path / 'bag') as bag:
        publisher = here.node.create_publisher(StreamStatus, 'status', 1)
        with Recorder(there.node, bag, {'/status': name}, clock=lambda: 77, received=lambda *_: arrived.set()):
            until(lambda: publisher.get_subscription_count() > 0)
            time.sleep(0.2)
            publisher.publish(
                StreamStatus(weights='random (UNTRAINED)', tokens=[1, 2, 3], frames_processed=9, scale=0.5)
            )
            assert arrived.wait(10)
    with BagReader(tmp_path / 'bag') as bag:
        ((topic, time_ns, status),) = bag.messages()
    assert (topic, time_ns, status.weights, status.frames_processed) == ('/status', 77, 'random (UNTRAINED)', 9)
    assert status.tokens.tolist() == [1, 2, 3] and status.scale == 0.5


@pytest.mark.parametrize(
    'name',
    [
        'sensor_msgs/msg/CameraInfo',
        'sensor_msgs/msg/PointCloud2',
        'nav_msgs/msg/Odometry',
        'rcl_interfaces/msg/ParameterValue',
        'rosgraph_msgs/msg/Clock',
    ],
)
def test_definitions_made_from_classes_are_the_real_ones(name):
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    known = get_typestore(Stores.ROS2_KILTED)
    ours = get_types_from_msg(definition_text(message_class(name)), name)
    assert ours[name][1] == known.fielddefs[name][1]


def test_a_domain_of_our_own_has_nobody_in_it():
    with Domain() as domain:
        taken = domain.number
    with Session('somebody', taken) as session:
        assert session.node.context.get_domain_id() == taken
        for _ in range(200):
            with Domain() as other:
                assert other.number != taken


def test_no_two_programs_have_the_same_domain():
    with contextlib.ExitStack() as stack:
        numbers = [stack.enter_context(Domain()).number for _ in range(30)]
        assert len(set(numbers)) == 30


def test_the_timer_pairs_answers_with_what_was_sent(played):
    with BagReader(played) as bag:
        raws = [raw for _, _, raw in bag.raw([TOPICS.image])]
    stamps = [header_stamp_ns(raw) for raw in raws]
    timer = AnswerTimer({'/depth', '/points'})
    timer.sent(stamps[0], 10.0)
    timer.received('/depth', raws[0], 10.5)
    assert not timer.wait(stamps[0], 0.01)
    timer.received('/other', raws[0], 10.6)
    timer.received('/points', raws[1], 10.7)
    assert not timer.wait(stamps[0], 0.01)
    timer.received('/points', raws[0], 11.0)
    assert timer.wait(stamps[0], 0.0) and timer.latencies_s == [1.0]
