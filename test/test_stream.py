# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A stream: predictions, resets, and memory that stays flat however long it runs."""

from __future__ import annotations

import collections
import gc
import json
import os
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from evict3r_ros.cache import POLICIES, CacheConfig, KeyValueCache, TierBits
from evict3r_ros.errors import UserError
from evict3r_ros.network import load_network
from evict3r_ros.stream import Stream, frame_steps
from evict3r_ros.stream.frame_steps import RecordedRunner

CONFIG = CacheConfig('evict3r', tokens=400, camera_frames=16)


@pytest.fixture(scope='module')
def network():
    return load_network('random', 'small')


def images(count, size=(48, 160), seed=0):
    """Random images, each different."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(count)]


def test_a_prediction(network):
    with Stream(network, CONFIG) as stream:
        first, second = (stream.step(image) for image in images(2))
    assert (first.index, second.index) == (0, 1)
    assert first.depth.shape == first.confidence.shape == first.image.shape[:2] == first.view.network_size == (42, 154)
    assert first.depth.dtype == torch.float32
    assert (first.depth > 0).all() and (first.confidence >= 1).all()
    assert first.image.dtype == torch.uint8
    assert first.view.camera_size == (48, 160)
    for prediction in (first, second):
        rotation = prediction.world_from_camera[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
        assert prediction.intrinsics[0, 2] == 77.0


def test_reset_starts_over_at_any_size(network):
    with Stream(network, CONFIG) as stream:
        before = [stream.step(image) for image in images(3)]
        size = stream.stats().cache_bytes
        with pytest.raises(ValueError, match='reset'):
            stream.step(images(1, (100, 100))[0])
        stream.reset()
        assert stream.step(images(1, (100, 50))[0]).index == 0
        stream.reset()
        again = [stream.step(image) for image in images(3)]
        assert stream.stats().cache_bytes == size
    for one, other in zip(before, again, strict=True):
        assert torch.equal(one.depth, other.depth)
        np.testing.assert_array_equal(one.world_from_camera, other.world_from_camera)


def test_two_streams_do_not_disturb_each_other(network):
    one, other = images(3, seed=1), images(3, seed=2)
    with Stream(network, CONFIG) as stream:
        alone = [stream.step(image).depth for image in one]
    with Stream(network, CONFIG) as stream, Stream(network, CONFIG) as beside:
        for image, depth, disturbance in zip(one, alone, other, strict=True):
            assert torch.equal(stream.step(image).depth, depth)
            beside.step(disturbance)


def test_the_past_matters(network):
    """A stream that has seen something else answers differently, or the cache would be for show."""
    seen, unseen, last = images(3)
    answers = []
    for past in (seen, unseen):
        with Stream(network, CONFIG) as stream:
            stream.step(past)
            answers.append(stream.step(last))
    assert not torch.allclose(answers[0].depth, answers[1].depth)
    assert not np.allclose(answers[0].world_from_camera, answers[1].world_from_camera)


def test_budget_is_kept(network):
    with Stream(network, CONFIG) as stream:
        for image in images(18):
            stream.step(image)
        stats = stream.stats()
    assert stats.frames == 18 and stats.camera_frames == 16
    assert sum(stats.tokens) <= 4 * CONFIG.tokens
    assert all(tokens == budget for tokens, budget in zip(stats.tokens, stats.budget, strict=True))


@pytest.mark.parametrize(
    'image', [np.zeros((10, 10), np.uint8), np.zeros((10, 10, 4), np.uint8), np.zeros((10, 10, 3), np.float32)]
)
def test_wrong_images_are_refused(network, image):
    with Stream(network, CONFIG) as stream, pytest.raises(ValueError, match='uint8 RGB'):
        stream.step(image)


def test_a_budget_too_small_for_the_cameras_frames_is_refused(network):
    with pytest.raises(UserError, match='at least'):
        Stream(network, CacheConfig('evict3r', tokens=100))
    with Stream(network, CacheConfig('evict3r', tokens=100), camera_size=(48, 160)) as stream:
        stream.step(images(1)[0])


SOAK = """
import gc, json, sys
import numpy as np
from scipy.stats import theilslopes
from evict3r_ros.cache import CacheConfig
from evict3r_ros.profiling.process import resident_bytes
from evict3r_ros.profiling.soak import living_tensor_bytes
from evict3r_ros.network import load_network
from evict3r_ros.stream import Stream

