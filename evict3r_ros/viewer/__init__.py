# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The answers in 3-D, for whoever has no rviz: what evict3r view shows through rerun."""

from __future__ import annotations
