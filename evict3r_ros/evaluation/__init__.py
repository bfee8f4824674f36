# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measure what the cache's settings cost: metrics, data sets, studies and their tables and plots."""
