# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters that a node was given and does not have: ROS passes over them in silence, typing errors included."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from rclpy.node import Node

_QOS = 'qos_overrides.'
_MOST_NAMES = 10  # in one line: a file for all nodes of a robot may have hundreds


class UnusedParameters:
    """Tell of each once. log(text): takes the line."""

    def __init__(self, node: Node, log: Callable[[str], None]) -> None:
        self._node, self._log = node, log
        self._told: set[str] = set()

    def tell(self, with_topics: bool) -> None:
        """Name those that were not told of. with_topics: qos_overrides too, once the node has all its topics."""
        given = sorted(name for name in self._node._parameter_overrides if with_topics or not name.startswith(_QOS))
        unused = [name for name in given if not self._node.has_parameter(name) and name not in self._told]
        if not unused:
            return
        self._told.update(unused)
        known = list(self._node._parameters)
        named = [self._with_suggestion(name, known) for name in unused[:_MOST_NAMES]]
        more = f' and {len(unused) - _MOST_NAMES} more' if len(unused) > _MOST_NAMES else ''
        self._log(f'parameters that this node does not have and that change nothing: {", ".join(named)}{more}')

    @staticmethod
    def _with_suggestion(name: str, known: list[str]) -> str:
        close = get_close_matches(name, known, n=1)
        return f'{name} (is {close[0]} meant?)' if close else name
