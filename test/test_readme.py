# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the README says against what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evict3r_ros.cache import POLICIES
from evict3r_ros.cli.main import build_parser

ROOT = Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text()


def test_the_table_of_parameters_is_the_nodes():
    """Made by evict3r_ros.ros.settings.parameters.markdown_table: paste its answer where this fails."""
    parameters = pytest.importorskip('evict3r_ros.ros.settings.parameters', reason='needs ROS')
    assert parameters.markdown_table() in README


def test_every_policy_is_told_of():
    for name in POLICIES:
        assert f'`{name}`' in README


def test_every_command_is_told_of():
    commands = next(action for action in build_parser()._actions if action.choices)
    assert {f'evict3r {name}' for name in commands.choices} == set(re.findall(r'^\| `(evict3r \w+)` \|', README, re.M))


def test_links_lead_somewhere():
    for link in re.findall(r'\]\(([^)#]+)\)', README):
        assert link.startswith('https://') or (ROOT / link).exists(), link
