# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the files beside the Python code lie: in the source tree, or in the share folder of an installation."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def find(name: str) -> Path:
    """Return the path of a file such as 'config/stream.yaml'; raises FileNotFoundError naming where it was sought.

    Sought in the source tree (pip's editable install), in each prefix that ROS knows of, and in Python's own prefix.
    """
    prefixes = [*filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)), sys.prefix]
    roots = [Path(__file__).parent.parent, *(Path(prefix) / 'share' / 'evict3r_ros' for prefix in prefixes)]
    for root in roots:
        if (root / name).is_file():
            return root / name
    raise FileNotFoundError(f'{name} is in none of {", ".join(str(root) for root in roots)}')
