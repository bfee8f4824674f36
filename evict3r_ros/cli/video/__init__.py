# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`evict3r video`: depth, poses, a cloud and a scene from a video, images or a camera."""

from __future__ import annotations
