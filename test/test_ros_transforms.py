# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Static transforms over any chain, the camera's mount with and without them, and an odom frame that is upright."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

pytest.importorskip('tf2_msgs.msg', reason='ROS 2 is not installed here')

from std_msgs.msg import Header

from evict3r_ros import geometry
from evict3r_ros.ros.messages.conversions import transform_from_pose
from evict3r_ros.ros.perception.transforms import StaticTransforms, find_mount

NEVER = threading.Event()


def pose(seed: int) -> np.ndarray:
    position = np.random.default_rng(seed).normal(size=3)
    return geometry.transform(Rotation.random(random_state=seed).as_matrix(), position)


def edge(parent: str, child: str, matrix: np.ndarray):
    return transform_from_pose(matrix, Header(frame_id=parent), child)


def heard(*edges) -> StaticTransforms:
    transforms = StaticTransforms()
    assert transforms.update(edges) == []
    return transforms


@settings(max_examples=60, deadline=None)
@given(parents=st.lists(st.integers(0, 100), min_size=1, max_size=8), seed=st.integers(0, 10_000), data=st.data())
def test_any_two_frames_of_a_tree_are_related(parents, seed, data):
    """Frames of a random tree, each with a known place in the world: the relation of any two follows from those."""
    world = [pose(seed)]
    transforms = StaticTransforms()
    order = []
    for child, pick in enumerate(parents, start=1):
        world.append(pose(seed + child))
        parent = pick % child
        order.append(edge(f'f{parent}', f'f{child}', geometry.invert(world[parent]) @ world[child]))
    for message in data.draw(st.permutations(order)):
        transforms.update([message])
    a, b = (data.draw(st.integers(0, len(parents))) for _ in range(2))
    wanted = geometry.invert(world[a]) @ world[b]
    np.testing.assert_allclose(transforms.find(f'f{a}', f'f{b}'), wanted, atol=1e-9)
    root, root_from_b = transforms.root(f'f{b}')
    assert root == 'f0'
    np.testing.assert_allclose(root_from_b, geometry.invert(world[0]) @ world[b], atol=1e-9)


def test_frames_of_two_trees_are_not_related():
    transforms = heard(edge('a', 'b', pose(1)), edge('c', 'd', pose(2)))
    assert transforms.find('a', 'd') is None and transforms.find('a', 'nowhere') is None


def test_the_answer_follows_a_later_transform():
    transforms = heard(edge('a', 'b', pose(1)))
    assert transforms.find('a', 'c') is None
    transforms.update([edge('b', 'c', pose(2))])
    np.testing.assert_allclose(transforms.find('a', 'c'), pose(1) @ pose(2), atol=1e-12)
    transforms.update([edge('a', 'b', pose(3))])
    np.testing.assert_allclose(transforms.find('a', 'c'), pose(3) @ pose(2), atol=1e-12)


def test_a_slash_of_ros_1_is_no_other_frame():
    transforms = heard(edge('/base_link', '/cam', pose(1)))
    np.testing.assert_allclose(transforms.find('base_link', '/cam'), pose(1), atol=1e-12)


def test_a_loop_ends():
    transforms = heard(edge('a', 'b', pose(1)), edge('b', 'a', pose(2)))
    assert transforms.find('a', 'c') is None
    assert transforms.root('a')[0] in 'ab'


def test_transforms_that_cannot_be_are_refused_and_the_rest_is_taken():
    bad = edge('a', 'bad', pose(1))
    bad.transform.rotation.w = float('nan')
    transforms = StaticTransforms()
    reasons = transforms.update([bad, edge('a', 'a', pose(2)), edge('', 'b', pose(2)), edge('a', 'good', pose(3))])
    assert len(reasons) == 3 and 'not rigid' in reasons[0]
    assert transforms.find('a', 'bad') is None and transforms.find('a', 'good') is not None


