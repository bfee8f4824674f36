# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command `evict3r`: its subcommands, and how errors are shown to a user."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from evict3r_ros import __version__
from evict3r_ros.cli import attention, bench, map, node, plan, soak, study, view, world
from evict3r_ros.cli.demo import command as demo
from evict3r_ros.cli.evaluate import command as evaluate
from evict3r_ros.cli.replay import command as replay
from evict3r_ros.cli.video import command as video
from evict3r_ros.errors import UserError

_ROS_MODULES = (
    'rclpy',
    'sensor_msgs',
    'geometry_msgs',
    'nav_msgs',
    'std_msgs',
    'lifecycle_msgs',
    'rcl_interfaces',
    'rosgraph_msgs',
    'tf2_msgs',
    'evict3r_ros.msg',
)

# Before anything loads OpenMP: its threads spin while they wait, which makes a frame ten times slower if another
# process needs the core, as on a robot.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands, without slow imports, so that --help is fast."""
    parser = argparse.ArgumentParser(
        prog='evict3r',
        description='Streaming depth, points and poses for ROS 2 robots, with a memory that never grows.',
    )
    parser.add_argument('--version', action='version', version=f'evict3r_ros {__version__}')
    subparsers = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for command in (node, demo, replay, view, video, map, attention, world, plan, bench, evaluate, study, soak):
        command.add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line. Return the exit code: 2 for a UserError, 130 after Ctrl-C."""
    args = build_parser().parse_args(arguments)
    try:
        code: int = args.run(args)
        return code
    except UserError as error:
        return _refuse(str(error))
    except ModuleNotFoundError as error:
        if error.name is None or not any(
            error.name == name or error.name.startswith(f'{name}.') for name in _ROS_MODULES
        ):
            raise
        return _refuse(
            f'ROS 2 is not available ({error.name} cannot be imported): run `make setup`, or source ROS 2'
            ' (/opt/ros/<distribution>/setup.bash) and the workspace that this package was built in'
        )
    except KeyboardInterrupt:
        print('evict3r: interrupted', file=sys.stderr)
        return 130


def _refuse(message: str) -> int:
    print(f'evict3r: error: {message}', file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main())
