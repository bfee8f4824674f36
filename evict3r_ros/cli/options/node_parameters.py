# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node's name, and its parameters on a command line: NAME:=VALUE, and files in the format of ROS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from evict3r_ros.errors import UserError

NODE = '/evict3r'
"""Default name of the node."""
_NODE_NAMES = ('/**', NODE[1:], NODE)


def read_parameters(file: Path | None, words: Sequence[str]) -> dict[str, Any]:
    """Return values by full name; words override the file. Raises UserError for invalid ones."""
    values = {} if file is None else _read_file(file)
    for word in words:
        name, found, text = word.partition(':=')
        if not found or not name:
            raise UserError(f'-p {word}: a parameter is written NAME:=VALUE')
        try:
            values[name] = yaml.safe_load(text) if text else ''
        except yaml.YAMLError as error:
            raise UserError(f'-p {word}: the value cannot be read') from error
    return values


def _read_file(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f'{file}: cannot be read: {" ".join(str(error).split())}') from error
    values: dict[str, Any] = {}
    for node, section in content.items() if isinstance(content, dict) else ():
        if node in _NODE_NAMES and isinstance(section, dict) and isinstance(section.get('ros__parameters'), dict):
            _flatten(section['ros__parameters'], '', values)
    if not values:
        raise UserError(f'{file}: no parameters for the node: the file must begin with `/**:` and `ros__parameters:`')
    return values


def _flatten(section: dict[str, Any], prefix: str, into: dict[str, Any]) -> None:
    for name, value in section.items():
        if isinstance(value, dict):
            _flatten(value, f'{prefix}{name}.', into)
        else:
            into[f'{prefix}{name}'] = value
