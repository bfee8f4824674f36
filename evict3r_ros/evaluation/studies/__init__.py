# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Studies whose tables are in docs/cache.md: quantization, pooled queries, precision."""

from __future__ import annotations
