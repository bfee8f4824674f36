# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Streams that relieve each other: one gauge, no jumps, a good moment, and what happens when a hand-over fails."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evict3r_ros import geometry
from evict3r_ros.cache import CacheConfig
from evict3r_ros.camera.view import ImageView
from evict3r_ros.errors import UserError
from evict3r_ros.mapping import SegmentedStream, SegmentSettings
from evict3r_ros.mapping.keyframes import KeyframeChooser
from evict3r_ros.network import load_network
from evict3r_ros.stream import Prediction, Stream, StreamStats
from evict3r_ros.synthetic.clips import render_clips

SIZE = (14, 28)
K = np.array([[20.0, 0.0, 14.0], [0.0, 20.0, 7.0], [0.0, 0.0, 1.0]])
SETTINGS = SegmentSettings(length=20, overlap=8, patience=6, ease=4)


def image_of(number, blank=False):
    """Return an image that tells its number to a FakeStream."""
    image = np.zeros((*SIZE, 3), np.uint8)
    if not blank:
        image[:, ::2] = 200
    image[0, 0] = number // 65536, number // 256 % 256, number % 256
    return image


class FakeStream:
    """Knows the true path; answers in a gauge of its own: its first camera, and a unit that changes with each reset."""

    def __init__(self, path, unit, drift=0.0):
        self.path, self.unit, self.drift = path, unit, drift
        self.first, self.seen, self.remembered, self.resets = None, 0, 0, 0
        self.failing = None

    def step(self, image, remember=True):
        if self.failing is not None and not isinstance(self.failing, str):
            raise self.failing
        number = int(image[0, 0].astype(int) @ [65536, 256, 1])
        pose = self.path[number]
        if self.first is None:
            self.first = geometry.invert(pose)
        own = self.first @ pose
        own[:3, 3] *= self.unit
        own[:3, :3] = own[:3, :3] @ geometry.rotation_from_vector(np.array([0.0, self.drift * self.seen, 0.0]))
        depth = torch.full(SIZE, 3.0 * self.unit)
        if self.failing == 'nan':
            own, depth = np.full((4, 4), np.nan), depth * torch.nan
        self.seen += 1
        self.remembered += remember
        view = ImageView.whole(SIZE)
        confidence = torch.full(SIZE, 2.0)
        return Prediction(self.seen - 1, depth, confidence, torch.as_tensor(image), own, K, view)

    def reset(self):
        self.first, self.seen, self.remembered = None, 0, 0
        self.resets += 1
        self.unit *= 1.5

    def close(self):
        pass

    def stats(self):
        return StreamStats(self.seen, [self.remembered], [9], 100, self.seen)


def straight(frames, step=0.1):
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, 2, 3] = step * np.arange(frames)
    return poses


def winding(frames):
    """Return a path forwards, with slow turns to both sides and up and down."""
    poses = straight(frames)
    for index, pose in enumerate(poses):
        pose[:3, :3] = geometry.rotation_from_vector(np.array([0.1 * np.sin(index / 9), 0.3 * np.sin(index / 30), 0.0]))
        pose[0, 3] = np.sin(index / 20)
    return geometry.invert(poses[0]) @ poses


def segmented(path, settings=SETTINGS, drift=0.0):
    return SegmentedStream(FakeStream(path, 1.0, drift), FakeStream(path, 0.4, drift), settings)


def run(stream, numbers):
    return [stream.step(image_of(number)) for number in numbers]


def test_streams_that_are_right_chain_to_the_true_path_in_one_gauge():
    path = winding(300)
    stream = segmented(path)
    answers = run(stream, range(300))
    assert stream.stats().segments > 8 and stream.stats().failed == {}
    np.testing.assert_allclose(np.stack([answer.world_from_camera for answer in answers]), path, atol=1e-6)
    assert all(torch.allclose(answer.depth, torch.tensor(3.0)) for answer in answers)
    assert [answer.index for answer in answers] == list(range(300))
    assert len(stream.edges) == stream.stats().segments - 1
    assert all(edge.deviation.max() < 1e-6 for edge in stream.edges)


def test_the_pose_does_not_jump_at_a_hand_over():
    path = winding(200)
    answers = run(segmented(path, drift=0.01), range(200))
    assert_smooth(answers, path, 0.06, 0.05)


def assert_smooth(answers, path, most_turn, most_way):
    for index in range(1, len(answers)):
        motion = geometry.invert(answers[index - 1].world_from_camera) @ answers[index].world_from_camera
        true = geometry.invert(path[index - 1]) @ path[index]
        assert np.linalg.norm(geometry.rotation_vector(motion[:3, :3] @ true[:3, :3].T)) < most_turn
        assert np.linalg.norm(motion[:3, 3] - true[:3, 3]) < most_way


