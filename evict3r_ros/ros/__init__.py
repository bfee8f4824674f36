# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 room: the node and what it needs to listen and to answer. Nothing in here computes depth."""
