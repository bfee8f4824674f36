# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Errors against ground truth, with confidence intervals."""

from __future__ import annotations
