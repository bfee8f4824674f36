# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Errors against the truth, and how sure they are."""

from __future__ import annotations
