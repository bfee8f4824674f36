# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node's name, and its parameters on a command line: NAME:=VALUE, and files in the format of ROS."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from evict3r_ros.cli.output import print_notes
from evict3r_ros.errors import UserError

NODE = '/evict3r'
"""Default name of the node."""
_OF_EVERY_NODE = re.compile(r'use_sim_time|start_type_description_service|qos_overrides\..+')
_PARAMETERS = 'ros__parameters'


@dataclass(frozen=True)
class NodeParameters:
    """Values by full name."""

    own: dict[str, Any] = field(default_factory=dict)
    """Of the node's own parameters."""
    of_ros: dict[str, Any] = field(default_factory=dict)
    """Of those that every node of ROS has, such as the quality of service of a topic."""


class _Loader(yaml.SafeLoader):
    """YAML as ROS reads it: 1e-3 is a number."""


_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$'), list('-+0123456789')
)


def read_parameters(file: Path | None, words: Sequence[str]) -> NodeParameters:
    """Return values; words override the file. Raises UserError for invalid ones.

    What a file says of parameters that the node does not have is left out, as ROS does, and told.
    """
    values = {} if file is None else _known(file, _read_file(file))
    for word in words:
        name, found, text = word.partition(':=')
        if not found or not name:
            raise UserError(f'-p {word}: a parameter is written NAME:=VALUE')
        try:
            values[name] = yaml.load(text, _Loader) if text else ''
        except yaml.YAMLError as error:
            raise UserError(f'-p {word}: the value cannot be read') from error
    of_ros = {name: value for name, value in values.items() if _OF_EVERY_NODE.fullmatch(name)}
    return NodeParameters({name: value for name, value in values.items() if name not in of_ros}, of_ros)


def _known(file: Path, values: dict[str, Any]) -> dict[str, Any]:
    # Imported late, so that `evict3r --help` does not import torch and ROS.
    from evict3r_ros.ros.settings.parameters import PARAMETERS

    names = {parameter.name for parameter in PARAMETERS}
    foreign = [name for name in values if name not in names and not _OF_EVERY_NODE.fullmatch(name)]
    print_notes([f'{file}: the node has no parameter {name!r}; docs/parameters.md lists them all' for name in foreign])
    return {name: value for name, value in values.items() if name not in foreign}


def _read_file(file: Path) -> dict[str, Any]:
    try:
        content = yaml.load(file.read_text(encoding='utf-8'), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f'{file}: cannot be read: {" ".join(str(error).split())}') from error
    values: dict[str, Any] = {}
    there = []
    for name, section in _sections(content, ''):
        there.append(name)
        if _names_node(name):
            _flatten(section, '', values)
    if not values:
        found = f'it has some for {", ".join(there)}' if there else f'there is no `{_PARAMETERS}:` in it'
        raise UserError(
            f'{file}: no parameters for {NODE} ({found}): a file for every node begins with `/**:` and `{_PARAMETERS}:`'
        )
    return values


def _sections(content: Any, namespace: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the nodes' names, as patterns with their namespace, and their parameters, in the order of the file."""
    for key, value in content.items() if isinstance(content, dict) else ():
        if key == _PARAMETERS:
            if isinstance(value, dict):
                yield namespace, value
        else:
            yield from _sections(value, f'{namespace.rstrip("/")}/{str(key).lstrip("/")}')


def _names_node(pattern: str) -> bool:
    """Return whether a name in a file is the node's; * stands for one part of it, ** for any number (rclcpp)."""
    # As rclcpp and rclpy do: what becomes of /** by the first replacement is a group with a star behind it.
    is_name = re.fullmatch(r'[\w/*]+', pattern) is not None
    return is_name and re.fullmatch(pattern.replace('/*', r'(/\w+)'), NODE) is not None


def _flatten(section: dict[str, Any], prefix: str, into: dict[str, Any]) -> None:
    for name, value in section.items():
        if isinstance(value, dict):
            _flatten(value, f'{prefix}{name}.', into)
        else:
            into[f'{prefix}{name}'] = value
