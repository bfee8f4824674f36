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
import types
from pathlib import Path

import pytest
import yaml

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

import rclpy
from rclpy.context import Context
from ros_bench import START_NS
from ros_robot import PATIENCE_S, Robot, image_message, scene

from evict3r_ros.cache import CacheConfig
from evict3r_ros.cli.main import main
from evict3r_ros.network import PRESETS, preset_of
from evict3r_ros.ros.node.lifecycle_node import Evict3rNode
from evict3r_ros.ros.settings.parameters import PARAMETERS, Settings
from evict3r_ros.ros.tools import middleware
from evict3r_ros.stream.planning import plan

LAUNCH_FILE = middleware.shared_file('launch/stream.launch.py')
PARAMETER_FILE = middleware.shared_file('config/stream.yaml')
DEFAULTS = {parameter.name: parameter.default for parameter in PARAMETERS}


def flat(tree: dict, prefix: str = '') -> dict:
    """Return nested parameters by their dotted names."""
    answer = {}
    for name, value in tree.items():
        answer.update(flat(value, f'{prefix}{name}.') if isinstance(value, dict) else {f'{prefix}{name}': value})
    return answer


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


PROFILES = {'cpu_demo': 8, 'desktop': 6, 'orin_agx_64gb': 64, 'orin_nx_16gb': 16, 'orin_nano_8gb': 8, 'replay': None}
"""With the memory of the machine, GiB, of which the CPU of an Orin has its part."""


@pytest.mark.parametrize('name', [*PROFILES, 'metric_odometry'])
def test_a_profile_is_taken_by_the_node_over_the_defaults(name):
    """The node itself, in this process, with the files as launch gives them."""
    profile = middleware.shared_file(f'config/{name}.yaml')
    wanted = flat(yaml.safe_load(profile.read_text())['/**']['ros__parameters'])
    context = Context()
    rclpy.init(
        args=['--ros-args', '--params-file', str(PARAMETER_FILE), '--params-file', str(profile)], context=context
    )
    node = Evict3rNode(context=context)
    try:
        values = {name: node.get_parameter(name).value for name in {**DEFAULTS, **wanted}}
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
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


def test_stream_puts_files_and_values_in_their_order(launched):
    (node,) = launched(
        LAUNCH_FILE,
        profile='desktop,replay',
        params_file='/my.yaml',
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
    with pytest.raises(RuntimeError, match=r"profile 'toaster' is none of .*orin_nano_8gb"):
        launched(LAUNCH_FILE, profile='toaster')


def test_stream_with_another_transport_and_rviz(launched):
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


def test_replay_begins_with_the_node_and_ends_with_the_bag(launched):
    path = middleware.shared_file('launch/replay.launch.py')
    begin, stream = launched(path, bag='drive', loop='true')
    bag = begin.arguments[0].options['entities'][0]
    assert begin.arguments[0].options['goal_state'] == 'active'
    assert bag.options['cmd'] == ['ros2', 'bag', 'play', 'drive', '--clock', '100', '--rate', '1.0', '--loop']
    file, arguments = included(stream)
    node, *_ = launched(file, **arguments)  # its arguments are those of stream.launch.py
    assert [Path(name).stem for name in node.options['parameters'][:-1]] == ['stream', 'desktop', 'replay']
    assert len(launched(path, bag='drive', rviz='false')) == 3
    with pytest.raises(AssertionError, match='missing'):
        launched(path)


def test_nav2_gets_a_cloud_in_metres_only(launched):
    stream, costmap, manager = launched(middleware.shared_file('launch/nav2_costmap.launch.py'))
    file, arguments = included(stream)
    node, *_ = launched(file, **{name: value if isinstance(value, str) else '' for name, value in arguments.items()})
    assert node.options['parameters'][-1]['points.require_metric'] is True
    layer = yaml.safe_load(Path(costmap.options['parameters'][0]).read_text())['/**']['ros__parameters']['voxel_layer']
    source = layer[layer['observation_sources']]
    assert (source['topic'], source['data_type']) == ('/evict3r/points', 'PointCloud2')
    assert manager.options['parameters'][0]['node_names'] == ['costmap/costmap']


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
