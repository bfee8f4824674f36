# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Candidates, their verification, and a map that closes loops beside the stream."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from test_mapping_segments import SIZE, FakeStream, K, image_of

from evict3r_ros import geometry
from evict3r_ros.camera.view import ImageView
from evict3r_ros.errors import UserError
from evict3r_ros.mapping import MappingSettings, SegmentedStream, SegmentSettings, mapping_defaults, mapping_settings
from evict3r_ros.mapping.candidates import CandidateSettings, find_candidate
from evict3r_ros.mapping.descriptor import Describer, DescriptorIndex
from evict3r_ros.mapping.loop_closure import LoopVerifier, VerificationSettings, View, share_of_inliers
from evict3r_ros.mapping.map_file import MapFile
from evict3r_ros.mapping.mapper import Mapper
from evict3r_ros.mapping.path import corrected_path
from evict3r_ros.mapping.sim3 import Sim3
from evict3r_ros.network import load_network
from evict3r_ros.stream import Prediction

LAP = 100
LAPS = MappingSettings(
    SegmentSettings(length=1000),
    CandidateSettings(gap=30, neighbours=2),
    VerificationSettings(inliers=0.6),
    spacing=0.01,
    rest=2,
)


def round_and_round(frames=LAP, laps=2, radius=3.0):
    """Return poses that go round a circle in a box, looking outwards."""
    angles = 2.0 * np.pi * np.arange(frames * laps) / frames
    poses = [
        geometry.transform(
            geometry.rotation_from_vector(np.array([0.0, angle, 0.0])),
            radius * np.array([np.sin(angle), 0.0, np.cos(angle)]),
        )
        for angle in angles
    ]
    return np.stack([geometry.invert(poses[0]) @ pose for pose in poses])


class RoundStream(FakeStream):
    """Sees a round wall about the path; drifts in heading and in unit with each frame of a long stream."""

    def __init__(self, path, turn=0.0, stretch=0.0):
        super().__init__(path, 1.0)
        self.turn, self.stretch = turn, stretch
        self.pose = np.eye(4)
        self.before = None

    def step(self, image, remember=True):
        truth = self.path[int(image[0, 0].astype(int) @ [65536, 256, 1])]
        scale = np.exp(self.stretch * self.seen)
        if self.before is not None:
            step = geometry.invert(self.before) @ truth
            step[:3, 3] *= scale
            step[:3, :3] = step[:3, :3] @ geometry.rotation_from_vector(np.array([0.0, self.turn, 0.0]))
            self.pose = self.pose @ step
        self.before = truth
        self.seen += 1
        depth = torch.full((4 * SIZE[0], 4 * SIZE[1]), 2.0 * scale)
        seen = torch.as_tensor(np.kron(image, np.ones((4, 4, 1), np.uint8)))
        camera = K.copy()
        camera[:2] *= 4.0
        return Prediction(
            self.seen - 1,
            depth,
            torch.ones_like(depth),
            seen,
            self.pose.copy(),
            camera,
            ImageView.whole(tuple(depth.shape)),
        )

    def reset(self):
        super().reset()
        self.pose, self.before = np.eye(4), None


class Truthful(RoundStream):
    """What a verification sees: the stored images, enlarged."""

    def step(self, image, remember=True):
        return super().step(image[::4, ::4])


def describe_place(image):
    """Stand in for a descriptor: where on the lap the image was taken."""
    number = int(image[0, 0].astype(int) @ [65536, 256, 1])
    angle = 2.0 * np.pi * (number % LAP) / LAP
    return np.array([np.sin(angle), np.cos(angle), 1.0, 0.0], np.float32) / np.sqrt(2.0)


@pytest.fixture
def exact_images(monkeypatch):
    """Keep the images of keyframes as they are: their pixels carry their number."""
    import cv2

    from evict3r_ros.mapping import map_file

    monkeypatch.setattr(map_file, 'JPEG_QUALITY', 100)
    encode = cv2.imencode
    monkeypatch.setattr(map_file.cv2, 'imencode', lambda kind, image, options: encode('.png', image))


