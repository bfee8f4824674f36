# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Launch file and parameter file: checked against the parameters everywhere, executed where launch_ros is there."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

import rclpy
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from ros_bench import START_NS, STEP_NS
from ros_robot import PATIENCE_S, RELIABLE, SMALL, Robot, image_message, scene
from tf2_msgs.msg import TFMessage

from evict3r_ros.cache import CacheConfig
from evict3r_ros.cli.main import main
from evict3r_ros.network import PRESETS, preset_of
from evict3r_ros.ros.node.lifecycle_node import Evict3rNode
from evict3r_ros.ros.settings import parameters
from evict3r_ros.ros.settings.parameters import PARAMETERS, Settings
from evict3r_ros.ros.tools import middleware
from evict3r_ros.ros.tools.session import Session
from evict3r_ros.stream.planning import plan

LAUNCH_FILE = middleware.shared_file('launch/stream.launch.py')
NAV2 = middleware.shared_file('launch/nav2_costmap.launch.py')
COSTMAP = middleware.shared_file('config/nav2_costmap.yaml')
PARAMETER_FILE = middleware.shared_file('config/stream.yaml')
DEFAULTS = {parameter.name: parameter.default for parameter in PARAMETERS}


def flat(tree: dict, prefix: str = '') -> dict:
    """Return nested parameters by their dotted names."""
    answer = {}
    for name, value in tree.items():
        answer.update(flat(value, f'{prefix}{name}.') if isinstance(value, dict) else {f'{prefix}{name}': value})
    return answer


@contextmanager
def node_made(*words: str) -> Iterator[Evict3rNode]:
    """Yield the node itself, in this process, as made by these words of a command line."""
    context = Context()
    rclpy.init(args=['--ros-args', *words], context=context)
    node = Evict3rNode(context=context)
    try:
        yield node
    finally:
        node._release()
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_parameter_file_holds_every_parameter_with_its_default():
    content = yaml.safe_load(PARAMETER_FILE.read_text())
    values = flat(content['/**']['ros__parameters'])
    assert values == DEFAULTS
    assert {name: type(value) for name, value in values.items()} == {k: type(v) for k, v in DEFAULTS.items()}


def test_settings_hold_every_parameter():
    assert set(Settings.__annotations__) == {name.replace('.', '_') for name in DEFAULTS}


@pytest.mark.parametrize('parameter', PARAMETERS, ids=lambda parameter: parameter.name)
def test_a_parameter_is_described_and_its_default_allowed(parameter):
    descriptor = parameter.descriptor()
    assert parameter.description.endswith('.') and descriptor.description.startswith(parameter.description)
    if parameter.bounds:
        assert parameter.bounds[0] <= parameter.default <= parameter.bounds[1]
        assert len(descriptor.integer_range) + len(descriptor.floating_point_range) == 1
    if parameter.choices:
        assert parameter.default in parameter.choices


def test_parameters_that_the_node_does_not_have_are_named_with_what_may_be_meant(monkeypatch):
    told: list[str] = []
    monkeypatch.setattr(Evict3rNode, '_log', lambda self, is_error, text: told.append(text))
    context = Context()
    given = {
        'cache.token': 512,
        'tokens': 512,
        'points.stride': 2,
        'use_sim_time': True,
        'nothing.like.it': 1,
        'qos_overrides./evict3r/status.publisher.depth': 5,
        'qos_overrides./evict3r/statuses.publisher.depth': 5,
        **{name: value for name, value in SMALL.items() if name != 'save.folder'},
        'preset': 'nano',
    }
    words = [word for name, value in given.items() for word in ('-p', f'{name}:={json.dumps(value)}')]
    rclpy.init(args=['--ros-args', *words], context=context)
    node = Evict3rNode(context=context)
    try:
        (line,) = told
        head, _, names = line.partition(': ')
        assert head == 'parameters that this node does not have and that change nothing'
        assert names == 'cache.token (is cache.tokens meant?), nothing.like.it, tokens (is cache.tokens meant?)'
        told.clear()
        for _ in range(2):
            assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
            assert node.trigger_deactivate() == node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        (line,) = [text for text in told if head in text]
        wrong, meant = (f'qos_overrides./evict3r/{topic}.publisher.depth' for topic in ('statuses', 'status'))
        assert line == f'{head}: {wrong} (is {meant} meant?)'
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


PROFILES = {'cpu_demo': 8, 'desktop': 6, 'orin_agx_64gb': 64, 'orin_nx_16gb': 16, 'orin_nano_8gb': 8, 'replay': None}
"""With the memory of the machine, GiB, of which the CPU of an Orin has its part."""


