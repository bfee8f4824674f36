# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""An image in, a prediction out, for hours, in memory that is planned before the first frame."""

from __future__ import annotations

from evict3r_ros.stream.stream import Prediction, Stream, StreamStats

__all__ = ['Prediction', 'Stream', 'StreamStats']
