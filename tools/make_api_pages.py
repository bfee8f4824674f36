# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Make the API pages from the docstrings: what `make docs` calls. Needs pdoc and an environment with ROS."""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from pathlib import Path

import pdoc
import pdoc.render

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = 'evict3r_ros'
GENERATED = (r'evict3r_ros\.msg', r'.*rosidl.*', r'_evict3r_ros.*')
"""Patterns of modules that rosidl makes."""
LAZY = ('evict3r_ros.cache', 'evict3r_ros.network')
"""Packages whose names are imported when they are asked for; pdoc does not ask."""


def main() -> int:
    """Make the pages; return the exit code, 1 where pdoc found something wrong."""
    parser = argparse.ArgumentParser(description='Make the API pages from the docstrings.')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs' / '_build', metavar='FOLDER')
    out = parser.parse_args().out
    for name in LAZY:
        module = importlib.import_module(name)
        vars(module).update({exported: getattr(module, exported) for exported in module.__all__})
    version = importlib.import_module(PACKAGE).__version__
    pdoc.render.configure(docformat='markdown', show_source=False, footer_text=f'{PACKAGE} {version}')
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        pdoc.pdoc(PACKAGE, *(f'!{pattern}' for pattern in GENERATED), output_directory=out)
    troubles = [str(warning.message) for warning in found if 'pdoc' in warning.filename]
    for trouble in troubles:
        print(f'make_api_pages: {trouble}', file=sys.stderr)
    print(f'{out / "index.html"}: {len(list(out.rglob("*.html")))} pages')
    return 1 if troubles else 0


if __name__ == '__main__':
    sys.exit(main())
