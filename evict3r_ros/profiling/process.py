# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a process takes of the machine, as /proc says; on Linux.

Each raises FileNotFoundError for a process that has ended.
"""

from __future__ import annotations

import os
from pathlib import Path


def resident_bytes(process: int | str = 'self') -> int:
    """Return the bytes of a process in memory, by default of this one."""
    pages = int(Path(f'/proc/{process}/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE')


def cpu_seconds(process: int | str = 'self') -> float:
    """Return what all threads of a process have had of the processors (proc(5): utime and stime)."""
    # Fields are counted behind the program's name, which may hold anything.
    fields = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