@pytest.mark.parametrize('name', [*PROFILES, 'metric_odometry'])
def test_a_profile_is_taken_by_the_node_over_the_defaults(name):
    """The node itself, in this process, with the files as launch gives them."""
    profile = middleware.shared_file(f'config/{name}.yaml')
    wanted = flat(yaml.safe_load(profile.read_text())['/**']['ros__parameters'])
    with node_made('--params-file', str(PARAMETER_FILE), '--params-file', str(profile)) as node:
        values = {name: node.get_parameter(name).value for name in {**DEFAULTS, **wanted}}
    assert values == {**DEFAULTS, **wanted}
    assert wanted and set(wanted) - {'use_sim_time'} <= set(DEFAULTS)


@pytest.mark.parametrize('name', [name for name, memory in PROFILES.items() if memory])
def test_a_profile_fits_its_machine_as_it_says(name, capsys):
    """What `evict3r plan` finds is what stands in the file, and leaves half of the machine to others."""
    text = middleware.shared_file(f'config/{name}.yaml').read_text()
    values = {**DEFAULTS, **flat(yaml.safe_load(text)['/**']['ros__parameters'])}
    preset = preset_of(values['weights'], values['preset'])
    width = values['image_width'] or PRESETS[preset].image_width
    planned = plan(
        preset,
        CacheConfig(
            values['cache.policy'],
            values['cache.tokens'],
            bits=values['cache.bits'],
            scores=values['cache.scores'],
            camera_frames=values['cache.camera_frames'],
        ),
        (width, width),
        'float32' if values['device'] == 'cpu' else values['dtype'],
        cuda=values['device'] == 'cuda',
        weights_bits=values['weights_bits'],
    )
    gib = planned.total / 2**30
    said, command = re.search(r'([0-9.]+) GiB[^(]*\(evict3r (plan [^)]*)\)', text.replace('\n# ', ' ')).groups()
    assert abs(gib - float(said)) < 0.06
    assert main([*command.split(), '--json']) == 0
    assert json.loads(capsys.readouterr().out)['bytes']['total'] == planned.total
    assert gib < PROFILES[name] * 0.6


