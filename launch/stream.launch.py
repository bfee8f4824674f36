# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Starts the node on a camera's topic; it configures and activates itself.

ros2 launch evict3r_ros stream.launch.py image:=/camera/image_raw camera_info:=/camera/camera_info
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode

# The same place in the source tree and in the installed share folder.
PARAMETERS = Path(__file__).parent.parent / 'config' / 'stream.yaml'

ARGUMENTS = (
    ('image', 'image', "topic of the images; with image_transport compressed '/compressed' is appended to it"),
    ('camera_info', 'camera_info', "topic of the images' camera_info"),
    ('params_file', str(PARAMETERS), 'YAML file with all parameters; the arguments below go before it where given'),
    ('weights', '', "'tiny' (this package's own), 'official', the path of a checkpoint, or 'random' (untrained)"),
    ('preset', '', 'size of the network, by default that of the weights'),
    ('image_transport', '', 'raw or compressed'),
    ('use_sim_time', 'false', 'take the time from /clock'),
    ('namespace', '', 'namespace of the node and of relative topics'),
    ('name', 'evict3r', 'name of the node'),
    ('autostart', 'true', 'false: leave the transitions to somebody else, such as a lifecycle manager'),
    ('log_level', 'info', 'debug, info, warn, error or fatal'),
)
# Arguments that are parameters of the node by the same name; an empty one leaves the file's value.
OVERRIDES = ('weights', 'preset', 'image_transport')


def start_node(context: LaunchContext) -> list[LifecycleNode]:
    """Return the node, once the arguments have values."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    overrides = {name: given[name] for name in OVERRIDES if given[name]}
    overrides['use_sim_time'] = given['use_sim_time'].lower() == 'true'
    logger = f"{given['namespace']}/{given['name']}".strip('/').replace('/', '.')
    return [LifecycleNode(
        package='evict3r_ros', executable='evict3r', name=given['name'], namespace=given['namespace'],
        arguments=['node'] if given['autostart'].lower() == 'true' else ['node', '--no-autostart'],
        ros_arguments=['--log-level', f"{logger}:={given['log_level']}"],
        parameters=[given['params_file'], overrides],
        remappings=[('image', given['image']), ('image/compressed', f"{given['image']}/compressed"),
                    ('camera_info', given['camera_info'])],
        output='screen', emulate_tty=True)]


def generate_launch_description() -> LaunchDescription:
    """Return what ros2 launch runs."""
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=description)
          for name, default, description in ARGUMENTS),
        OpaqueFunction(function=start_node)])
