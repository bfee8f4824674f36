# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r demo`: play images to the live node and save its outputs."""

from __future__ import annotations
