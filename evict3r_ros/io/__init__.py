# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Files in and out, without ROS: images, videos and bags in; bags, trajectories, clouds, scenes and pictures out."""
