# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One door to everything that is worth a kernel; behind it, engines that give the same answers."""

from evict3r_ros.kernels.torch_engine import attention, attention_mass, attention_with_mass

__all__ = ['attention', 'attention_mass', 'attention_with_mass']
