# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r replay`: run the node on a bag, live or offline."""

from __future__ import annotations