class Recorded:
    """Any action or substitution of launch: what it was made of."""

    def __init__(self, *arguments, **options) -> None:
        self.kind, self.arguments, self.options = type(self).__name__, arguments, options


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch):
    """Return a function that executes a launch file with arguments, with stand-ins for launch and launch_ros.

    It returns what would be started. This is no test of launch, but of our own lines where launch is not installed.
    """
    given: dict[str, str] = {}

    class LaunchConfiguration(Recorded):
        def perform(self, _):
            return given[self.arguments[0]]

    made = {'LaunchConfiguration': LaunchConfiguration}
    for name in (
        'launch',
        'launch.actions',
        'launch.substitutions',
        'launch.events',
        'launch.event_handlers',
        'launch.launch_description_sources',
        'launch_ros',
        'launch_ros.actions',
        'launch_ros.event_handlers',
    ):
        module = types.ModuleType(name)
        module.__getattr__ = lambda what: made.setdefault(what, type(what, (Recorded,), {}))
        monkeypatch.setitem(sys.modules, name, module)

    def execute(path: Path, **arguments: str) -> list[Recorded]:
        content = runpy.run_path(str(path))
        actions = content['generate_launch_description']().arguments[0]
        declared = {
            action.arguments[0]: action.options.get('default_value')
            for action in actions
            if action.kind == 'DeclareLaunchArgument'
        }
        assert all(action.options['description'] for action in actions if action.kind == 'DeclareLaunchArgument')
        assert set(arguments) <= set(declared), 'no such argument'
        given.clear()
        given.update(declared, **arguments)
        assert None not in given.values(), 'an argument that has to be given is missing'
        started = [action for action in actions if action.kind not in ('DeclareLaunchArgument', 'OpaqueFunction')]
        for action in actions:
            if action.kind == 'OpaqueFunction':
                started += action.options['function'](object())
        return started

    return execute


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Return a function that adds packages to an ament index, which is empty at first."""
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path / 'prefix'))
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    index = tmp_path / 'prefix' / 'share' / 'ament_index' / 'resource_index' / 'packages'
    index.mkdir(parents=True)

    def add(*names: str) -> None:
        for name in names:
            (index / name).touch()

    return add


def test_stream_starts_the_node_alone_with_its_defaults(launched):
    (node,) = launched(LAUNCH_FILE, image='/cam/image', camera_info='/cam/info')
    assert (node.kind, node.options['executable'], node.options['arguments']) == ('LifecycleNode', 'evict3r', ['node'])
    assert node.options['parameters'] == [str(PARAMETER_FILE)]
    assert dict(node.options['remappings']) == {
        'image': '/cam/image',
        'image/compressed': '/cam/image/compressed',
        'camera_info': '/cam/info',
        'odom_in': 'odom_in',
        'depth_in': 'depth_in',
    }


@pytest.mark.parametrize(
    ('given', 'value', 'taken'),
    [('true', True, 'true'), ('false', False, 'false'), ('auto', 'auto', 'auto'), ("'true'", 'true', 'true')],
)
def test_publish_tf_is_a_boolean_or_auto(launched, given, value, taken):
    """What rcl makes of a word is a boolean, and what launch passes on may be a string."""
    (node,) = launched(LAUNCH_FILE, publish_tf=given)
    assert node.options['parameters'][-1] == {'publish_tf': given}
    with node_made('-p', f'publish_tf:={given}') as node:
        assert node.get_parameter('publish_tf').value == value
        assert parameters.read(node).publish_tf == taken


@pytest.mark.ros
def test_two_robots_have_a_tf_of_their_own(launched):
    """The remappings as launch gives them, and where the node's transform goes by them."""
    (stream,) = launched(LAUNCH_FILE, namespace='robot1', tf_namespaced='true')
    remapped = dict(stream.options['remappings'])
    assert (remapped['/tf'], remapped['/tf_static']) == ('tf', 'tf_static')
    given = {'weights': 'random', 'preset': 'nano', 'device': 'cpu', 'cache.tokens': 512, 'publish_tf': True}
    given |= {'save.folder': '', 'startup_timeout': 0.0}
    words = [word for name, value in given.items() for word in ('-p', f'{name}:={json.dumps(value)}')]
    words += [word for name in ('/tf', '/tf_static') for word in ('-r', f'{name}:={remapped[name]}')]
    heard: dict[str, list[TFMessage]] = {'/tf': [], '/robot1/tf': []}
    with node_made('-r', '__ns:=/robot1', *words) as node, Session('listener') as listener:
        for topic, messages in heard.items():
            listener.node.create_subscription(TFMessage, topic, messages.append, RELIABLE)
        assert {one.topic_name for one in node._listeners} == {
            '/robot1/tf_static'
        } and node._tf.topic_name == '/robot1/tf'
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        deadline = time.monotonic() + PATIENCE_S
        while node.count_subscribers('/tf') == 0 or node.count_subscribers('/robot1/tf') < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        index = 0
        while not heard['/robot1/tf']:
            assert time.monotonic() < deadline
            message = image_message(scene(index), START_NS + index * STEP_NS)
            node._configured.publish(node._configured.perception.process(message, threading.Event()))
            index += 1
    assert heard['/robot1/tf'][0].transforms[0].header.frame_id == 'odom' and heard['/tf'] == []


def test_stream_puts_files_and_values_in_their_order(launched, tmp_path):
    own = tmp_path / 'my.yaml'
    own.touch()
    (node,) = launched(
        LAUNCH_FILE,
        profile='desktop,replay',
        params_file=str(own),
        weights='random',
        require_metric='true',
        use_sim_time='true',
        autostart='false',
        namespace='robot',
    )
    *files, values = node.options['parameters']
    assert [Path(file).name for file in files] == ['stream.yaml', 'desktop.yaml', 'replay.yaml', 'my.yaml']
    assert values == {'weights': 'random', 'points.require_metric': True, 'use_sim_time': True}
    assert set(values) - {'use_sim_time'} <= set(DEFAULTS)
    assert node.options['arguments'] == ['node', '--no-autostart']
    assert node.options['ros_arguments'] == ['--log-level', 'robot.evict3r:=info']


@pytest.mark.parametrize('name', ['toaster', 'stream', 'nav2_costmap', 'metric_odometry', '../config/desktop'])
def test_a_profile_is_one_of_those_that_are_listed(launched, name):
    with pytest.raises(RuntimeError, match=f'nothing is started: profile {name!r} is none of ') as caught:
        launched(LAUNCH_FILE, profile=f'desktop,{name}')
    assert set(str(caught.value).partition(' is none of ')[2].split(', ')) == set(PROFILES)


def test_the_profiles_are_those_that_are_tested_and_described(launched):
    content = runpy.run_path(str(LAUNCH_FILE))
    assert set(content['PROFILES']) == set(PROFILES)
    assert all(name in dict((n, d) for n, _, d in content['ARGUMENTS'])['profile'] for name in PROFILES)


