# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r demo`: images through the live node, and what people look at."""

from __future__ import annotations