def test_drift_of_a_stream_starts_anew_with_each_segment():
    path = straight(300)

    def worst(settings):
        answers = run(segmented(path, settings, drift=0.002), range(300))
        return max(np.linalg.norm(geometry.rotation_vector(answer.world_from_camera[:3, :3])) for answer in answers)

    # A drift that is even in time is not cured by a new start: the chain adds it up; but it is not doubled either.
    alone = worst(SegmentSettings(length=1000))
    assert alone == pytest.approx(0.002 * 299, rel=0.01)
    assert worst(SETTINGS) < 1.05 * alone


def test_a_camera_that_stands_still_hands_nothing_over():
    path = straight(1000, step=0.0)
    stream = segmented(path)
    run(stream, range(1000))
    assert (stream.stats().segments, stream.stats().keyframes) == (1, 1)


def test_a_new_stream_waits_for_the_end_of_a_turn_but_not_for_ever():
    frames, rate = 60, 0.1
    poses = straight(frames)
    angles = rate * np.clip(np.arange(frames) - 15, 0, 8)
    for pose, angle in zip(poses, angles, strict=True):
        pose[:3, :3] = geometry.rotation_from_vector(np.array([0.0, angle, 0.0]))
    stream = segmented(poses)
    began = began_at(stream, frames)
    # Keyframe 21 is in mid-turn, which ends at frame 23; the rate is taken over five frames.
    assert 23 < began < 27
    for index, pose in enumerate(poses):
        pose[:3, :3] = geometry.rotation_from_vector(np.array([0.0, rate * index, 0.0]))
    assert began_at(segmented(poses), frames) == SETTINGS.length + SETTINGS.patience


def began_at(stream, frames):
    for number in range(frames):
        stream.step(image_of(number))
        if stream.streams[1].seen:
            return number
    raise AssertionError('no second stream began')


def test_a_blank_image_begins_nothing_and_ends_an_overlap():
    stream = segmented(straight(200))
    for number in range(40):
        stream.step(image_of(number, blank=15 <= number < 30))
        assert stream.streams[1].seen == 0 or number >= 30
    assert stream.stats().segments == 2
    stream = segmented(straight(200))
    for number in range(100):
        stream.step(image_of(number, blank=number == 23))
        if number == 23:
            assert stream.streams[1].seen == 0 and stream.stats().failed == {'blank image': 1}
    assert stream.stats().segments > 3


@pytest.mark.parametrize(
    ('failing', 'reason'), [(torch.OutOfMemoryError('full'), 'out of memory'), ('nan', 'no numbers')]
)
def test_a_second_stream_that_fails_leaves_the_first_alone(failing, reason):
    path = winding(200)
    stream = segmented(path)
    stream.streams[1].failing = failing
    answers = run(stream, range(80))
    assert stream.stats().segments == 1 and stream.stats().failed[reason] > 1
    stream.streams[1].failing = None
    answers += run(stream, range(80, 200))
    assert stream.stats().segments > 3
    np.testing.assert_allclose(np.stack([answer.world_from_camera for answer in answers]), path, atol=1e-6)


def test_a_first_stream_that_fails_says_so_and_reset_starts_over():
    path = winding(100)
    stream = segmented(path)
    run(stream, range(30))
    stream.streams[0].failing = torch.OutOfMemoryError('full')
    with pytest.raises(torch.OutOfMemoryError):
        stream.step(image_of(30))
    stream.streams[0].failing = None
    stream.reset()
    answer = stream.step(image_of(50))
    assert answer.index == 0 and stream.segment == 0 and not stream.edges
    np.testing.assert_allclose(answer.world_from_camera, np.eye(4), atol=1e-12)


@pytest.mark.parametrize(
    'settings',
    [{'overlap': 3}, {'length': 16}, {'most_turn': 0.0}, {'patience': -1}, {'remember': 'some'}, {'coverage': 2.0}],
)
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(UserError):
        SegmentSettings(**settings)


def test_with_a_network_each_segment_is_a_stream_of_its_own():
    network = load_network('random', 'small')
    config = CacheConfig('uniform', tokens=400, camera_frames=16)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 160, 3), dtype=np.uint8) for _ in range(30)]
    settings = SegmentSettings(length=8, overlap=6, motion=0.0, most_turn=9.0, ease=0)
    with SegmentedStream.open(network, config, (48, 160), settings=settings) as stream:
        answers, segments = [], []
        for image in images:
            answers.append(stream.step(image))
            segments.append(stream.segment)
        assert stream.stats().streams[0].cache_bytes == stream.stats().streams[1].cache_bytes
        chain = stream.edges[0].old_from_new
    begin = segments.index(1)
    with Stream(network, config, (48, 160)) as alone:
        first = [alone.step(image) for image in images[:begin]]
        alone.reset()
        second = [alone.step(image) for image in images[begin - settings.overlap : begin + 1]]
    for answer, own in zip(answers, first, strict=False):
        np.testing.assert_array_equal(answer.world_from_camera, own.world_from_camera)
        assert torch.equal(answer.depth, own.depth)
    np.testing.assert_allclose(answers[begin].world_from_camera, chain.pose(second[-1].world_from_camera), atol=1e-6)
    torch.testing.assert_close(answers[begin].depth, second[-1].depth * chain.scale)


