# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Message classes by the names that bags use ('sensor_msgs/msg/Image'), and their definitions as text."""

from __future__ import annotations

import importlib
import re
from typing import Any

from evict3r_ros.errors import UserError

# Names that rosidl's Python classes use for the basic types, and those of .msg files.
_BASIC = {'boolean': 'bool', 'float': 'float32', 'double': 'float64', 'octet': 'byte'}
_SEQUENCE = re.compile(r'sequence<(?P<element>.+?)(?:, (?P<bound>\d+))?>')
_ARRAY = re.compile(r'(?P<element>.+)\[(?P<size>\d+)\]')
_BOUNDED_STRING = re.compile(r'(?P<name>w?string)<(?P<bound>\d+)>')


def message_class(name: str) -> Any:
    """Return the class of 'package/msg/Name'. Raises UserError when the package is not installed here."""
    try:
        package, kind, message = name.split('/')
        return getattr(importlib.import_module(f'{package}.{kind}'), message)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f'message type {name} is not installed here: {error}') from error


def message_name(kind: Any) -> str:
    """Return the name 'package/msg/Name' of a message class."""
    package, folder, *_ = kind.__module__.split('.')
    return f'{package}/{folder}/{kind.__name__}'


def definition_text(kind: Any) -> str:
    """Return the fields of a message class as .msg text, without comments, constants and default values.

    What a bag needs so that others can read a type that they don't know.
    """
    return ''.join(f'{_field_type(text)} {name}\n' for name, text in kind.get_fields_and_field_types().items())


def _field_type(text: str) -> str:
    if match := _SEQUENCE.fullmatch(text):
        bound = f'<={match["bound"]}' if match['bound'] else ''
        return f'{_field_type(match["element"])}[{bound}]'
    if match := _ARRAY.fullmatch(text):
        return f'{_field_type(match["element"])}[{match["size"]}]'
    if match := _BOUNDED_STRING.fullmatch(text):
        return f'{match["name"]}<={match["bound"]}'
    return _BASIC.get(text, text)
