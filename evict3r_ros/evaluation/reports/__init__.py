# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What measurements come to: tables, intervals, plots, and published figures beside them."""

from __future__ import annotations
