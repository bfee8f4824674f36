# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Metric scale against synthetic truth, with noise and outliers: its error, its own deviation, and the time to lock."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from evict3r_ros import geometry
from evict3r_ros.errors import UserError
from evict3r_ros.odometry.scale import SOURCES, MetricScale, ScaleFrame, ScaleSettings
from evict3r_ros.odometry.scale.from_camera_height import find_ground
from evict3r_ros.odometry.scale.robust import Estimate, Window
from evict3r_ros.synthetic.clips import WorldStream

SIZE = (98, 126)
K = np.array([[80.0, 0.0, 63.0], [0.0, 80.0, 49.0], [0.0, 0.0, 1.0]])
SCALE = 3.7  # metres for one unit of the network
FRAME_NS = 33_333_333  # 30 Hz
TILT = geometry.transform(Rotation.from_euler('y', 12, degrees=True).as_matrix(), np.array([0.2, 0.05, 0.6]))
BASE_FROM_CAMERA = TILT @ geometry.BODY_FROM_OPTICAL


def frame(
    index=0, depth=None, pose=None, confidence=None, base_from_camera=BASE_FROM_CAMERA, seen_rows=(0.0, 1.0), K=K
):
    """Return a frame of the network; by default of a wall two units away, all equally sure."""
    depth = np.full(SIZE, 2.0, np.float32) if depth is None else depth
    return ScaleFrame(
        index * FRAME_NS,
        depth,
        np.full(SIZE, 2.0, np.float32) if confidence is None else confidence,
        K,
        np.eye(4) if pose is None else pose,
        base_from_camera,
        seen_rows,
    )


def arc(seconds, speed=0.5, rate=0.3):
    """Pose of a base on a circle."""
    turn = geometry.transform(
        Rotation.from_euler('z', rate * seconds).as_matrix(),
        np.array([math.sin(rate * seconds), 1 - math.cos(rate * seconds), 0]) * speed / rate,
    )
    return turn


def drive(
    scale,
    seconds,
    seed=0,
    network_noise=0.003,
    slip=0.0,
    jumps=0.0,
    odometry_hz=50,
    from_s=0.0,
    true=SCALE,
    delay_s=0.0,
):
    """Drive a robot past odometry and camera; returns the state after each frame and the seconds until it was metric.

    network_noise: of a camera position, in metres. slip: share of odometry steps with wheels that spin. jumps: share
    of frames at which the network's pose is somewhere else by up to a metre, from then on.
    """
    random = np.random.default_rng(seed)
    states, locked, offset, slipped = [], None, np.zeros(3), np.zeros(3)
    next_odometry, last_s = from_s - delay_s, None
    for index in range(round(seconds * 30)):
        now = from_s + index / 30
        while next_odometry <= now - delay_s:
            if random.random() < slip:
                slipped = slipped + random.normal(size=3) * (0.15, 0.15, 0)
            pose = arc(next_odometry)
            pose[:3, 3] += slipped + random.normal(size=3) * 5e-4
            scale.add_odometry(round(next_odometry * 1e9), pose)
            next_odometry += 1 / odometry_hz
        if random.random() < jumps:
            offset = offset + random.normal(size=3) * 0.5
        camera = arc(now) @ BASE_FROM_CAMERA
        camera[:3, 3] += random.normal(size=3) * network_noise + offset
        camera[:3, 3] /= true
        seen = frame(pose=camera)
        states.append(
            scale.observe(ScaleFrame(round(now * 1e9), seen.depth, seen.confidence, K, camera, BASE_FROM_CAMERA))
        )
        if states[-1].is_metric and locked is None:
            locked = now - from_s
        last_s = now
    assert last_s is not None
    return states, locked


@pytest.mark.parametrize(
    ('what', 'error'),
    [
        ({}, 0.01),
        ({'network_noise': 0.02}, 0.05),
        ({'slip': 0.003}, 0.03),
        ({'jumps': 0.003}, 0.03),
        ({'slip': 0.003, 'jumps': 0.003, 'network_noise': 0.01}, 0.05),
        ({'odometry_hz': 10}, 0.01),
        ({'delay_s': 0.3}, 0.01),
    ],
)
@pytest.mark.parametrize('seed', range(3))
def test_odometry_gives_the_scale_within_seconds(what, error, seed):
    states, locked = drive(MetricScale(ScaleSettings('odometry')), 20, seed, **what)
    assert locked is not None and locked < 8.0, 'seconds at half a metre a second'
    assert abs(states[-1].scale / SCALE - 1) < error
    assert states[-1].source == 'odometry'
    assert abs(states[-1].scale - SCALE) < 4 * states[-1].stddev < 4 * 0.1 * SCALE


