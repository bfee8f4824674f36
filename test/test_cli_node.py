# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r node`: what stands on its command line, the DDS profile it chooses, and where that is found."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from evict3r_ros.cli.main import build_parser
from evict3r_ros.ros.tools import middleware
from evict3r_ros.ros.tools.middleware import choose_dds_profile

NEW, OLD = 'FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE'


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (NEW, OLD, 'RMW_IMPLEMENTATION', 'ROS_DISTRO', 'ROS_AUTOMATIC_DISCOVERY_RANGE'):
        # set first, so that what the code under test sets is undone afterwards as well
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)


def environment() -> dict[str, str]:
    import os

    return {name: os.environ[name] for name in (NEW, OLD) if name in os.environ}


def test_everything_from_ros_args_on_goes_to_ros():
    parse = build_parser().parse_args
    args = parse(['node', '--localhost', '--ros-args', '-p', 'weights:=official', '--ros-args', '-r', '__ns:=/front'])
    assert args.ros_args == ['-p', 'weights:=official', '--ros-args', '-r', '__ns:=/front']
    assert args.localhost and not args.no_autostart
    assert parse(['node']).ros_args == []


@pytest.mark.parametrize(('localhost', 'file'), [(False, 'fastdds_robot.xml'), (True, 'fastdds_local.xml')])
@pytest.mark.parametrize(('distro', 'variable'), [('', NEW), ('kilted', NEW), ('jazzy', OLD), ('humble', OLD)])
def test_the_profile_is_set_under_the_name_that_the_distribution_reads(monkeypatch, localhost, file, distro, variable):
    if distro:
        monkeypatch.setenv('ROS_DISTRO', distro)
    choose_dds_profile(localhost)
    assert set(environment()) == {variable}
    assert Path(environment()[variable]).name == file and Path(environment()[variable]).is_file()


@pytest.mark.parametrize('variable', [NEW, OLD])
def test_a_profile_of_the_user_stays(monkeypatch, variable):
    monkeypatch.setenv(variable, '/home/user/profile.xml')
    choose_dds_profile(localhost=True)
    assert environment() == {variable: '/home/user/profile.xml'}


def test_another_middleware_gets_no_profile(monkeypatch):
    monkeypatch.setenv('RMW_IMPLEMENTATION', 'rmw_cyclonedds_cpp')
    choose_dds_profile(localhost=False)
    assert environment() == {}


@pytest.mark.parametrize('name', ['fastdds_local.xml', 'fastdds_robot.xml'])
def test_profiles_hold_a_large_image_in_shared_memory(name):
    """8 MB is an image of 1080p with four channels; Fast DDS's default segment holds half a megabyte."""
    space = '{http://www.eprosima.com}'
    root = ElementTree.parse(middleware.shared_file(f'config/{name}')).getroot()
    sizes = [int(node.text) for node in root.iter(f'{space}segment_size')]
    assert len(sizes) == 1 and sizes[0] >= 8 * 1920 * 1080 * 4 / 2
    addresses = [node.text for node in root.iter(f'{space}address')]
    assert addresses == (['127.0.0.1'] if 'local' in name else [])


def test_files_are_found_in_a_workspace_built_by_colcon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    share = tmp_path / 'install' / 'share' / 'evict3r_ros' / 'config'
    share.mkdir(parents=True)
    (share / 'fastdds_robot.xml').write_text('<dds/>')
    package = tmp_path / 'install' / 'lib' / 'evict3r_ros' / 'ros' / 'tools' / 'middleware.py'
    monkeypatch.setattr(middleware, '__file__', str(package))
    monkeypatch.setattr(sys, 'prefix', str(tmp_path / 'usr'))
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{tmp_path / "other"}:{tmp_path / "install"}')
    assert middleware.shared_file('config/fastdds_robot.xml') == share / 'fastdds_robot.xml'
    with pytest.raises(FileNotFoundError, match='other'):
        middleware.shared_file('config/nothing.xml')
