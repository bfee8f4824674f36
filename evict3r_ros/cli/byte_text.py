# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers of bytes for people."""

from __future__ import annotations


def byte_text(count: int) -> str:
    """'1.5 kB', '12.0 MB', '3.25 GB': decimal units, as disks are sold."""
    if count >= 10**9:
        return f'{count / 1e9:.2f} GB'
    return f'{count / 1e6:.1f} MB' if count >= 10**5 else f'{count / 1e3:.1f} kB'
