# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Made-up worlds whose depth, poses and intrinsics are exact, rendered by casting rays in torch."""