def test_a_robot_that_stands_has_no_scale():
    scale = MetricScale(ScaleSettings('odometry'))
    for index in range(300):
        scale.add_odometry(index * FRAME_NS, np.eye(4))
        noisy = geometry.transform(np.eye(3), np.random.default_rng(index).normal(size=3) * 0.01)
        state = scale.observe(frame(index, pose=noisy))
    assert state == scale.state and not state.is_metric and state.scale == 1.0 and state.source == ''


def test_motion_that_has_nothing_to_do_with_the_odometry_gives_no_scale():
    scale, random = MetricScale(ScaleSettings('odometry')), np.random.default_rng(3)
    for index in range(600):
        scale.add_odometry(index * FRAME_NS, arc(index / 30))
        state = scale.observe(frame(index, pose=geometry.transform(np.eye(3), random.normal(size=3))))
    assert not state.is_metric


def test_odometry_without_frames_in_time_order_is_survived():
    scale = MetricScale(ScaleSettings('odometry'))
    scale.add_odometry(10**12, np.eye(4))
    scale.add_odometry(10**12 - 5, np.eye(4))
    scale.add_odometry(10**12, np.full((4, 4), np.nan))
    states, locked = drive(scale, 10)  # a clock that was set back by a quarter of an hour
    assert locked is not None and abs(states[-1].scale / SCALE - 1) < 0.02


def test_what_waits_is_bounded():
    scale = MetricScale(ScaleSettings('odometry'))
    for index in range(5000):
        scale.add_odometry(index, np.eye(4))
        scale.observe(frame(10**9 + index))
    estimator = scale._estimator
    assert len(estimator._waiting) <= 64 and len(estimator._poses) <= 2000


def room(frames, seed=4):
    """Frames of a walk through a rendered world, with depth in metres and z up, and their K."""
    stream = WorldStream(seed, frames, size=SIZE, effects=False, loop=True)
    return list(stream), stream.intrinsics


def by_network(depth, random, noise=0.03, outliers=0.2):
    """Return the same depth in the network's unit, with noise, a wavy bias, outliers, and a confidence."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    wave = 0.03 * np.sin(rows / 25 + random.uniform(0, 6)) * np.cos(columns / 30)
    answer = depth / SCALE * np.exp(wave + noise * random.normal(size=SIZE))
    wrong = random.random(SIZE) < outliers
    answer[wrong] *= random.uniform(0.2, 4.0, wrong.sum())
    confidence = np.where(wrong & (random.random(SIZE) < 0.5), 1.1, 2.0 + random.random(SIZE))
    return answer.astype(np.float32), confidence.astype(np.float32)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('sensor', [(98, 126), (480, 640), (720, 1280)])
def test_depth_gives_the_scale_within_three_frames(seed, sensor):
    random = np.random.default_rng(seed)
    scale, locked = MetricScale(ScaleSettings('depth')), None
    for index, seen in enumerate(room(12, seed)[0]):
        rows = ((np.arange(sensor[0]) + 0.5) / sensor[0] * SIZE[0]).astype(int)
        columns = ((np.arange(sensor[1]) + 0.5) / sensor[1] * SIZE[1]).astype(int)
        metric = seen.depth[rows][:, columns] * (1 + 0.01 * random.normal(size=sensor))
        metric[random.random(sensor) < 0.3] = random.choice([0.0, np.nan])  # holes
        metric[random.random(sensor) < 0.1] = 8.0
        scale.add_depth(index * FRAME_NS + 10_000_000, metric.astype(np.float32))
        depth, confidence = by_network(seen.depth, random)
        state = scale.observe(frame(index, depth, confidence=confidence))
        locked = index + 1 if state.is_metric and locked is None else locked
    assert locked == 3
    assert abs(state.scale / SCALE - 1) < 0.02
    assert abs(state.scale - SCALE) < 4 * state.stddev < 4 * 0.05 * SCALE


def test_depth_of_another_time_or_another_scene_gives_no_scale():
    seen, random = room(1)[0][0], np.random.default_rng(0)
    late, other, empty = (MetricScale(ScaleSettings('depth')) for _ in range(3))
    for index in range(10):
        late.add_depth(index * FRAME_NS - 10**9, seen.depth)
        other.add_depth(index * FRAME_NS, np.exp(random.normal(size=SIZE) * 2))
        empty.add_depth(index * FRAME_NS, np.full(SIZE, np.nan, np.float32))
        empty.add_depth(index * FRAME_NS, np.zeros((0, 0), np.float32))
        for scale in (late, other, empty):
            assert not scale.observe(frame(index, seen.depth / SCALE)).is_metric


@pytest.mark.parametrize('behind', [1, 3, 40])
def test_depth_that_comes_after_the_answer_is_waited_for(behind):
    """A sensor with a latency longer than the network's: each map comes after `behind` more frames were answered."""
    seen = room(1)[0][0]
    scale = MetricScale(ScaleSettings('depth'))
    for index in range(behind + 6):
        if index >= behind:
            scale.add_depth((index - behind) * FRAME_NS, seen.depth)
        state = scale.observe(frame(index, seen.depth / SCALE))
        assert state.is_metric == (index >= behind + 2)
    assert abs(state.scale / SCALE - 1) < 0.01


