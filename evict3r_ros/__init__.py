# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Streaming depth, points and poses for ROS 2 robots, with a memory that never grows.

The modules of this folder and the generated messages (`evict3r_ros.msg`) may be installed in different
places: extend_path makes one package of them. Nothing is imported here, so that the parts that do not
need ROS or torch load without either.
"""

from __future__ import annotations

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
__version__ = '0.1.0'
