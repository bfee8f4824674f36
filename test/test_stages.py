# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Stages of a frame, the observers of a cache, and a policy that a study puts in another's place."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch

from evict3r_ros.cache import CacheConfig
from evict3r_ros.cache.policies import POLICIES
from evict3r_ros.network import load_network
from evict3r_ros.profiling.stage_clock import StageClock
from evict3r_ros.stages import on_stage, stage
from evict3r_ros.stream import Stream

SIZE = (28, 154)
STAGES = {
    'patch encoder',
    'frame blocks',
    'global blocks',
    'attention with cache, in global blocks',
    'quantization, in attention',
    'unpacking, in attention',
    'scoring by keys, in attention',
    'eviction',
    'camera head',
    'depth head',
}


@pytest.fixture(scope='module')
def network():
    return load_network('random', 'nano')


def images(count):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(count)]


def test_a_frame_marks_its_stages_inside_each_other(network):
    open_stages, inside = [], set()

    @contextmanager
    def listener(name):
        inside.add((open_stages[-1] if open_stages else None, name))
        open_stages.append(name)
        yield
        assert open_stages.pop() == name

    with Stream(network, CacheConfig('evict3r', 150), SIZE) as stream:
        with on_stage(listener):
            for image in images(2):
                stream.step(image)
        heard = set(inside)
        stream.step(images(1)[0])
    assert {name for _, name in heard} == STAGES
    assert ('global blocks', 'attention with cache, in global blocks') in heard
    assert ('attention with cache, in global blocks', 'quantization, in attention') in heard
    assert inside == heard, 'nobody listens any more'
    assert open_stages == []


def test_one_listener_at_a_time_and_none_after_an_error():
    with pytest.raises(ZeroDivisionError), on_stage(lambda name: nullcontext()):
        with pytest.raises(RuntimeError, match='already'), on_stage(lambda name: nullcontext()):
            pass
        raise ZeroDivisionError
    assert stage('anything') is stage('anything else')


def test_the_clock_sums_the_calls_of_a_frame():
    clock = StageClock(torch.device('cpu'))
    for _ in range(3):
        for _ in range(2):
            with clock('a stage'):
                pass
        clock.end_frame()
    assert [len(times) for times in clock.frames.values()] == [3]
    assert all(0.0 < time < 50.0 for time in clock.frames['a stage'])


def test_an_observer_sees_what_layers_attend_to(network):
    class Observer:
        def __init__(self, cache):
            self.cache, self.frames, self.errors = cache, 0, []

        def attended(self, layer, query, key, value):
            seen = self.cache.attended_tokens(layer)
            own = seen.frame == self.cache.frames
            assert int(own.sum()) == self.cache.frame_tokens == query.shape[2]
            self.errors.append(float((seen.keys[own].transpose(0, 1) - key[0]).abs().max()))
            assert seen.valid[own].all()
            assert seen.token[own].tolist() == list(range(self.cache.frame_tokens))

        def frame_ended(self):
            self.frames += 1
            assert self.cache.frames == self.frames

    with Stream(network, CacheConfig('random', 150), SIZE) as stream:
        observer = Observer(stream.cache)
        stream.cache.observers.append(observer)
        for image in images(4):
            stream.step(image)
        assert stream.cache.usage().tokens == stream.stats().tokens
        assert [len(stream.cache.kept(layer)) for layer in range(4)] == stream.stats().tokens
    assert observer.frames == 4
    assert len(observer.errors) == 4 * 4 and max(observer.errors) == 0.0


def test_only_a_subclass_takes_a_policys_place(network):
    class Watched(POLICIES['evict3r']):
        frames = 0

        def frame_done(self, ledger, mass):
            super().frame_done(ledger, mass)
            self.frames += 1

    answers = []
    for watched in (False, True):
        with Stream(network, CacheConfig('evict3r', 150), SIZE) as stream:
            if watched:
                with pytest.raises(TypeError, match='no Evict3R'):
                    stream.cache.specialise_policy(POLICIES['uniform'])
                policy = stream.cache.specialise_policy(Watched)
            answers.append([stream.step(image).depth for image in images(5)])
    assert policy.frames == 5
    assert all(torch.equal(one, other) for one, other in zip(*answers, strict=True))
