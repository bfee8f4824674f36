# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What README, CONTRIBUTING and docs/ say against what is there."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import check_links
import draw_rooms
import pytest
import yaml

from evict3r_ros.cache import POLICIES
from evict3r_ros.cli.main import build_parser
from evict3r_ros.io.answer import AnswerTopics

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
TESTS = sorted((ROOT / 'test').glob('test_*.py'))
BY_NAME = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
TOPICS = {*vars(AnswerTopics.of_node('/evict3r')).values(), '/evict3r/reset', '/evict3r/save'}
COMMAND = re.compile(r'^(?:[A-Z0-9_]+=\S+ )*(?:\.venv/bin/|ros2 run evict3r_ros )?evict3r (?=[a-z])(.*)$')


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding='utf-8')


def blocks(text: str, language: str) -> list[str]:
    """Return the contents of fenced blocks of a language."""
    return re.findall(rf'^```{language}\n(.*?)^```$', text, re.M | re.S)


def code(text: str) -> Iterator[str]:
    """Yield lines of code blocks, joined where they go on, and what stands in backticks in a line."""
    joined = text.replace('\\\n', ' ')
    for block in re.findall(r'^```(?:bash)?\n(.*?)^```$', joined, re.M | re.S):
        yield from (line.strip() for line in block.splitlines())
    yield from (line.strip() for line in joined.splitlines() if line.startswith('    '))
    yield from re.findall(r'(?<!`)`([^`\n]+)`(?!`)', joined)


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


def wrong_in_command(arguments: str) -> list[str]:
    """Return the words of a command line that `evict3r` does not know: its command, and its long options."""
    parser, words = build_parser(), shlex.split(arguments, comments=True)
    while words and words[0] in subparsers(parser):
        parser = subparsers(parser)[words.pop(0)]
    if subparsers(parser) and (not words or not words[0].startswith('-')):
        # `evict3r eval` and `evict3r eval TASK` stand for all that it can do.
        return [arguments] if parser.prog == 'evict3r' else [word for word in words[:1] if not word.isupper()]
    options = parser._option_string_actions
    given = words[: words.index('--ros-args')] if '--ros-args' in words else words
    return [word for word in given if word.startswith('--') and word.split('=')[0] not in options]


@BY_NAME
def test_links_lead_somewhere(page):
    assert not list(check_links.broken_in_markdown([page]))


def test_links_that_lead_nowhere_are_found(tmp_path):
    page, other = tmp_path / 'page.md', tmp_path / 'other.md'
    other.write_text('# A `title`, twice\n\n## A title twice\n')
    page.write_text('[a](other.md#a-title-twice-1) [b](other.md#b) [c](no.md) ![d](no.png) [e](https://example.org)\n')
    broken = list(check_links.broken_in_markdown([page]))
    assert [line.split(': ')[1] for line in broken] == ['other.md#b', 'no.md', 'no.png']


def test_links_of_html_pages_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / 'page.html').write_text('<a id="x" href="#x"></a><a href="#y"></a><a href="no.html"></a>')
    assert [line.split(': ')[1] for line in check_links.broken_in_html(tmp_path)] == ['#y', 'no.html']


def test_the_table_of_parameters_is_the_nodes():
    """Made by evict3r_ros.ros.settings.parameters.markdown_table: paste its answer where this fails."""
    parameters = pytest.importorskip('evict3r_ros.ros.settings.parameters', reason='needs ROS')
    assert parameters.markdown_table() in text_of('docs/parameters.md')


def test_parameters_that_the_readme_names_are_there():
    parameters = pytest.importorskip('evict3r_ros.ros.settings.parameters', reason='needs ROS')
    section = text_of('README.md').partition('## Parameters')[2].partition('\n## ')[0]
    named = re.findall(r'`([a-z_.]+)`', '\n'.join(re.findall(r'^\| (`[^|]+) \|', section, re.M)))
    assert len(named) > 5 and set(named) <= {parameter.name for parameter in parameters.PARAMETERS}


def test_every_policy_is_told_of():
    table = text_of('docs/cache.md').partition('## Policies')[2].partition('\n## ')[0]
    assert set(POLICIES) == set(re.findall(r'`(\w+)`', '\n'.join(re.findall(r'^\| (`[^|]+) \|', table, re.M))))


def test_every_command_is_told_of():
    told = re.findall(r'^\| `evict3r (\w+)` \|', text_of('docs/commands.md'), re.M)
    assert set(told) == set(subparsers(build_parser()))


