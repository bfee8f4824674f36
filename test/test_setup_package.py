# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The package as installed, by pip or by colcon: sources and generated messages are one, versions agree."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import evict3r_ros

ROOT = Path(__file__).resolve().parent.parent
# Set where colcon runs these tests: the folder that the package has to come from.
INSTALLED_IN = os.environ.get('EVICT3R_INSTALLED_IN')

needs_messages = pytest.mark.skipif(
    importlib.util.find_spec('evict3r_ros.msg') is None,
    reason='the messages are not generated here: make setup, or colcon build',
)
pip_only = pytest.mark.skipif(
    INSTALLED_IN is not None or sys.prefix == sys.base_prefix, reason='about the pip installation that make setup makes'
)


@needs_messages
def test_messages_and_sources_are_one_package():
    from evict3r_ros.msg import StreamStatus

    from evict3r_ros import geometry

    status = StreamStatus(policy='evict3r', tokens=[2048, 2047], is_metric=False)
    assert list(status.tokens) == [2048, 2047]
    assert status.get_fields_and_field_types()['cache_bytes'] == 'uint64'
    assert geometry.__name__ == 'evict3r_ros.geometry'


@pytest.mark.ros
@needs_messages
def test_status_survives_serialization():
    from evict3r_ros.msg import StreamStatus

    serialization = pytest.importorskip('rclpy.serialization')

    status = StreamStatus(weights='random (UNTRAINED)', untrained=True, budget=[1, 2, 3], scale=1.0)
    again = serialization.deserialize_message(serialization.serialize_message(status), StreamStatus)
    assert again == status


@pytest.mark.skipif(INSTALLED_IN is None, reason='about the colcon installation')
def test_colcon_tests_the_installed_package():
    assert Path(evict3r_ros.__file__).is_relative_to(INSTALLED_IN)


def test_versions_agree():
    package_xml = (ROOT / 'package.xml').read_text()
    assert re.search('<version>(.+)</version>', package_xml).group(1) == evict3r_ros.__version__


@pip_only
def test_metadata_has_the_version():
    assert importlib.metadata.version('evict3r_ros') == evict3r_ros.__version__


@pip_only
@pytest.mark.parametrize('package', ['evict3r_ros', 'tf2_msgs'])
def test_interface_wheel_owns_what_it_says(package):
    """Let pip know every file; ours does not bring an __init__.py to fight over with the sources."""
    files = importlib.metadata.files(f'{package}-interfaces')
    assert any(file.parts[-2:] == ('msg', '__init__.py') for file in files)
    assert any(file.name == f'lib{package}__rosidl_generator_c.so' for file in files)
    assert all(file.locate().is_file() for file in files)
    owns_init = f'{package}/__init__.py' in {str(file) for file in files}
    assert owns_init == (package != 'evict3r_ros')


@pip_only
def test_command_is_installed():
    command = Path(sys.prefix, 'bin', 'evict3r')
    done = subprocess.run([command, '--help'], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert 'demo' in done.stdout


def test_nothing_heavy_is_imported_with_the_package():
    code = 'import sys, evict3r_ros; print(sorted({"torch", "numpy", "rclpy"} & set(sys.modules)))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == '[]', done.stderr