def jittering(frames, jitter):
    """Return poses of a camera that goes forwards, then stands still while its poses tremble, then goes on."""
    rng = np.random.default_rng(5)
    poses = straight(frames + 80)
    poses[40:-40] = poses[40]
    poses[-40:] = straight(40)
    poses[-40:, 2, 3] += poses[40, 2, 3] + 0.1
    for pose in poses[40:-40]:
        pose[:3, :3] = geometry.rotation_from_vector(jitter * rng.normal(size=3))
        pose[:3, 3] += 3.0 * jitter * rng.normal(size=3)
    return poses


def test_a_camera_that_stands_still_for_thousands_of_frames_adds_nothing_and_forgets_nothing():
    settings = SegmentSettings(length=20, overlap=8, patience=6, ease=4, motion=0.06, remember='keyframes')
    stream = segmented(jittering(3000, 0.003), settings)
    run(stream, range(40))
    run(stream, range(40, 60))
    before = stream.stats()
    run(stream, range(60, 3000))
    assert stream.stats().keyframes == before.keyframes and stream.stats().segments == before.segments
    assert stream.streams[0].remembered == before.streams[0].tokens[0]
    run(stream, range(3000, 3080))
    assert stream.stats().keyframes > before.keyframes + 10, 'and when it goes on, so does the map'


def test_with_keyframes_a_frame_in_between_is_answered_and_left_out():
    path = winding(300)
    stream = segmented(path, SegmentSettings(length=20, overlap=8, motion=0.1, remember='keyframes'))
    answers = run(stream, range(300))
    np.testing.assert_allclose(np.stack([answer.world_from_camera for answer in answers]), path, atol=1e-6)
    stats = stream.stats()
    assert 40 < stats.keyframes < 150 and stats.segments > 2
    # All that the present stream remembers are its keyframes; the other 3 in 4 frames left no trace.
    assert stream.streams[0].remembered < 0.5 * stream.streams[0].seen


def test_a_part_of_the_scene_that_comes_into_sight_is_worth_a_keyframe():
    chooser = KeyframeChooser(least_motion=9.0, least_coverage=0.8)

    def prediction(turn):
        pose = geometry.transform(geometry.rotation_from_vector(np.array([0.0, turn, 0.0])), np.zeros(3))
        image = torch.zeros(*SIZE, 3, dtype=torch.uint8)
        return Prediction(0, torch.full(SIZE, 3.0), torch.ones(SIZE), image, pose, K, ImageView.whole(SIZE))

    assert chooser.is_due and chooser.observe(prediction(0.0), remembered=True)
    assert not chooser.observe(prediction(0.1), remembered=False) and not chooser.is_due
    assert not chooser.observe(prediction(0.5), remembered=False) and chooser.is_due
    assert chooser.observe(prediction(0.5), remembered=True) and not chooser.is_due


def test_standing_still_before_a_real_network_leaves_its_caches_as_they_were():
    network = load_network('tiny', 'auto', 'cpu', 'float32')
    config = CacheConfig('random', tokens=300, camera_frames=8)
    clip = render_clips([11], 8, 4, (56, 84), effects=False)
    rng = np.random.default_rng(1)
    settings = SegmentSettings(motion=0.1, coverage=0.5, remember='keyframes')
    with SegmentedStream.open(network, config, (56, 84), 84, settings=settings) as stream:
        for image in clip.images[0]:
            stream.step(image)
        still = clip.images[0, -1].numpy()

        def step():
            return stream.step((still + rng.normal(0.0, 3.0, still.shape)).clip(0, 255).astype(np.uint8))

        for _ in range(3):
            step()
        first, before = stream.streams[0], stream.stats()
        kept = [first.cache.kept(layer) for layer in range(len(first.stats().tokens))]
        pool, answer = first.cache.pool._storage.clone(), step()
        for _ in range(30):
            last = step()
        assert stream.stats().keyframes == before.keyframes
        assert torch.equal(first.cache.pool._storage, pool)
        assert all(torch.equal(first.cache.kept(layer), tokens) for layer, tokens in enumerate(kept))
        turned = geometry.rotation_vector(answer.world_from_camera[:3, :3].T @ last.world_from_camera[:3, :3])
        assert np.linalg.norm(turned) < 0.1
