# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Start the node on a camera's topic; it configures and activates itself.

ros2 launch evict3r_ros stream.launch.py image:=/camera/image_raw camera_info:=/camera/camera_info profile:=desktop
"""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from evict3r_ros.ros.tools.launch_checks import existing_path, require_packages
from launch import LaunchContext, LaunchDescription

# The same place in the source tree and in the installed share folder.
CONFIG = Path(__file__).parent.parent / 'config'
# The files there that profile:= takes; the others are of other uses.
PROFILES = ('cpu_demo', 'desktop', 'orin_agx_64gb', 'orin_nx_16gb', 'orin_nano_8gb', 'replay')

ARGUMENTS = (
    ('image', 'image', "topic of the images; with image_transport compressed '/compressed' is appended to it"),
    ('camera_info', 'camera_info', "topic of the images' camera_info"),
    ('odom_in', 'odom_in', 'topic of an odometry in metres, for scale.source odometry'),
    ('depth_in', 'depth_in', 'topic of a depth image in metres, for scale.source depth'),
    ('profile', '', f'the machine, one of {", ".join(PROFILES)}; several with commas between, such as desktop,replay'),
    ('params_file', '', "a YAML file of one's own, which goes before the profile"),
    (
        'weights',
        '',
        "'tiny' (this package's own), 'official', the path of a checkpoint, or 'random' (untrained); this "
        'and the next go before files',
    ),
    ('preset', '', 'size of the network, by default that of the weights'),
    ('image_transport', '', 'raw or compressed'),
    ('republish', '', "another transport, such as theora: image_transport's republish makes raw images of it"),
    ('publish_tf', '', 'true, false, or auto: whether odom -> base goes to /tf, only if its lengths mean something'),
    ('require_metric', '', 'true: no cloud until the scale is metric'),
    ('use_sim_time', '', 'true: take the time from /clock'),
    ('rviz', 'false', 'true: start rviz2 with config/stream.rviz'),
    ('namespace', '', 'namespace of the node and of relative topics'),
    (
        'tf_namespaced',
        'false',
        "true: /tf and /tf_static are the namespace's own, for several robots that name their frames alike",
    ),
    ('name', 'evict3r', 'name of the node'),
    ('autostart', 'true', 'false: leave the transitions to somebody else, such as a lifecycle manager'),
    ('log_level', 'info', 'debug, info, warn, error or fatal'),
)
# Arguments and the parameters they set; an empty one leaves the files' value.
OVERRIDES = {name: name for name in ('weights', 'preset', 'image_transport', 'publish_tf')}
SWITCHES = {'require_metric': 'points.require_metric', 'use_sim_time': 'use_sim_time'}
# What config/stream.rviz shows, below the node's name.
SHOWN = ('points', 'depth/image_rect', 'rgb/image_rect', 'odometry', 'path')


def start(context: LaunchContext) -> list[Node]:
    """Return what is started, once the arguments have values."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    needed = {'image_transport': bool(given['republish']), 'rviz2': is_true(given['rviz'])}
    require_packages(name for name, is_needed in needed.items() if is_needed)
    started = [perception(given)]
    if given['republish']:
        started.append(republisher(given))
    if is_true(given['rviz']):
        started.append(rviz(given))
    return started


def perception(given: dict[str, str]) -> LifecycleNode:
    """Return the node itself."""
    profiles = [profile.strip() for profile in given['profile'].split(',') if profile.strip()]
    if unknown := [profile for profile in profiles if profile not in PROFILES]:
        raise RuntimeError(f'nothing is started: profile {unknown[0]!r} is none of {", ".join(PROFILES)}')
    files = [str(CONFIG / f'{profile}.yaml') for profile in ('stream', *profiles)]
    files += [existing_path(given['params_file'], 'params_file')] if given['params_file'] else []
    overrides = {parameter: given[name] for name, parameter in OVERRIDES.items() if given[name]}
    overrides.update((parameter, is_true(given[name])) for name, parameter in SWITCHES.items() if given[name])
    image = republished(given) if given['republish'] else given['image']
    logger = f'{given["namespace"]}/{given["name"]}'.strip('/').replace('/', '.')
    return LifecycleNode(
        package='evict3r_ros',
        executable='evict3r',
        name=given['name'],
        namespace=given['namespace'],
        arguments=['node'] if is_true(given['autostart']) else ['node', '--no-autostart'],
        ros_arguments=['--log-level', f'{logger}:={given["log_level"]}'],
        parameters=[*files, *([overrides] if overrides else [])],
        remappings=[
            ('image', image),
            ('image/compressed', f'{image}/compressed'),
            *((topic, given[topic]) for topic in ('camera_info', 'odom_in', 'depth_in')),
            *transforms(given),
        ],
        output='screen',
        emulate_tty=True,
    )


def republisher(given: dict[str, str]) -> Node:
    """Return what makes raw images of another transport. Humble takes the transports as words, others as parameters."""
    transport, image = given['republish'], given['image']
    return Node(
        package='image_transport',
        executable='republish',
        name=f'{given["name"]}_republish',
        namespace=given['namespace'],
        arguments=[transport, 'raw'],
        parameters=[{'in_transport': transport, 'out_transport': 'raw'}],
        remappings=[('in', image), (f'in/{transport}', f'{image}/{transport}'), ('out', republished(given))],
    )


def republished(given: dict[str, str]) -> str:
    """Return the topic of the raw images made."""
    return f'{given["image"]}/republished'


def rviz(given: dict[str, str]) -> Node:
    """Return rviz2, showing this node whatever its name is."""
    prefix = f'/{given["namespace"]}/{given["name"]}'.replace('//', '/')
    return Node(
        package='rviz2',
        executable='rviz2',
        name=f'{given["name"]}_rviz',
        arguments=['-d', str(CONFIG / 'stream.rviz')],
        parameters=[{'use_sim_time': is_true(given['use_sim_time'])}],
        namespace=given['namespace'] if is_true(given['tf_namespaced']) else None,
        remappings=[*((f'/evict3r/{topic}', f'{prefix}/{topic}') for topic in SHOWN), *transforms(given)],
    )


def transforms(given: dict[str, str]) -> list[tuple[str, str]]:
    """Return the remappings that put the topics of tf2 below the namespace, if that is wished."""
    return [('/tf', 'tf'), ('/tf_static', 'tf_static')] if is_true(given['tf_namespaced']) else []


def is_true(text: str) -> bool:
    """Return whether a switch is on."""
    return text.lower() in ('true', '1', 'yes', 'on')


def generate_launch_description() -> LaunchDescription:
    """Return what ros2 launch runs."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, description in ARGUMENTS
            ),
            OpaqueFunction(function=start),
        ]
    )