@BY_NAME
def test_commands_and_their_options_are_there(page):
    lines = [match[1] for line in code(page.read_text(encoding='utf-8')) if (match := COMMAND.match(line))]
    assert not {line: wrong for line in lines if (wrong := wrong_in_command(line))}


@pytest.mark.parametrize(
    ('line', 'wrong'),
    [
        ('video walk.mp4 --interval 2.5', []),
        ('video walk.mp4 --intervals 2.5', ['--intervals']),
        ('film walk.mp4', ['film walk.mp4']),
        ('eval', []),
        ('eval pictures --out x', ['pictures']),
        ('node --localhost --ros-args --params-file x.yaml', []),
    ],
)
def test_a_wrong_command_is_found(line, wrong):
    assert wrong_in_command(line) == wrong


@BY_NAME
def test_arguments_of_launch_files_are_there(page):
    for line in code(page.read_text(encoding='utf-8')):
        launch = re.search(r'(\w+\.launch\.py)((?: +\w+:=\S*)+)', line)
        if launch and (file := ROOT / 'launch' / launch[1]).is_file():
            known = set(re.findall(r"^    \(\n? *'(\w+)',", file.read_text(encoding='utf-8'), re.M))
            assert set(re.findall(r'(\w+):=', launch[2])) <= known, line


@BY_NAME
def test_files_modules_targets_and_tests_that_are_named_are_there(page):
    tests = set(re.findall(r'^def (test_\w+)', '\n'.join(file.read_text() for file in TESTS), re.M))
    targets = re.findall(r'^([a-z]+):', text_of('Makefile'), re.M)
    missing = []
    for words in code(page.read_text(encoding='utf-8')):
        if re.fullmatch(r'(evict3r_ros|test|tools|config|launch|scripts|msg)/[\w/.*-]+', words):
            missing += [] if [*ROOT.glob(words.rstrip('/'))] or 'NAME' in words else [words]
        elif re.fullmatch(r'test_\w+', words):
            missing += [] if words in tests else [words]
        elif match := re.match(r'(?:\.venv/bin/)?python3? -m (evict3r_ros[\w.]+)', words):
            missing += [] if importlib.util.find_spec(match[1]) else [words]
        elif match := re.match(r'(?:[A-Z0-9_]+=\S+ )*make ([a-z]+)(?: |$)', words):
            missing += [] if match[1] in targets else [words]
    assert not missing


@BY_NAME
def test_topics_of_the_node_that_are_named_are_there(page):
    text = page.read_text(encoding='utf-8').replace('qos_overrides./evict3r/', '')
    assert set(re.findall(r'(?<![\w.:~/])/evict3r/[\w/]*\w', text)) <= TOPICS
    assert set(re.findall(r'(?<=:=)/evict3r/[\w/]*\w', text)) <= TOPICS


@BY_NAME
def test_blocks_of_code_can_be_read(page):
    text = page.read_text(encoding='utf-8')
    for block in blocks(text, 'yaml'):
        assert isinstance(yaml.safe_load(block), dict)
    for block in blocks(text, 'python'):
        ast.parse(block)


def test_the_ros_parameters_of_a_recipe_are_those_of_an_ekf():
    """15 flags an input, or the filter refuses them."""
    (settings,) = (
        block['ekf_filter_node']['ros__parameters']
        for block in map(yaml.safe_load, blocks(text_of('docs/recipes.md'), 'yaml'))
        if 'ekf_filter_node' in block
    )
    assert [type(flag) for flag in settings['odom0_config']] == [bool] * 15


def test_the_drawing_of_the_rooms_is_what_they_import():
    """`python3 tools/draw_rooms.py --write` mends the page."""
    graph = draw_rooms.arrows()
    assert not draw_rooms.circles(graph)
    page = text_of('docs/architecture.md')
    assert page == draw_rooms.with_drawing(page, draw_rooms.drawing(graph))


def test_every_room_is_described():
    table = text_of('docs/architecture.md').partition('## Rooms')[2].partition('## Who imports whom')[0]
    assert set(re.findall(r'^\| `([\w/]+)` \|', table, re.M)) == set(draw_rooms.arrows())


def test_the_nodes_script_takes_the_environment_that_is_active():
    """The README's way to PyTorch on a robot relies on it."""
    assert text_of('scripts/evict3r').startswith('#!/usr/bin/env python3\n')