def main(frames, leak):
    rng = np.random.default_rng(0)
    kept, live, rss = [], [], []
    with Stream(load_network('random', 'nano'), CacheConfig('evict3r', tokens=150, camera_frames=16),
                camera_size=(28, 154)) as stream:
        for index in range(frames):
            prediction = stream.step(rng.integers(0, 256, (28, 154, 3), dtype=np.uint8))
            if leak:
                kept.append(prediction.depth)
            del prediction
            if index >= frames // 4:
                rss.append(resident_bytes())
                if index % 25 == 0:
                    gc.collect()
                    live.append(living_tensor_bytes())
    # A leak grows between any two frames; what a library takes once, between few of them, and what the kernel takes
    # back for a while (some 100 KiB), up and down: hence the median of all slopes.
    looked = rss[::5]
    growth = theilslopes(looked, 5 * np.arange(len(looked))).slope
    print(json.dumps({'live': live, 'rss_growth': growth, 'resident': looked}))

main(int(sys.argv[1]), sys.argv[2] == 'leak')
"""


def soak(frames: int, leak: bool) -> dict:
    """Figures of a run in a process of its own, so that nothing else moves its memory."""
    # Freed memory goes back at once: else a leak hides in free heap for hundreds of frames, and heap grows without one.
    exact = {
        'MALLOC_ARENA_MAX': '1',
        'MALLOC_MMAP_THRESHOLD_': '16384',
        'MALLOC_TRIM_THRESHOLD_': '0',
        'MALLOC_TOP_PAD_': '0',
    }
    done = subprocess.run(
        [sys.executable, '-c', SOAK, str(frames), 'leak' if leak else 'sound'],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env=os.environ | exact,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_memory_is_flat_over_500_frames():
    figures = soak(500, leak=False)
    print(figures)
    assert len(figures['live']) >= 7
    assert len(set(figures['live'])) == 1
    assert figures['rss_growth'] < 1024


@pytest.mark.slow
def test_the_flatness_test_sees_a_list_of_tensors():
    """The same figures with a prediction's depth put in a list a frame: both must tell."""
    figures = soak(200, leak=True)
    assert len(set(figures['live'])) == len(figures['live'])
    assert figures['rss_growth'] > 10_000  # 17 KiB a frame are kept


def test_nothing_outlives_a_closed_stream(network):
    def live() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    with Stream(network, CONFIG) as stream:
        stream.step(images(1)[0])
    before = live()
    for _ in range(3):
        with Stream(network, CONFIG) as stream:
            stream.step(images(1)[0])
    assert live() == before


def container_sizes(root) -> dict[str, int]:
    """How many things, or bytes, each container that can be reached from an object holds, by the way to it."""
    sizes, seen, ways = {}, set(), [('stream', root)]
    while ways:
        way, thing = ways.pop()
        if id(thing) in seen or isinstance(thing, type | types.ModuleType | types.FunctionType | types.CodeType):
            continue
        seen.add(id(thing))
        if issubclass(type(thing), torch.Tensor):
            sizes[way] = thing.untyped_storage().nbytes()
            continue
        if isinstance(thing, np.ndarray):
            sizes[way] = thing.nbytes
            continue
        if isinstance(thing, list | tuple | set | frozenset | dict | collections.deque | bytes | bytearray | str):
            sizes[way] = len(thing)
        if isinstance(thing, dict):
            ways += [(f'{way}[{key!r}]', value) for key, value in thing.items()]
        elif isinstance(thing, list | tuple | set | frozenset | collections.deque):
            ways += [(f'{way}[{index}]', value) for index, value in enumerate(thing)]
        else:
            ways += [(f'{way}.{name}', value) for name, value in getattr(thing, '__dict__', {}).items()]
            if isinstance(thing, types.MethodType):
                ways.append((f'{way}.__self__', thing.__self__))
    return sizes