def go_round(
    target, turn=0.003, stretch=0.002, verifier=None, background=False, settings=LAPS, describe=describe_place
):
    path = round_and_round()
    stream = SegmentedStream(RoundStream(path, turn, stretch), RoundStream(path, turn, stretch), settings.segments)
    verifier = verifier or LoopVerifier(Truthful(path), settings.verification)
    answers = []
    with Mapper(target, describe, verifier, settings, background) as mapper:
        for number in range(len(path)):
            answers.append(stream.step(image_of(number)).world_from_camera)
            mapper.observe(number, stream)
    return path, np.stack(answers), mapper


@pytest.fixture
def target(tmp_path):
    with MapFile(tmp_path / 'map.db', 'weights', write=True) as opened:
        yield opened


def heading_error(poses, path):
    return np.mean(
        [np.linalg.norm(geometry.rotation_vector(a[:3, :3].T @ b[:3, :3])) for a, b in zip(poses, path, strict=True)]
    )


@pytest.mark.parametrize('background', [False, True])
def test_the_second_lap_closes_the_first_and_the_map_keeps_it(target, exact_images, background):
    path, answers, mapper = go_round(target, background=background)
    stats = mapper.stats()
    assert stats.keyframes == 2 * LAP and stats.loops == len(mapper.accepted) > 5, stats
    assert all(new - old == LAP for old, new in mapper.accepted)
    corrected = corrected_path(np.arange(2 * LAP), answers, mapper.corrections())
    assert heading_error(corrected[LAP:], path[LAP:]) < 0.5 * heading_error(answers[LAP:], path[LAP:])
    in_map = np.stack([pose for _, _, pose in target.poses()])
    np.testing.assert_allclose(in_map, corrected, atol=1e-6)
    assert target.summary().loops == stats.loops and len(target.loops()) == stats.loops
    assert mapper.latest_correction().scale < 0.9


class Blind(Truthful):
    """Another place that only looks the same: what it says of the second stretch is not what it is."""

    def step(self, image, remember=True):
        prediction = super().step(image, remember)
        rng = np.random.default_rng(self.seen)
        prediction.world_from_camera[:3, :3] = geometry.rotation_from_vector(rng.normal(size=3))
        return prediction


def test_a_network_that_finds_no_way_between_two_views_closes_nothing_and_says_why(target, exact_images):
    verifier = LoopVerifier(Blind(round_and_round()), LAPS.verification)
    _, answers, mapper = go_round(target, verifier=verifier)
    stats = mapper.stats()
    assert stats.loops == 0 and sum(stats.rejected.values()) == stats.candidates > 5
    assert stats.rejected['directions disagree'] > 5
    assert 'residual of an edge' not in stats.rejected, 'none came so far'
    np.testing.assert_allclose(corrected_path(np.arange(2 * LAP), answers, mapper.corrections()), answers, atol=1e-9)


def test_identical_rooms_are_not_closed(target, exact_images):
    """Half a lap looks like the other half: descriptors and networks see one room where odometry knows two."""
    path = round_and_round(LAP)
    half = LAP // 2

    def same(image):
        return describe_place(image_of(2 * (int(image[0, 0].astype(int) @ [65536, 256, 1]) % half)))

    class Fooled(Truthful):
        def __init__(self):
            super().__init__(np.concatenate([path[:half]] * 4))

    _, _, mapper = go_round(
        target, turn=0.0, stretch=0.0, verifier=LoopVerifier(Fooled(), LAPS.verification), describe=same
    )
    false = [(old, new) for old, new in mapper.accepted if (new - old) % LAP]
    assert false == [] and mapper.stats().candidates > 5
    assert any(reason.startswith('residual') for reason in mapper.stats().rejected), mapper.stats()


