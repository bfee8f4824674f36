# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Find relative links that lead nowhere: in Markdown files, anchors included, and in a folder of HTML pages.

Links to other sites are not followed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_FENCE = re.compile(r'^(```|~~~).*?^\1\s*$', re.M | re.S)
_LINK = re.compile(r'!?\[[^\]]*\]\(([^()\s]+(?:\([^()]*\)[^()\s]*)?)\)')
_HEADING = re.compile(r'^#{1,6}\s+(.+?)\s*$', re.M)


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives a Markdown text's headings."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub('', text)):
        words = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading).replace('`', '').lower()
        plain = re.sub(r'[^\w\- ]', '', words).replace(' ', '-')
        number, anchor = 0, plain
        while anchor in found:
            number += 1
            anchor = f'{plain}-{number}'
        found.add(anchor)
    return found


def broken_in_markdown(pages: Iterable[Path]) -> Iterator[str]:
    """Yield a line for each link of the pages to a file or an anchor that is not there."""
    for page in pages:
        for link in _LINK.findall(_FENCE.sub('', page.read_text(encoding='utf-8'))):
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = page.parent / unquote(parts.path) if parts.path else page
            if not target.exists():
                yield f'{page}: {link}: no such file'
            elif parts.fragment and target.suffix == '.md' and parts.fragment not in anchors(target.read_text('utf-8')):
                yield f'{page}: {link}: no such heading'


class _Page(HTMLParser):
    """The links and anchors of an HTML page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take in a tag."""
        values = dict(attrs)
        self.anchors |= {value for name in ('id', 'name') if (value := values.get(name))}
        if tag == 'a' and (link := values.get('href')):
            self.links.append(link)


def broken_in_html(folder: Path) -> Iterator[str]:
    """Yield a line for each link of a folder's pages to a page or an anchor that is not there."""
    pages = {path.resolve(): _Page(path.read_text(encoding='utf-8')) for path in sorted(folder.rglob('*.html'))}
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target not in pages:
                if not target.exists():
                    yield f'{path}: {link}: no such page'
            elif parts.fragment and unquote(parts.fragment) not in pages[target].anchors:
                yield f'{path}: {link}: no such anchor'


def main() -> int:
    """Print the broken links; return the exit code, 1 if there are any."""
    parser = argparse.ArgumentParser(description='Find relative links that lead nowhere.')
    parser.add_argument(
        'paths', nargs='+', type=Path, metavar='PATH', help='a Markdown file, or a folder of HTML pages'
    )
    paths = parser.parse_args().paths
    broken = [line for path in paths if path.is_dir() for line in broken_in_html(path)]
    broken += broken_in_markdown(path for path in paths if not path.is_dir())
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == '__main__':
    sys.exit(main())
