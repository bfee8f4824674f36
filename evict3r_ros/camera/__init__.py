# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The camera: its image and the network's, rectification, field of view, and whether a picture is fit to use."""

from __future__ import annotations
