# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Play a bag into the node and show the answer in rviz2; the bag begins once the node is active.

ros2 launch evict3r_ros replay.launch.py bag:=drive/ image:=/camera/image_raw profile:=desktop

Images that come while the node is busy are dropped, as on a robot: `evict3r replay --offline` drops none.
"""

from __future__ import annotations

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.event_handlers import OnStateTransition

from evict3r_ros.ros.tools.launch_checks import existing_path, require_packages
from launch import LaunchContext, LaunchDescription

STREAM = Path(__file__).parent / 'stream.launch.py'

ARGUMENTS = (
    ('bag', None, 'the bag, a folder or a file'),
    ('rate', '1.0', "bag seconds a second; slower than real time if the node can't keep up"),
    ('loop', 'false', 'true: play it again and again; the stream begins anew each time'),
    ('image', 'image', 'topic of the images in the bag'),
    ('camera_info', 'camera_info', "topic of the images' camera_info in the bag"),
    ('profile', 'desktop', 'the machine, as of stream.launch.py'),
    ('params_file', '', "a YAML file of one's own, which goes before the profile"),
    ('weights', '', "'tiny' (this package's own), 'official', the path of a checkpoint, or 'random'"),
    ('image_transport', '', 'raw or compressed'),
    ('publish_tf', '', 'true, false, or auto: whether odom -> base goes to /tf, only if its lengths mean something'),
    ('rviz', 'true', 'false: no rviz2, and everything ends with the bag'),
)
# These go on to stream.launch.py as they are.
PASSED_ON = ('image', 'camera_info', 'params_file', 'weights', 'image_transport', 'publish_tf', 'rviz')


def start(context: LaunchContext) -> list:
    """Return what is started, once the arguments have values."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    require_packages(['ros2bag'])
    path = existing_path(given['bag'], 'bag', file=False)
    words = ['ros2', 'bag', 'play', path, '--clock', '100', '--rate', given['rate']]
    bag = ExecuteProcess(cmd=words + (['--loop'] if given['loop'].lower() == 'true' else []), output='screen')
    stream = {name: given[name] for name in PASSED_ON}
    stream.update(profile=f'{given["profile"]},replay', use_sim_time='true')
    actions = [
        RegisterEventHandler(OnStateTransition(goal_state='active', entities=[bag])),
        IncludeLaunchDescription(PythonLaunchDescriptionSource(str(STREAM)), launch_arguments=stream.items()),
    ]
    if given['rviz'].lower() != 'true':
        actions.append(
            RegisterEventHandler(
                OnProcessExit(target_action=bag, on_exit=[EmitEvent(event=Shutdown(reason='the bag has ended'))])
            )
        )
    return actions


def generate_launch_description() -> LaunchDescription:
    """Return what ros2 launch runs."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name, description=description, **({} if default is None else {'default_value': default})
                )
                for name, default, description in ARGUMENTS
            ),
            OpaqueFunction(function=start),
        ]
    )