def grown(stream, between) -> list[str]:
    """Containers below a stream that are new, or hold more, after frames than before them."""
    before = container_sizes(stream)
    between()
    return [way for way, size in container_sizes(stream).items() if size > before.get(way, -1)]


@pytest.mark.parametrize(
    'config',
    [
        *(CacheConfig(policy, 200, camera_frames=8) for policy in POLICIES if policy != 'unbounded'),
        CacheConfig('evict3r', 200, camera_frames=8, bits=TierBits()),
        CacheConfig('evict3r', 200, camera_frames=8, budget='adaptive', anchors=1),
    ],
    ids=str,
)
def test_no_container_grows_with_time(config):
    """Every container below a stream, found by looking: none is larger after 40 frames than after 20."""
    with Stream(load_network('random', 'nano'), config, (48, 160)) as stream:
        # Tables as wide as they can be: how many tokens a layer has changes from frame to frame, without growth.
        stream.cache.assume_full()
        frames = images(8)

        def run():
            for _ in range(20):
                stream.step(frames[rng.integers(8)])

        rng = np.random.default_rng(0)
        run()
        assert len(container_sizes(stream)) > 300
        assert grown(stream, run) == []
        # And the look is worth something: it finds what is put where it should not be.
        stream.cache.policy.forgotten = [torch.zeros(1)]
        found = grown(stream, lambda: stream.cache.policy.forgotten.append(torch.zeros(1)))
        assert [way.partition('.policy.')[2] for way in found] == ['forgotten', 'forgotten[1]']


def test_flipped_images_and_wrong_pins(network):
    """An array's strides don't matter; a frame that has not come cannot be pinned."""
    image = images(1)[0]
    with Stream(network, CacheConfig('evict3r', 450, anchors=1, camera_frames=16)) as stream:
        turned = stream.step(image[::-1, :, ::-1])
        stream.reset()
        assert torch.equal(stream.step(np.ascontiguousarray(image[::-1, :, ::-1])).depth, turned.depth)
        stream.pin(0)
        assert stream.cache.anchors.tolist() == [-1]
        for wrong in (99, -1):
            with pytest.raises(ValueError, match='has not come'):
                stream.pin(wrong)
        with pytest.raises(TypeError):
            stream.pin(1.5)
    with Stream(network, CONFIG) as stream, pytest.raises(ValueError, match='0 anchors'):
        stream.pin(0)


def state(stream) -> dict[str, torch.Tensor]:
    """Return copies of all that a stream remembers by; what a frame only works in is left out."""
    cache, camera = stream.cache, stream.camera_cache
    owners = {
        'ledger': cache.ledger,
        'pool': cache.pool,
        'policy': cache.policy,
        'camera': camera,
        **{f'stack {number}': stack for number, stack in enumerate(cache.ledger.stacks)},
        **{f'codec {number}': tier.codec for number, tier in enumerate(cache.pool.tiers)},
        **({} if cache.adaptive is None else {'adaptive': cache.adaptive}),
    }
    transient = {'slots', 'valid', 'attended', 'attended_valid', '_place', '_entries', '_valid'}
    found = {
        f'{owner}.{name}': value.clone()
        for owner, thing in owners.items()
        for name, value in vars(thing).items()
        if isinstance(value, torch.Tensor) and name not in transient
    }
    found |= {f'policy {number}': values.clone() for number, values in enumerate(cache.policy.slot_values)}
    numbers = [cache.frames, cache.ledger._longest, cache.ledger._longest_focus]
    return found | {'numbers': torch.tensor(numbers)}