def test_a_frame_is_compared_with_the_depth_of_its_own_time_and_not_of_the_one_before():
    """At 60 Hz the map before a frame is near enough to be taken for its own, until that has come."""
    seen, nearer = room(1)[0][0], 0.5
    scale = MetricScale(ScaleSettings('depth'))
    for index in range(6):
        scale.add_depth(2 * index * FRAME_NS - FRAME_NS // 2, nearer * seen.depth)
        scale.observe(frame(2 * index, seen.depth / SCALE))
        scale.add_depth(2 * index * FRAME_NS, seen.depth)
    assert abs(scale.state.scale / SCALE - 1) < 0.01


def test_depth_of_a_clock_that_was_set_back_is_compared_in_the_new_time():
    seen = room(1)[0][0]
    scale = MetricScale(ScaleSettings('depth'))
    scale.add_depth(1000 * FRAME_NS, seen.depth)
    for index in range(4):
        scale.add_depth(index * FRAME_NS, seen.depth)
        state = scale.observe(frame(index, seen.depth / SCALE))
    assert state.is_metric and len(scale._estimator._maps) == 4 and not scale._estimator._waiting


def test_frames_that_wait_for_depth_are_bounded():
    scale = MetricScale(ScaleSettings('depth'))
    for index in range(300):
        scale.observe(frame(index))
    assert len(scale._estimator._waiting) <= 64


def test_a_portrait_image_that_was_cut_is_compared_where_it_was_cut():
    height = np.linspace(1.0, 5.0, 3 * SIZE[0], dtype=np.float32)
    whole = np.repeat(height[:, None], SIZE[1], axis=1)
    scale = MetricScale(ScaleSettings('depth'))
    for index in range(3):
        scale.add_depth(index * FRAME_NS, whole)
        state = scale.observe(frame(index, whole[SIZE[0] : 2 * SIZE[0]] / SCALE, seen_rows=(1 / 3, 2 / 3)))
    assert abs(state.scale / SCALE - 1) < 0.01


@pytest.mark.parametrize('seed', range(4))
def test_camera_height_gives_the_scale_within_frames(seed):
    """A rendered room with furniture on its floor, and a base that is not quite level."""
    (walk, K), random, height = room(80, seed), np.random.default_rng(seed), 1.3
    scale = MetricScale(ScaleSettings('camera_height', camera_height=height))
    locked, states = None, []
    for index, seen in enumerate(walk):
        # The walk goes up and down: the room is resized so that the floor always is as far below the camera.
        level = seen.depth * (height / seen.world_from_camera[2, 3])
        depth, confidence = by_network(level, random, noise=0.01, outliers=0.1)
        base_from_camera = seen.world_from_camera.copy()
        wobble = Rotation.from_euler('xy', random.normal(size=2), degrees=True).as_matrix()
        base_from_camera[:3, :3] = wobble @ base_from_camera[:3, :3]
        states.append(scale.observe(frame(index, depth, seen.world_from_camera, confidence, base_from_camera, K=K)))
        locked = index + 1 if states[-1].is_metric and locked is None else locked
    assert locked is not None and locked <= 8
    assert abs(states[-1].scale / SCALE - 1) < 0.05
    assert abs(states[-1].scale - SCALE) < 4 * states[-1].stddev < 4 * 0.05 * SCALE


def plane(height, count, random, up, spread=3.0):
    """Points (count, 3) of a level plane so far below the camera, in its frame with the given up."""
    side = np.cross(up, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    ahead = np.cross(side, up)
    u, v = random.uniform(-spread, spread, (2, count))
    return u[:, None] * side + (v[:, None] + 4) * ahead - height * up


UP = np.array([0.0, -math.cos(0.2), -math.sin(0.2)])


def test_the_floor_wins_over_a_table_and_a_wall_is_no_floor():
    random = np.random.default_rng(1)
    floor, table = plane(1.0, 300, random, UP), plane(0.4, 500, random, UP, spread=1.0)
    wall = np.stack([*random.uniform(-3, 3, (2, 800)), np.full(800, 5.0)], axis=1)
    points = np.concatenate([floor, table, wall])
    distance, _ = find_ground(points + 0.003 * random.normal(size=points.shape), UP, random)
    assert abs(distance - 1.0) < 0.01
    assert find_ground(wall, UP, random) is None
    assert find_ground(np.zeros((0, 3)), UP, random) is None
    assert find_ground(np.repeat(floor[:1], 50, axis=0), UP, random) is None
    steep = plane(1.0, 500, random, Rotation.from_euler('x', 25, degrees=True).apply(UP))
    assert find_ground(steep, UP, random) is None


def test_fixed_is_metric_at_once_and_none_never():
    state = MetricScale(ScaleSettings('fixed', fixed=2.5)).observe(frame())
    assert (state.scale, state.is_metric, state.source) == (pytest.approx(2.5), True, 'fixed')
    assert math.isnan(state.stddev)
    state = MetricScale(ScaleSettings('none')).observe(frame())
    assert (state.scale, state.is_metric, state.source) == (1.0, False, '') and math.isnan(state.stddev)


def test_a_changed_estimate_is_approached_slowly_and_the_lag_is_told():
    scale = MetricScale(ScaleSettings('depth', max_slew=0.05))
    for index in range(150):
        network = SCALE if index < 30 else SCALE / 1.5
        scale.add_depth(index * FRAME_NS, np.full(SIZE, 2.0 * SCALE, np.float32))
        before = scale.state
        state = scale.observe(frame(index, np.full(SIZE, 2.0 * SCALE / network, np.float32)))
        if before.is_metric:
            assert abs(math.log(state.scale / before.scale)) <= math.log(1.05) / 30 * 1.001
        if index == 60:
            assert state.stddev > abs(state.scale - SCALE / 1.5) * 0.8
    assert state.scale < 0.85 * SCALE


def test_a_new_stream_begins_anew_with_the_last_scale_as_a_guess():
    scale = MetricScale(ScaleSettings('depth'))
    for index in range(5):
        scale.add_depth(index * FRAME_NS, np.full(SIZE, 2.0 * SCALE, np.float32))
        scale.observe(frame(index))
    scale.restart()
    assert not scale.state.is_metric and scale.state.scale == pytest.approx(SCALE) and math.isnan(scale.state.stddev)
    for index in range(5, 8):
        scale.add_depth(index * FRAME_NS, np.full(SIZE, 4.0 * SCALE, np.float32))
        state = scale.observe(frame(index))
    assert state.is_metric and state.scale == pytest.approx(2 * SCALE), 'a new unit is no change to be smoothed'


@pytest.mark.parametrize(
    'settings',
    [
        {'source': 'wheels'},
        {'source': 'fixed', 'fixed': 0.0},
        {'source': 'fixed', 'fixed': -1.0},
        {'source': 'fixed', 'fixed': math.nan},
        {'source': 'camera_height'},
        {'source': 'odometry', 'baseline': 0.0},
        {'source': 'depth', 'max_slew': 0.0},
    ],
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(UserError):
        ScaleSettings(**settings)


@pytest.mark.parametrize('source', SOURCES)
@pytest.mark.parametrize('depth', [np.nan, np.inf, 0.0, -1.0])
def test_no_source_minds_a_frame_without_depth(source, depth):
    scale = MetricScale(ScaleSettings(source, fixed=2.0, camera_height=1.0))
    for index in range(10):
        scale.add_depth(index * FRAME_NS, np.ones(SIZE, np.float32))
        state = scale.observe(
            frame(index, np.full(SIZE, depth, np.float32), confidence=np.full(SIZE, np.nan, np.float32))
        )
    assert state.is_metric == (source == 'fixed')


def test_a_window_tells_its_deviation_honestly():
    """Over many windows the error is of the size that each tells: neither a tenth nor ten times."""
    random, errors = np.random.default_rng(0), []
    for _ in range(300):
        window = Window(size=30, least=5)
        for value in random.normal(scale=0.1, size=30):
            window.add(Estimate(value if random.random() > 0.2 else 3.0, 0.0))
        estimate = window.estimate()
        errors.append(estimate.log_scale / estimate.deviation)
    assert 0.7 < np.std(errors) < 1.5
