# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where time and memory go: benchmarks by stage, long runs, and their plots."""

from __future__ import annotations
