# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A bag or a camera in front of the node, live or offline: what commands are made of."""

from __future__ import annotations
