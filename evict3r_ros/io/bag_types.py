# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Message types as a bag defines them, each by itself: one that cannot be read costs the topics that need it alone."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from evict3r_ros.errors import UserError
from evict3r_ros.io.bag_storage import StoredTopic

_IDL_RULE = '=' * 80 + '\n'
"""Between the parts of a definition in IDL, each headed by its name."""


@lru_cache(maxsize=1)
def message_types() -> Typestore:
    """Return the message types of ROS 2 Kilted, as rosbags knows them."""
    return get_typestore(Stores.ROS2_KILTED)


class BagTypes:
    """Decodes the messages of a bag by the bag's own definitions, or by ROS's where it has none for a type."""

    def __init__(self, topics: Iterable[StoredTopic]) -> None:
        self._definitions = {topic.message_type: topic for topic in topics if topic.definition}
        self._stores: dict[str, Typestore] = {}

    def decode(self, message_type: str, raw: bytes) -> Any:
        """Return a message. Raises UserError for a type that is not known, and for bytes that do not fit it."""
        if message_type not in self._stores:
            self._stores[message_type] = self._store(message_type)
        try:
            return self._stores[message_type].deserialize_cdr(raw, message_type)
        except (SerdeError, ValueError, KeyError, IndexError, TypeError, AssertionError) as error:
            raise UserError(f'a message of {len(raw)} bytes is no {message_type}: {_line(error)}') from error

    def _store(self, message_type: str) -> Typestore:
        try:
            return self._defined(message_type)
        except (TypesysError, SyntaxError, KeyError, ValueError) as error:
            if message_type in message_types().fielddefs:
                return message_types()
            raise UserError(f'type {message_type} has no definition that can be read: {_line(error)}') from error

    def _defined(self, message_type: str) -> Typestore:
        """Return a store with this type and those inside it. Raises an error of rosbags' if it is not whole."""
        topic = self._definitions.get(message_type)
        if topic is None:
            raise KeyError('the bag defines no such type')
        text = topic.definition
        if topic.encoding == 'ros2msg':
            types = get_types_from_msg(text, message_type)
        elif topic.encoding in ('ros2idl', 'omgidl'):
            types = {}
            parts = text.split(_IDL_RULE)[1:] if text.startswith(f'{_IDL_RULE}IDL: ') else [f'\n{text}']
            for part in parts:
                types.update(get_types_from_idl(part.partition('\n')[2]))
        else:
            raise ValueError(f'the definition is in {topic.encoding or "no language"}')
        store = get_typestore(Stores.EMPTY)
        store.register(types)
        store.get_msgdef(message_type)  # asks for each type inside
        return store


def _line(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__
