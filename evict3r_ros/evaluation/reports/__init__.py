# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Turn measurements into tables and plots, beside published results."""

from __future__ import annotations