def test_a_parameter_file_that_is_not_there_starts_nothing(launched, tmp_path, monkeypatch):
    missing = tmp_path / 'typo.yaml'
    with pytest.raises(RuntimeError, match=rf'nothing is started: params_file:={missing}: .* does not exist'):
        launched(LAUNCH_FILE, params_file=str(missing))
    with pytest.raises(RuntimeError, match='is no file'):
        launched(LAUNCH_FILE, params_file=str(tmp_path))
    missing.touch()
    monkeypatch.setenv('HOME', str(tmp_path))  # a shell leaves ~ alone behind :=
    (node,) = launched(LAUNCH_FILE, params_file='~/typo.yaml')
    assert node.options['parameters'][-1] == str(missing)


@pytest.mark.parametrize(
    ('file', 'arguments', 'missing', 'debian'),
    [
        ('stream', {'rviz': 'true'}, 'rviz2', 'ros-jazzy-rviz2'),
        ('stream', {'republish': 'theora'}, 'image_transport', 'ros-jazzy-image-transport'),
        (
            'nav2_costmap',
            {},
            'nav2_costmap_2d, nav2_lifecycle_manager',
            'ros-jazzy-nav2-costmap-2d ros-jazzy-nav2-lifecycle-manager',
        ),
        ('replay', {'bag': '.'}, 'rosbag2', 'ros-jazzy-rosbag2'),
    ],
)
def test_a_package_that_is_missing_is_named_before_anything_starts(
    launched, install, monkeypatch, file, arguments, missing, debian
):
    path = middleware.shared_file(f'launch/{file}.launch.py')
    with pytest.raises(RuntimeError) as caught:
        launched(path, **arguments)
    assert str(caught.value) == f'nothing is started: not installed: {missing}. apt-get install {debian}'
    monkeypatch.delenv('ROS_DISTRO')
    with pytest.raises(RuntimeError, match=r'apt-get install ros-\$ROS_DISTRO-'):
        launched(path, **arguments)
    install(*missing.split(', '), 'ros2bag')
    assert launched(path, **arguments)


def test_nav2_is_looked_up_before_perception_is_included(launched, install):
    install('nav2_costmap_2d')
    actions = runpy.run_path(str(NAV2))['generate_launch_description']().arguments[0]
    kinds = [action.kind for action in actions if action.kind != 'DeclareLaunchArgument']
    assert kinds == ['OpaqueFunction', 'IncludeLaunchDescription', 'Node', 'Node']
    with pytest.raises(RuntimeError, match='not installed: nav2_lifecycle_manager'):
        launched(NAV2)


def test_a_bag_that_is_not_there_starts_nothing(launched, install):
    install('ros2bag')
    with pytest.raises(RuntimeError, match=r'bag:=nowhere: .*nowhere does not exist'):
        launched(middleware.shared_file('launch/replay.launch.py'), bag='nowhere')


def test_stream_with_another_transport_and_rviz(launched, install):
    install('image_transport', 'rviz2')
    node, republish, rviz = launched(
        LAUNCH_FILE, image='/cam', republish='theora', rviz='true', namespace='robot', name='eye'
    )
    assert (
        dict(node.options['remappings'])['image'] == dict(republish.options['remappings'])['out'] == '/cam/republished'
    )
    assert dict(republish.options['remappings'])['in/theora'] == '/cam/theora'
    assert Path(rviz.options['arguments'][1]).is_file()
    shown = dict(rviz.options['remappings'])
    displays = yaml.safe_load(Path(rviz.options['arguments'][1]).read_text())['Visualization Manager']['Displays']
    topics = {display['Topic']['Value'] for display in displays if 'Topic' in display}
    assert topics == set(shown)
    assert shown['/evict3r/points'] == '/robot/eye/points'
    outputs = (Path(__file__).parent.parent / 'evict3r_ros' / 'ros' / 'node' / 'outputs.py').read_text()
    assert all(f"'~/{topic.removeprefix('/evict3r/')}'" in outputs for topic in topics)


def included(action: Recorded) -> tuple[Path, dict[str, object]]:
    """Return the file and the arguments of an inclusion."""
    assert action.kind == 'IncludeLaunchDescription'
    return Path(action.arguments[0].arguments[0]), dict(action.options['launch_arguments'])


