# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Draw the package's rooms and who imports whom, as docs/architecture.md shows them.

The drawing is read from the imports themselves, so it cannot drift: test/test_docs.py fails where the page and the code
disagree, and `python3 tools/draw_rooms.py --write` mends the page.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / 'evict3r_ros'
PAGE = ROOT / 'docs' / 'architecture.md'
BEGIN, END = '<!-- made by tools/draw_rooms.py -->', '<!-- end -->'
FOUNDATIONS = ('errors', 'geometry', 'lazy', 'stages')
"""Modules that any room may import; they import no room and are not drawn."""
GENERATED = ('msg', '__version__')
"""What rosidl makes, and a name of the package itself: no rooms."""

Arrows = dict[str, set[str]]


def room_of(words: list[str]) -> str:
    """Return the room of a dotted name's words below the package; `ros` has rooms of its own."""
    return '/'.join(words[:2]) if words[0] == 'ros' and len(words) > 1 else words[0]


def imported(tree: ast.Module) -> Iterator[list[str]]:
    """Yield the words, below the package, of each name of this package that a module imports."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            at_a_door = node.module in ('evict3r_ros', 'evict3r_ros.ros')
            names = [f'{node.module}.{alias.name}' for alias in node.names] if at_a_door else [node.module]
        for name in names:
            first, *rest = name.split('.')
            if first == 'evict3r_ros' and rest:
                yield rest


def arrows(package: Path = PACKAGE) -> Arrows:
    """Return for each room the rooms that it imports, foundations left out."""
    found: Arrows = defaultdict(set)
    for file in sorted(package.rglob('*.py')):
        *folders, name = file.relative_to(package).parts
        words = folders if name == '__init__.py' else [*folders, name.removesuffix('.py')]
        if not words or words == ['ros'] or words[0] in FOUNDATIONS:
            continue
        room = room_of(words)
        targets = {room_of(other) for other in imported(ast.parse(file.read_text(encoding='utf-8')))}
        found[room] |= targets - {room, *FOUNDATIONS, *GENERATED}
    return dict(found)


def reachable(graph: Arrows, start: str) -> set[str]:
    """Return the rooms that a room reaches along one arrow or more."""
    seen: set[str] = set()
    waiting = list(graph.get(start, ()))
    while waiting:
        room = waiting.pop()
        if room not in seen:
            seen.add(room)
            waiting += graph.get(room, ())
    return seen


def circles(graph: Arrows) -> set[str]:
    """Return the rooms that reach themselves; there should be none."""
    return {room for room in graph if room in reachable(graph, room)}


def without_detours(graph: Arrows) -> Arrows:
    """Return the graph without arrows that a longer way stands for: its transitive reduction."""
    return {
        room: {
            target for target in targets if not any(target in reachable(graph, other) for other in targets - {target})
        }
        for room, targets in graph.items()
    }


def drawing(graph: Arrows) -> str:
    """Return the mermaid drawing, then a line a room with all that it imports."""
    lines = ['```mermaid', 'flowchart TD']
    for room, targets in sorted(without_detours(graph).items()):
        lines += [f'    {identifier(room)}["{room}"]'] if not targets else []
        lines += [
            f'    {identifier(room)}["{room}"] --> {identifier(target)}["{target}"]' for target in sorted(targets)
        ]
    lines += ['```', '', '| room | imports |', '|---|---|']
    for room, targets in sorted(graph.items()):
        lines.append(f'| `{room}` | {", ".join(sorted(targets)) or "none"} |')
    return '\n'.join(lines)


def identifier(room: str) -> str:
    """Return a node's name in mermaid."""
    return room.replace('/', '_')


def with_drawing(text: str, drawn: str) -> str:
    """Return a page's text with the drawing between its marks. Raises ValueError for a page without marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f'the page needs {BEGIN} and {END}')
    return f'{before}{BEGIN}\n{drawn}\n{END}{after}'


def main() -> int:
    """Print the drawing, or write it; return the exit code, 1 where rooms import each other in a circle."""
    parser = argparse.ArgumentParser(description="Draw the package's rooms and who imports whom.")
    parser.add_argument('--write', action='store_true', help='put the drawing into docs/architecture.md')
    write = parser.parse_args().write
    graph = arrows()
    if write:
        PAGE.write_text(with_drawing(PAGE.read_text(encoding='utf-8'), drawing(graph)), encoding='utf-8')
    else:
        print(drawing(graph))
    if circle := circles(graph):
        print(f'rooms in a circle: {", ".join(sorted(circle))}', file=sys.stderr)
    return 1 if circle else 0


if __name__ == '__main__':
    sys.exit(main())
