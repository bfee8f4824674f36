# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Messages and what they mean to numpy: conversions, JPEG and PNG, the path, and the libraries of a robot."""

from __future__ import annotations
