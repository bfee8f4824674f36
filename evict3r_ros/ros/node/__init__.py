# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node: topics, transitions, status, and the process around it."""

from __future__ import annotations