def test_waiting_ends_with_the_transform():
    transforms = StaticTransforms()
    threading.Timer(0.2, transforms.update, ([edge('base', 'cam', pose(1))],)).start()
    began = time.monotonic()
    found = transforms.wait('base', 'cam', 10.0, NEVER)
    assert 0.1 < time.monotonic() - began < 5.0
    np.testing.assert_allclose(found, pose(1), atol=1e-12)


def test_waiting_ends_with_the_timeout_and_with_a_stop():
    transforms, stop = StaticTransforms(), threading.Event()
    began = time.monotonic()
    assert transforms.wait('base', 'cam', 0.2, NEVER) is None
    assert 0.2 <= time.monotonic() - began < 2.0
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    assert transforms.wait('base', 'cam', 30.0, stop) is None
    assert time.monotonic() - began < 2.0


def camera_on_base() -> np.ndarray:
    """Return base_from_camera for a camera ahead of the base that looks 20 degrees down."""
    tilt = np.eye(4)
    tilt[:3, :3] = Rotation.from_euler('y', 20, degrees=True).as_matrix()
    tilt[:3, 3] = 0.3, 0.0, 0.5
    return tilt @ geometry.BODY_FROM_OPTICAL


def first_pose(mount) -> np.ndarray:
    """Return odom_from_camera of a first image."""
    return mount.odom_from_child @ mount.child_from_camera


