# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Files in and out, without ROS: image folders and bags in; bags, TUM trajectories, PLY and GLB clouds and pictures out."""
