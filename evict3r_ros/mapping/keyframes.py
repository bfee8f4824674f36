# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which frames bring something new: parallax, a turn, or a part of the scene that was not in sight. Not time."""

from __future__ import annotations

import numpy as np

from evict3r_ros.stream import Prediction
from evict3r_ros.stream.anchors import motion, share_in_sight, sight_points


class KeyframeChooser:
    """Says before each frame whether it has to be remembered, and after it whether it is a keyframe.

    So a frame is computed once, whatever becomes of it: where not all frames are remembered, a keyframe comes a frame
    later than the motion that asks for it. A camera that stands still asks for nothing, however long it does, and a
    pose without numbers for another look.
    """

    def __init__(self, least_motion: float, least_coverage: float):
        """least_motion: the turn in radians plus the way over the median depth, from one keyframe to the next.

        least_coverage: of the last keyframe's points, the share that must still be in sight.
        """
        self._least_motion, self._least_coverage = least_motion, least_coverage
        self.reset()

    def reset(self) -> None:
        """Forget everything; the next frame is a keyframe."""
        self.is_due = True
        """Whether the coming frame has to be remembered."""
        self._pose = np.eye(4)
        self._points = np.empty((0, 3))

    def observe(self, prediction: Prediction, remembered: bool) -> bool:
        """Take in what a stream said of a frame; return whether it is a keyframe."""
        self.is_due = self.is_due or self._is_new(prediction)
        if not (self.is_due and remembered):
            return False
        self.restart(prediction)
        return True

    def _is_new(self, prediction: Prediction) -> bool:
        pose = prediction.world_from_camera
        if not motion(self._pose, pose, float(prediction.depth.median())) < self._least_motion:
            return True
        height, width = prediction.depth.shape
        return share_in_sight(self._points, prediction.intrinsics, pose, (height, width)) < self._least_coverage

    def restart(self, prediction: Prediction) -> None:
        """Measure from this frame on: a keyframe, in the gauge of the frames that come."""
        self._pose = prediction.world_from_camera
        depth = prediction.depth.numpy(force=True)
        self._points = sight_points(depth, prediction.intrinsics, self._pose)
        self.is_due = False
