# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One image message in, the answers to it out: everything between a topic and the network, without any topic."""

from __future__ import annotations