def test_replay_begins_with_the_node_and_ends_with_the_bag(launched, install, tmp_path):
    install('ros2bag', 'rviz2')
    drive = str(tmp_path)
    path = middleware.shared_file('launch/replay.launch.py')
    begin, stream = launched(path, bag=drive, loop='true')
    bag = begin.arguments[0].options['entities'][0]
    assert begin.arguments[0].options['goal_state'] == 'active'
    assert bag.options['cmd'] == ['ros2', 'bag', 'play', drive, '--clock', '100', '--rate', '1.0', '--loop']
    file, arguments = included(stream)
    node, *_ = launched(file, **arguments)  # its arguments are those of stream.launch.py
    assert [Path(name).stem for name in node.options['parameters'][:-1]] == ['stream', 'desktop', 'replay']
    assert len(launched(path, bag=drive, rviz='false')) == 3
    with pytest.raises(AssertionError, match='missing'):
        launched(path)


def test_nav2_gets_a_cloud_in_metres_only(launched, install):
    install('nav2_costmap_2d', 'nav2_lifecycle_manager')
    stream, costmap, manager = launched(NAV2)
    file, arguments = included(stream)
    node, *_ = launched(file, **{name: value if isinstance(value, str) else '' for name, value in arguments.items()})
    assert node.options['parameters'][-1]['points.require_metric'] is True
    assert costmap.options['parameters'][0] == str(COSTMAP)
    managed = manager.options['parameters'][0]
    assert managed['node_names'] == ['costmap/costmap']
    assert managed['bond_timeout'] == 0.0  # a costmap of its own answers no bond, and neither does this node


def test_the_costmap_clears_by_rays_to_the_floor_but_does_not_mark_it():
    """A source's limits of height hold before clearing as well, so that the floor needs one without them."""
    costmap = yaml.safe_load(COSTMAP.read_text())['/**']['ros__parameters']
    layer = costmap['voxel_layer']
    sources = [layer[name] for name in layer['observation_sources'].split()]
    assert {(source['topic'], source['data_type']) for source in sources} == {('/evict3r/points', 'PointCloud2')}
    floor, ceiling = 0.0, 2.5
    marking = [source for source in sources if source['marking']]
    clearing = [source for source in sources if source['clearing']]
    assert marking and all(source['min_obstacle_height'] > floor for source in marking)
    assert clearing and not any(source['marking'] for source in clearing)
    assert all(source['min_obstacle_height'] < floor and source['max_obstacle_height'] > ceiling for source in clearing)
    # what is marked far away has to be within reach of the clearing
    assert max(source['obstacle_max_range'] for source in marking) <= min(
        source['raytrace_max_range'] for source in clearing
    )
    assert costmap['transform_tolerance'] > 0.3  # Nav2's own, less than a slow machine takes for an image


@pytest.mark.ros
@pytest.mark.timeout(240)
def test_launch_brings_the_node_to_active(tmp_path: Path):
    pytest.importorskip('launch_ros', reason='launch_ros is not installed here: it comes with ROS from apt')
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    if not any((Path(prefix) / 'lib' / 'evict3r_ros' / 'evict3r').is_file() for prefix in prefixes if prefix):
        pytest.skip('launch looks for lib/evict3r_ros/evict3r, and no workspace built by colcon is sourced')
    given = {
        'image': '/cam/image',
        'camera_info': '/camera_info',
        'weights': 'random',
        'preset': 'small',
        'log_level': 'warn',
    }
    driver = tmp_path / 'driver.py'
    driver.write_text(
        'import sys\n'
        'from launch import LaunchDescription, LaunchService\n'
        'from launch.actions import IncludeLaunchDescription\n'
        'from launch.launch_description_sources import PythonLaunchDescriptionSource\n'
        'service = LaunchService()\n'
        'service.include_launch_description(LaunchDescription([IncludeLaunchDescription(\n'
        f'    PythonLaunchDescriptionSource({str(LAUNCH_FILE)!r}), launch_arguments={given!r}.items())]))\n'
        'sys.exit(service.run())\n'
    )
    log = tmp_path / 'launch.log'
    with Robot(image='cam/image') as robot, log.open('wb') as output:
        # A group of its own, so that the signal reaches launch and node together, as Ctrl-C in a terminal does.
        process = subprocess.Popen(
            [sys.executable, str(driver)], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            robot.until_active()
            robot.show_and_wait(image_message(scene(0), START_NS))
            assert robot.statuses[-1].untrained
            os.killpg(process.pid, signal.SIGINT)
            process.wait(PATIENCE_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            print(log.read_text(errors='replace'))
    said = log.read_text(errors='replace')
    assert 'process has finished cleanly' in said and 'Traceback' not in said and 'failed to terminate' not in said
    assert 'preset small' not in said and 'UNTRAINED' in said  # the log level was passed on
