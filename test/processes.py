# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which processes a process has started, and whether they are still there, as /proc says."""

from __future__ import annotations

import subprocess
from pathlib import Path


def children_of(process: subprocess.Popen) -> list[int]:
    """Return the processes that its main thread has started."""
    return [int(number) for number in Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()]


def runs(process: int) -> bool:
    """Return whether a process is there and does not merely wait to be counted by its parent."""
    try:
        return Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False
