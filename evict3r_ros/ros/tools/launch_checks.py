# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What launch files look at before they start anything: a launch that fails halfway leaves a node that runs alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix

_BROUGHT_BY = {'ros2bag': 'rosbag2'}
"""Packages that are best installed with others around them, such as plugins."""


def require_packages(names: Iterable[str]) -> None:
    """Raise RuntimeError, with the line that installs them, if one of these ROS packages is not installed."""
    missing = [name for name in names if not _is_installed(name)]
    if missing:
        distribution = os.environ.get('ROS_DISTRO', '$ROS_DISTRO')
        wanted = dict.fromkeys(_BROUGHT_BY.get(name, name) for name in missing)
        debian = ' '.join(f'ros-{distribution}-{name.replace("_", "-")}' for name in wanted)
        raise RuntimeError(f'nothing is started: not installed: {", ".join(wanted)}. apt-get install {debian}')


def existing_path(given: str, argument: str, file: bool = True) -> str:
    """Return a path of the user's, with ~ resolved; raises RuntimeError if it is no file, or not there at all.

    argument: the launch argument that it was given with. file: False where it may be a folder as well.
    """
    path = Path(given).expanduser()
    if not (path.is_file() if file else path.exists()):
        what = 'is no file' if path.exists() else 'does not exist'
        raise RuntimeError(f'nothing is started: {argument}:={given}: {path.absolute()} {what}')
    return str(path)


def _is_installed(name: str) -> bool:
    try:
        get_package_prefix(name)
    except PackageNotFoundError:
        return False
    return True
