# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Parameter files of the commands: what ROS takes is taken, with rclpy's own reader as the judge."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed here')
import rclpy
from rclpy._rclpy_pybind11 import RCLInvalidROSArgsError
from rclpy.context import Context

from evict3r_ros.cli.options.node_parameters import NODE, NodeParameters, read_parameters
from evict3r_ros.errors import UserError
from evict3r_ros.ros.settings import parameters

ROOT = Path(__file__).parent.parent
_ONE = '    points.stride: 4\n'
FILES = {
    'every node': f'/**:\n  ros__parameters:\n{_ONE}',
    'one part': f'"/*":\n  ros__parameters:\n{_ONE}',
    'bare star': f'"*":\n  ros__parameters:\n{_ONE}',
    'bare stars': f'"**":\n  ros__parameters:\n{_ONE}',
    'name': f'evict3r:\n  ros__parameters:\n{_ONE}',
    'full name': f'/evict3r:\n  ros__parameters:\n{_ONE}',
    'in any namespace': f'/**/evict3r:\n  ros__parameters:\n{_ONE}',
    'nested': '/**:\n  evict3r:\n    ros__parameters:\n      points.stride: 4\n',
    'nested below the root': '/:\n  evict3r:\n    ros__parameters:\n      points.stride: 4\n',
    'nested twice': '/**:\n  "**":\n    evict3r:\n      ros__parameters:\n        points.stride: 4\n',
    'in some namespace': f'/*/evict3r:\n  ros__parameters:\n{_ONE}/**:\n  ros__parameters:\n    seed: 3\n',
    'in another namespace': f'/robot1/evict3r:\n  ros__parameters:\n{_ONE}/**:\n  ros__parameters:\n    seed: 3\n',
    'the later one counts': f'evict3r:\n  ros__parameters:\n    points.stride: 8\n/**:\n  ros__parameters:\n{_ONE}',
    'both': f'/**:\n  ros__parameters:\n{_ONE}  evict3r:\n    ros__parameters:\n      seed: 3\n',
    'sim time': '/**:\n  ros__parameters:\n    use_sim_time: true\n    startup_timeout: 5.0\n',
    'quality': '/**:\n  ros__parameters:\n    qos_overrides:\n      /evict3r/points:\n'
    '        publisher: {reliability: best_effort, depth: 3}\n',
    'values': '/**:\n  ros__parameters:\n    scale: {fixed: 1e-1, source: "fixed"}\n    publish_path: off\n'
    '    seed: 0x10\n',
}


def judged(context: Context, file: Path) -> dict[str, object]:
    """Return what a node of this name is given."""
    node = rclpy.create_node(
        NODE[1:],
        context=context,
        cli_args=['--ros-args', '--params-file', str(file)],
        use_global_arguments=False,
        start_parameter_services=False,
        allow_undeclared_parameters=True,
        automatically_declare_parameters_from_overrides=True,
    )
    try:
        found = {name: parameter.value for name, parameter in node._parameters.items()}
    finally:
        node.destroy_node()
    return found


def test_files_mean_what_they_mean_to_rclpy(tmp_path):
    context = Context()
    rclpy.init(args=[], context=context)
    try:
        compared = 0
        for what, text in FILES.items():
            file = tmp_path / f'{what}.yaml'
            file.write_text(text)
            try:
                truth = judged(context, file)
            except RCLInvalidROSArgsError:  # before Kilted a name may not be a node's and a namespace at once
                continue
            found = read_parameters(file, [])
            compared += 1
            for name in ('use_sim_time', 'start_type_description_service'):
                if name not in found.of_ros:
                    truth.pop(name, None)
            assert {**found.own, **found.of_ros} == truth, what
            parameters.from_values(found.own)
        assert compared >= len(FILES) - 1
    finally:
        rclpy.shutdown(context=context)


OURS = [file for file in sorted((ROOT / 'config').glob('*.yaml')) if 'nav2' not in file.name]


@pytest.mark.parametrize('file', OURS, ids=lambda file: file.stem)
def test_files_of_this_package_are_taken(file, capsys):
    found = read_parameters(file, [])
    parameters.from_values(found.own)
    assert found.own and not capsys.readouterr().err
    assert (found.of_ros == {'use_sim_time': True}) == (file.stem == 'replay')


def test_words_go_before_the_file_and_foreign_names_in_it_are_told(tmp_path, capsys):
    file = tmp_path / 'p.yaml'
    file.write_text('/**:\n  ros__parameters:\n    seed: 1\n    max_velocity: 3.0\n    use_sim_time: true\n')
    assert read_parameters(file, ['seed:=2', 'use_sim_time:=false']) == NodeParameters(
        {'seed': 2}, {'use_sim_time': False}
    )
    assert "the node has no parameter 'max_velocity'" in capsys.readouterr().err
    with pytest.raises(UserError, match="no parameter 'max_velocity'"):
        parameters.from_values(read_parameters(None, ['max_velocity:=3.0']).own)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('/robot1/evict3r:\n  ros__parameters:\n    seed: 1\n', 'it has some for /robot1/evict3r'),
        ('"evict(":\n  ros__parameters:\n    seed: 1\n', 'it has some for'),
        ('seed: 1\n', 'there is no `ros__parameters:` in it'),
        ('', 'there is no `ros__parameters:` in it'),
        ('/**: [1\n', 'cannot be read'),
    ],
)
def test_a_file_without_parameters_for_the_node_says_for_whom_it_is(tmp_path, text, said):
    (tmp_path / 'p.yaml').write_text(text)
    with pytest.raises(UserError, match=r'p\.yaml') as refusal:
        read_parameters(tmp_path / 'p.yaml', [])
    assert said in str(refusal.value)