def test_the_base_moves_where_the_camera_is_mounted_on_it():
    mount = find_mount(heard(edge('base_link', 'cam', camera_on_base())), 'odom', 'base_link', 'cam', 0.0, NEVER)
    assert (mount.child, mount.from_tf, mount.problem, mount.taken) == ('base_link', True, '', False)
    np.testing.assert_allclose(mount.odom_from_child, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(mount.child_from_camera, camera_on_base(), atol=1e-12)
    np.testing.assert_allclose(mount.base_from_camera, camera_on_base(), atol=1e-12)


def test_without_a_static_transform_the_camera_itself_moves_upright():
    mount = find_mount(StaticTransforms(), 'odom', 'base_link', 'cam', 0.05, NEVER)
    assert (mount.child, mount.from_tf) == ('cam', False) and "no static transform from 'cam'" in mount.problem
    np.testing.assert_allclose(mount.child_from_camera, np.eye(4))
    np.testing.assert_allclose(first_pose(mount), geometry.BODY_FROM_OPTICAL, atol=1e-12)


def test_a_camera_that_is_carried_does_not_get_a_second_parent():
    carried = geometry.transform(np.eye(3), np.array([0.0, 0.06, 0.0])) @ geometry.BODY_FROM_OPTICAL
    mount = find_mount(heard(edge('camera_link', 'cam', carried)), 'odom', 'base_link', 'cam', 0.0, NEVER)
    assert (mount.child, mount.from_tf) == ('camera_link', False)
    np.testing.assert_allclose(first_pose(mount), geometry.BODY_FROM_OPTICAL, atol=1e-12)


def test_a_base_that_is_carried_does_not_get_a_second_parent():
    """A base_footprint below a base_link, as on many robots: it moves, and odom begins at the base_link."""
    lift = geometry.transform(np.eye(3), np.array([0.0, 0.0, 0.2]))
    transforms = heard(edge('base_footprint', 'base_link', lift), edge('base_link', 'cam', camera_on_base()))
    mount = find_mount(transforms, 'odom', 'base_link', 'cam', 0.0, NEVER)
    assert (mount.child, mount.from_tf, mount.taken) == ('base_footprint', True, False)
    np.testing.assert_allclose(mount.odom_from_child @ lift, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(first_pose(mount), camera_on_base(), atol=1e-12)


WORLDS = ['odom', 'map', 'world', 'earth', 'Map', 'robot1/map', 'robot1/odom', 'tb3_0_map', 'wheel_odom', 'odom_frame']
WORLDS += ['utm', 'map_1', 'odom2']


@pytest.mark.parametrize('world', WORLDS)
def test_a_base_with_a_static_place_in_the_world_is_not_moved(world):
    transforms = heard(edge(world, 'base_link', np.eye(4)), edge('base_link', 'cam', camera_on_base()))
    mount = find_mount(transforms, 'odom', 'base_link', 'cam', 0.0, NEVER)
    assert mount.taken and 'no frame may have two parents' in mount.problem and mount.child == 'base_link'


@pytest.mark.parametrize('world', WORLDS)
def test_a_frame_of_the_world_is_no_part_of_a_robot(world):
    """Without a base: a camera that is fixed in the world, with and without what carries it, gets no second parent."""
    carried = geometry.transform(np.eye(3), np.array([0.0, 0.06, 0.0])) @ geometry.BODY_FROM_OPTICAL
    chains = {
        'cam': [edge(world, 'cam', pose(1))],
        'camera_link': [edge(world, 'camera_link', pose(1)), edge('camera_link', 'cam', carried)],
    }
    for child, chain in chains.items():
        for above in ([], [edge('site', world, pose(2))]):
            mount = find_mount(heard(*chain, *above), 'odom', 'base_link', 'cam', 0.0, NEVER)
            assert (mount.child, mount.taken, mount.from_tf) == (child, True, False)
            assert f'below {world!r}, so odom -> {child} is not published' in mount.problem
            np.testing.assert_allclose(first_pose(mount), geometry.BODY_FROM_OPTICAL, atol=1e-12)


@pytest.mark.parametrize('frame', ['camera_map_link_2', 'mapper', 'worldcam', 'odometer', 'world_camera', 'base/front'])
def test_a_frame_that_only_sounds_like_the_world_is_moved(frame):
    mount = find_mount(heard(edge(frame, 'cam', pose(1))), 'odom', 'base_link', 'cam', 0.0, NEVER)
    assert (mount.child, mount.taken) == (frame, False)


def test_the_configured_odom_is_of_the_world_whatever_its_name():
    mount = find_mount(heard(edge('start', 'cam', pose(1))), 'start', 'base_link', 'cam', 0.0, NEVER)
    assert (mount.child, mount.taken) == ('cam', True) and "below 'start'" in mount.problem


@pytest.mark.parametrize(('base', 'camera', 'child'), [('base_link', 'cam', 'hall'), ('base', 'cam', 'base')])
def test_a_root_from_which_odom_hangs_as_well_is_not_moved(base, camera, child):
    """With hall -> odom and hall -> cam, odom -> hall would close a circle."""
    transforms = heard(edge('hall', 'odom', pose(1)), edge('hall', 'base', pose(2)), edge('base', 'cam', pose(3)))
    mount = find_mount(transforms, 'odom', base, camera, 0.0, NEVER)
    assert (mount.child, mount.taken) == (child, True) and "joins 'hall' with 'odom'" in mount.problem


@pytest.mark.parametrize('frame', ['map', 'odom', 'robot1/world'])
def test_images_that_name_a_frame_of_the_world_move_the_base(frame):
    mount = find_mount(StaticTransforms(), 'odom', 'base_link', frame, 0.0, NEVER)
    assert (mount.child, mount.from_tf, mount.taken) == ('base_link', False, False)
    assert f'the images name the frame {frame!r}, which is one of the world' in mount.problem


def test_images_without_a_frame_give_no_base_a_second_parent():
    carried = find_mount(heard(edge('base_footprint', 'base_link', pose(1))), 'odom', 'base_link', '', 0.0, NEVER)
    assert (carried.child, carried.taken) == ('base_footprint', False)
    fixed = find_mount(heard(edge('map', 'base_link', pose(1))), 'odom', 'base_link', '', 0.0, NEVER)
    assert (fixed.child, fixed.taken) == ('base_link', True)


def test_an_image_without_a_frame_moves_the_base():
    mount = find_mount(StaticTransforms(), 'odom', 'base_link', '', 10.0, NEVER)
    assert (mount.child, mount.from_tf) == ('base_link', False) and 'name no frame' in mount.problem
    np.testing.assert_allclose(mount.odom_from_child, np.eye(4), atol=1e-12)