def test_observe_does_not_wait_for_a_verification(target, exact_images):
    """A verification that never ends stops nobody: all frames are answered meanwhile."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(LoopVerifier):
        def verify(self, old, new):
            begun.set()
            assert go_on.wait(30.0)
            return 'slow'

    path = round_and_round()
    stream = SegmentedStream(RoundStream(path), RoundStream(path), LAPS.segments)
    with Mapper(target, describe_place, Slow(Truthful(path), LAPS.verification), LAPS) as mapper:
        for number in range(2 * LAP):
            stream.step(image_of(number))
            mapper.observe(number, stream)
        assert begun.wait(30.0) and not go_on.is_set()
        go_on.set()
    assert mapper.stats().rejected['slow'] > 5 and mapper.stats().loops == 0
    assert mapper.stats().keyframes == 2 * LAP


def test_candidates_are_alike_far_apart_in_time_and_in_their_neighbours():
    index = DescriptorIndex()
    for number in range(2 * LAP):
        index.add(number, describe_place(image_of(number)))
    settings = CandidateSettings(gap=30)
    assert all(find_candidate(index, new, settings) is None for new in range(90))
    found = find_candidate(index, 130, settings)
    assert (found.old, found.new, found.direction) == (30, 130, 1)
    back = DescriptorIndex()
    for number in (*range(LAP), *range(LAP - 1, 0, -1)):
        back.add(len(back), describe_place(image_of(number)))
    found = find_candidate(back, LAP + 50, settings)
    assert found.direction == -1 and found.old == LAP - 51
    alone = DescriptorIndex()
    rng = np.random.default_rng(0)
    for number in range(120):
        vector = rng.normal(size=64) + 10.0
        alone.add(number, (vector / np.linalg.norm(vector)).astype(np.float32))
    # One image that looks like another, among neighbours that do not.
    alone._matrix[100] = alone._matrix[20]
    assert find_candidate(alone, 100, CandidateSettings(distance=0.5)) is None
    assert find_candidate(alone, 100, CandidateSettings(distance=0.5, neighbours=0)).old == 20


def test_the_index_keeps_what_it_is_told_to():
    index, rng = DescriptorIndex(), np.random.default_rng(0)
    vectors = rng.normal(size=(700, 8)).astype(np.float32)
    for number, vector in enumerate(vectors):
        index.add(3 * number, vector)
    np.testing.assert_allclose(index.similarities(slice(0, 2)), vectors @ vectors[:2].T, rtol=1e-5)
    assert index.row(30) == 10 and index.bytes < 4 * vectors.nbytes
    index.keep(np.array([0, 30, 33]))
    assert len(index) == 3 and index.row(33) == 2
    np.testing.assert_allclose(index.similarities(slice(1, 2))[2], vectors[11] @ vectors[10], rtol=1e-5)
    with pytest.raises(KeyError):
        index.row(3)
    with pytest.raises(ValueError, match='follow'):
        index.add(33, vectors[0])


def test_a_descriptor_knows_a_view_again():
    from evict3r_ros.synthetic.clips import render_clips

    clip = render_clips([3], 8, 6, (56, 84))
    describe = Describer(load_network('tiny', 'auto', 'cpu', 'float32'))
    rng = np.random.default_rng(0)
    first = np.stack([describe(image) for image in clip.images[0].numpy()])
    noisy = (clip.images[0].numpy() + rng.normal(0, 4, clip.images[0].shape)).clip(0, 255).astype(np.uint8)
    again = np.stack([describe(image) for image in noisy])
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1.0, rtol=1e-5)
    assert ((again @ first.T).argmax(axis=1) == np.arange(8)).all()


def test_inliers_are_of_the_same_surface_and_need_something_to_see():
    depth = np.full(SIZE, 2.0)
    camera = K.copy()
    camera[:2] *= 4.0
    view = View(np.zeros((56, 112, 3), np.uint8), np.eye(4), depth, np.ones(SIZE), camera)
    assert share_of_inliers(view, view, Sim3.identity()) == 1.0
    assert share_of_inliers(view, view, Sim3(2.0, np.eye(3), np.zeros(3))) == 0.0
    assert share_of_inliers(view, view, Sim3(1.0, np.eye(3), np.array([0.0, 0.0, 1.0]))) == 0.0
    away = Sim3(1.0, geometry.rotation_from_vector(np.array([0.0, 3.0, 0.0])), np.zeros(3))
    assert share_of_inliers(view, view, away) == 0.0


def test_settings_have_one_name_each_and_are_refused_where_they_cannot_work():
    names = mapping_defaults()
    parts = (SegmentSettings, CandidateSettings, VerificationSettings)
    assert len(names) == 3 + 5 + sum(len(part.__dataclass_fields__) for part in parts)
    assert mapping_settings({'length': 50, 'gap': 60, 'rest': 3}) == MappingSettings(
        SegmentSettings(length=50), CandidateSettings(gap=60), rest=3
    )
    for wrong in ({'gap': 3}, {'window': 3}, {'inliers': 2.0}, {'rest': 0}, {'agree_turn': 0.0}):
        with pytest.raises(UserError):
            mapping_settings(wrong)