REMEMBERING = [
    *(CacheConfig(policy, 200, camera_frames=8) for policy in POLICIES),
    CacheConfig('evict3r', 200, camera_frames=8, bits=TierBits()),
    CacheConfig('evict3r', 300, camera_frames=8, budget='adaptive', anchors=1),
]


@pytest.mark.parametrize('config', REMEMBERING, ids=str)
def test_a_frame_that_is_not_remembered_is_answered_and_leaves_no_trace(config):
    """Memory is equal before and after, bit by bit; the answer is that of a frame that is remembered."""
    size = (48, 160)
    frames = images(15, size)
    with Stream(load_network('random', 'nano'), config, size) as stream, torch.inference_mode():
        assert stream.step(frames[0], remember=False).index == 0 and stream.cache.frames == 1, 'the first is the world'
        for number, image in enumerate(frames[1:12]):
            if number in (0, 4, 10):
                before = state(stream)
                looks = [stream.step(other, remember=False) for other in (frames[13], frames[14], image)]
                after = state(stream)
                assert len(before) > 15 and before.keys() == after.keys()
                assert [name for name in before if not torch.equal(before[name], after[name])] == []
                remembered = stream.step(image)
                # Attention that is also asked for its mass adds up in another order.
                torch.testing.assert_close(looks[-1].depth, remembered.depth, rtol=1e-4, atol=1e-4)
                np.testing.assert_allclose(looks[-1].world_from_camera, remembered.world_from_camera, atol=1e-4)
                assert remembered.index == looks[-1].index + 1
                assert any(not torch.equal(value, before[name]) for name, value in state(stream).items())
            else:
                stream.step(image)
        assert stream.cache.frames == 12 and stream.stats().frames == 21


def test_a_cache_refuses_to_begin_with_a_frame_that_it_does_not_remember():
    with Stream(load_network('random', 'nano'), CONFIG) as stream, pytest.raises(ValueError, match='first frame'):
        stream.cache.begin_frame(remember=False)


class RunAgain:
    """Stands in for a CUDA graph where there is no GPU: a replay does the work again."""

    def __init__(self, work, after=None):
        self.work = work

    def replay(self):
        return self.work()


class Passage:
    """Stands in for a transfer between host and device."""

    def __init__(self, image_shape, numbers, device):
        self.image, self.numbers = torch.empty(image_shape, dtype=torch.uint8), torch.empty(numbers)

    def send(self, image):
        self.image.copy_(image)

    def wait(self):
        return self.numbers.double().numpy()


@pytest.mark.parametrize('config', [REMEMBERING[0], REMEMBERING[-1]], ids=['evict3r', 'adaptive'])
def test_the_recorded_runner_has_a_graph_for_frames_that_are_not_remembered(config, monkeypatch):
    monkeypatch.setattr(frame_steps, 'FrameGraph', RunAgain)
    monkeypatch.setattr(frame_steps, 'Transfer', Passage)
    # What is replayed here counts its frames itself.
    monkeypatch.setattr(KeyValueCache, 'count_frame', lambda cache: None)
    network, size = load_network('random', 'nano'), (48, 160)
    with Stream(network, config, size) as recorded, Stream(network, config, size) as plain:
        for number, image in enumerate(images(16, size)):
            remember = number % 3 != 2
            if number == 4:
                recorded._recorded = RecordedRunner(recorded._eager._steps)
            before = state(recorded)
            ours, other = recorded.step(image, remember), plain.step(image, remember)
            assert torch.equal(ours.depth, other.depth) and ours.index == other.index == number
            np.testing.assert_array_equal(ours.world_from_camera, other.world_from_camera)
            changed = [name for name, value in state(recorded).items() if not torch.equal(value, before[name])]
            assert bool(changed) == remember
        for layer in range(len(recorded.stats().tokens)):
            assert torch.equal(recorded.cache.kept(layer), plain.cache.kept(layer))
