# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What made the package's own weights: ``python -m evict3r_ros.training.train --help``."""
