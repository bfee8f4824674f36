# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Launch file and parameter file: checked against the parameters everywhere, executed where launch_ros is there."""
from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')

from ros_bench import START_NS  # noqa: E402
from ros_robot import PATIENCE_S, NodeUnderTest, Robot, image_message, scene  # noqa: E402

from evict3r_ros import resources  # noqa: E402
from evict3r_ros.ros.parameters import PARAMETERS, Settings, field_name  # noqa: E402

LAUNCH_FILE = resources.find('launch/stream.launch.py')
PARAMETER_FILE = resources.find('config/stream.yaml')
DEFAULTS = {parameter.name: parameter.default for parameter in PARAMETERS}


def assigned(name: str) -> ast.expr:
    """Return what the launch file assigns to a name at its top level."""
    for statement in ast.parse(LAUNCH_FILE.read_text()).body:
        if isinstance(statement, ast.Assign) and statement.targets[0].id == name:
            return statement.value
    raise AssertionError(f'{name} is not assigned')


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
    assert set(Settings.__annotations__) == {field_name(name) for name in DEFAULTS}


@pytest.mark.parametrize('parameter', PARAMETERS, ids=lambda parameter: parameter.name)
def test_a_parameter_is_described_and_its_default_allowed(parameter):
    descriptor = parameter.descriptor()
    assert parameter.description.endswith('.') and descriptor.description.startswith(parameter.description)
    if parameter.bounds:
        assert parameter.bounds[0] <= parameter.default <= parameter.bounds[1]
        assert len(descriptor.integer_range) + len(descriptor.floating_point_range) == 1
    if parameter.choices:
        assert parameter.default in parameter.choices


def test_launch_arguments_are_parameters_and_topics_of_the_node():
    arguments = {entry.elts[0].value for entry in assigned('ARGUMENTS').elts}
    overrides = set(ast.literal_eval(assigned('OVERRIDES')))
    assert overrides <= arguments and overrides <= set(DEFAULTS)
    assert arguments - overrides == {'image', 'camera_info', 'params_file', 'use_sim_time', 'namespace', 'name',
                                     'autostart', 'log_level'}


def test_the_parameter_file_is_taken_and_the_command_line_goes_before_it(tmp_path: Path):
    log = tmp_path / 'node.log'
    with Robot() as robot, NodeUnderTest(
            log, '--no-autostart', '--ros-args', '--params-file', str(PARAMETER_FILE), parameters={'preset': 'small'}):
        values = robot.get_parameters('preset', 'cache.tokens', 'frames.base', 'startup_timeout')
        assert [values[0].string_value, values[1].integer_value] == ['small', DEFAULTS['cache.tokens']]
        assert [values[2].string_value, values[3].double_value] == ['base_link', DEFAULTS['startup_timeout']]


@pytest.mark.ros
@pytest.mark.timeout(240)
def test_launch_brings_the_node_to_active(tmp_path: Path):
    pytest.importorskip('launch_ros', reason='launch_ros is not installed here: it comes with ROS from apt')
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    if not any((Path(prefix) / 'lib' / 'evict3r_ros' / 'evict3r').is_file() for prefix in prefixes if prefix):
        pytest.skip('launch looks for lib/evict3r_ros/evict3r, and no workspace built by colcon is sourced')
    given = {'image': '/cam/image', 'camera_info': '/camera_info', 'weights': 'random', 'preset': 'small',
             'log_level': 'warn'}
    driver = tmp_path / 'driver.py'
    driver.write_text(
        'import sys\n'
        'from launch import LaunchDescription, LaunchService\n'
        'from launch.actions import IncludeLaunchDescription\n'
        'from launch.launch_description_sources import PythonLaunchDescriptionSource\n'
        'service = LaunchService()\n'
        'service.include_launch_description(LaunchDescription([IncludeLaunchDescription(\n'
        f'    PythonLaunchDescriptionSource({str(LAUNCH_FILE)!r}), launch_arguments={given!r}.items())]))\n'
        'sys.exit(service.run())\n')
    log = tmp_path / 'launch.log'
    with Robot(image='cam/image') as robot, log.open('wb') as output:
        # A group of its own, so that the signal reaches launch and node together, as Ctrl-C in a terminal does.
        process = subprocess.Popen([sys.executable, str(driver)], stdout=output, stderr=subprocess.STDOUT,
                                   start_new_session=True)
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
