# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""ROS 2: messages, settings, perception, the lifecycle node, and tools around it. Nothing here computes depth."""
