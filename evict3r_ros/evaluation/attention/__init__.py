# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whom the network attends to and what the cache keeps, recorded and drawn."""

from __future__ import annotations
