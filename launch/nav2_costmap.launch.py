# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node in front of a Nav2 costmap with a voxel layer: an example to copy from.

ros2 launch evict3r_ros nav2_costmap.launch.py image:=/camera/image_raw odom_in:=/wheel/odometry profile:=desktop

The cloud is held back until the scale is metric: a costmap takes lengths for metres. So a source of scale is needed;
here it is a wheel odometry. config/nav2_costmap.yaml has the layer, to be copied into a Nav2 of one's own.
"""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from evict3r_ros.ros.tools.launch_checks import require_packages
from launch import LaunchContext, LaunchDescription

STREAM = Path(__file__).parent / 'stream.launch.py'
COSTMAP = Path(__file__).parent.parent / 'config' / 'nav2_costmap.yaml'
SCALE = Path(__file__).parent.parent / 'config' / 'metric_odometry.yaml'

ARGUMENTS = (
    ('image', 'image', 'topic of the images'),
    ('camera_info', 'camera_info', "topic of the images' camera_info"),
    ('odom_in', 'odom_in', 'topic of the wheel odometry that the scale is taken from'),
    ('profile', 'desktop', 'the machine, as of stream.launch.py'),
    ('params_file', str(SCALE), "a YAML file with the source of scale, and whatever else is one's own"),
    ('weights', '', "'tiny' (this package's own), 'official', or the path of a checkpoint"),
    ('use_sim_time', 'false', 'true: take the time from /clock'),
    ('rviz', 'false', 'true: start rviz2 with config/stream.rviz'),
)


def check(_: LaunchContext) -> list[Node]:
    """Start nothing, but say what is missing."""
    require_packages(['nav2_costmap_2d', 'nav2_lifecycle_manager'])
    return []


def generate_launch_description() -> LaunchDescription:
    """Return what ros2 launch runs."""
    stream = {name: LaunchConfiguration(name) for name, _, _ in ARGUMENTS}
    sim_time = {'use_sim_time': LaunchConfiguration('use_sim_time')}
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, description in ARGUMENTS
            ),
            OpaqueFunction(function=check),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(STREAM)),
                launch_arguments={**stream, 'require_metric': 'true'}.items(),
            ),
            # Its node calls itself /costmap/costmap.
            Node(
                package='nav2_costmap_2d',
                executable='nav2_costmap_2d',
                output='screen',
                parameters=[str(COSTMAP), sim_time],
            ),
            Node(
                package='nav2_lifecycle_manager',
                executable='lifecycle_manager',
                name='lifecycle_manager_costmap',
                output='screen',
                # A costmap of its own has no bond: without the last one the manager would give it up after 4 s.
                parameters=[{'autostart': True, 'node_names': ['costmap/costmap'], 'bond_timeout': 0.0}, sim_time],
            ),
        ]
    )
