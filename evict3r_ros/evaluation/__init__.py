# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the cache's choices cost: comparisons whose tables and plots stand in docs/, each from one command."""
