# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The steps of one frame, and the two ways to run them: eagerly, or recorded as a CUDA graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from evict3r_ros.cache import CameraCache, KeyValueCache
from evict3r_ros.camera.view import ImageView
from evict3r_ros.network import NetworkOutput, StreamVGGT
from evict3r_ros.network.camera_head import POSE
from evict3r_ros.stream.anchors import CameraFeedback
from evict3r_ros.stream.recorded import FrameGraph, Transfer


@dataclass(frozen=True)
class FrameAnswer:
    """What a frame's steps come to; tensors are on the network's device."""

    pose_encoding: np.ndarray
    """(9,) float64: see ``geometry.world_from_camera``."""
    depth: torch.Tensor
    """(H, W) float32."""
    confidence: torch.Tensor
    """(H, W) float32."""
    image: torch.Tensor
    """(H, W, 3) uint8 RGB."""


class FrameRunner(Protocol):
    """One way to run the steps of a frame."""

    def run(self, image: torch.Tensor, index: int, remember: bool) -> FrameAnswer:
        """Run the steps on an image (h, w, 3) uint8 RGB of the camera's size; index: its number in the cache."""


class FrameSteps:
    """The steps that every frame of one size takes: ``predict``, then ``end_frame``.

    A frame that is not to be remembered leaves both caches as they were.
    With a ``feedback`` the cache hears of depth and pose in between; without, eviction begins while the heads work.
    """

    def __init__(
        self,
        network: StreamVGGT,
        cache: KeyValueCache,
        camera_cache: CameraCache,
        feedback: CameraFeedback | None,
        view: ImageView,
    ):
        self.network, self.cache, self.camera_cache = network, cache, camera_cache
        self.feedback, self.view = feedback, view
        self._grid = network.aggregator.grid(view.patches)
        network.keep_tables(self, self._grid, view.network_size)

    def predict(self, prepared: torch.Tensor, remember: bool) -> NetworkOutput:
        """Return what the heads say of a prepared image (3, H, W)."""
        network = self.network
        self.cache.begin_frame(remember)
        self.camera_cache.begin_frame(self.cache.anchors, remember)
        image = network.normalise(prepared[None, None])
        tokens = network.aggregator(image, self.cache.is_first_frame, self._grid, self.cache)
        if remember and self.feedback is None:
            self.cache.end_frame(on_side_stream=True)
        output = network.run_heads(tokens, self._grid, self.view.network_size, self.camera_cache)
        self.cache.join()
        return output

    def end_frame(self, remember: bool = True) -> None:
        """Decide what is remembered."""
        if remember and self.feedback is not None:
            self.cache.end_frame()
        self.camera_cache.end_frame()


class EagerRunner:
    """Runs the steps one operation after the other: on any device, and with any cache."""

    def __init__(self, steps: FrameSteps):
        self._steps = steps

    def run(self, image: torch.Tensor, index: int, remember: bool) -> FrameAnswer:
        """See FrameRunner.run."""
        prepared = self._steps.view.prepare(image.to(self._steps.network.device))
        output = self.run_prepared(prepared, index, remember)
        pose_encoding = output.pose_encoding[0, 0].double().cpu().numpy()
        return FrameAnswer(pose_encoding, output.depth[0, 0], output.confidence[0, 0], _as_bytes(prepared))

    def run_prepared(self, prepared: torch.Tensor, index: int, remember: bool = True) -> NetworkOutput:
        """Run the steps on a prepared image (3, H, W) in [0, 1]; return all that the heads say."""
        steps, feedback = self._steps, self._steps.feedback if remember else None
        output = steps.predict(prepared, remember)
        if feedback is not None:
            feedback.send(output, index, steps.view.network_size)
        steps.end_frame(remember)
        if feedback is not None:
            feedback.frame_ended()
        return output


class RecordedRunner:
    """Runs the steps as a CUDA graph: one launch, nothing allocated but the answer, and one wait, for the pose.

    The first run records the graph, so the steps must have run eagerly before, with the cache steady. Frames that are
    not to be remembered have a graph of their own.
    """

    def __init__(self, steps: FrameSteps):
        self._steps = steps
        self._transfer = Transfer((*steps.view.camera_size, 3), POSE, steps.network.device)
        self._prediction: FrameGraph[tuple[NetworkOutput, torch.Tensor]] | None = None
        self._end: FrameGraph[None] | None = None
        self._look: FrameGraph[tuple[NetworkOutput, torch.Tensor]] | None = None

    def forget(self) -> None:
        """Drop the graphs; the next run records them anew."""
        self._prediction = self._end = self._look = None

    def run(self, image: torch.Tensor, index: int, remember: bool) -> FrameAnswer:
        """See FrameRunner.run."""
        steps, feedback = self._steps, self._steps.feedback if remember else None
        self._transfer.send(image)
        output, seen = (self._predicted(feedback is not None) if remember else self._looked()).replay()
        # The graph's own tensors are the next frame's as well.
        depth, confidence, seen = output.depth[0, 0].clone(), output.confidence[0, 0].clone(), seen.clone()
        if feedback is not None:
            feedback.send(output, index, steps.view.network_size)
            if self._end is None:
                self._end = FrameGraph(steps.end_frame, after=self._prediction)
            self._end.replay()
        pose_encoding = self._transfer.wait()
        if feedback is not None:
            feedback.frame_ended()
        return FrameAnswer(pose_encoding, depth, confidence, seen)

    def _predicted(self, has_feedback: bool) -> FrameGraph[tuple[NetworkOutput, torch.Tensor]]:
        if self._prediction is None:
            self._prediction = FrameGraph(self._predict if has_feedback else self._predict_and_end)
        else:
            self._steps.cache.count_frame()
        return self._prediction

    def _looked(self) -> FrameGraph[tuple[NetworkOutput, torch.Tensor]]:
        if self._look is None:
            self._look = FrameGraph(self._predict_and_forget)
        return self._look

    def _predict(self, remember: bool = True) -> tuple[NetworkOutput, torch.Tensor]:
        prepared = self._steps.view.prepare(self._transfer.image)
        output = self._steps.predict(prepared, remember)
        self._transfer.numbers.copy_(output.pose_encoding[0, 0], non_blocking=True)
        return output, _as_bytes(prepared)

    def _predict_and_end(self) -> tuple[NetworkOutput, torch.Tensor]:
        answer = self._predict()
        self._steps.end_frame()
        return answer

    def _predict_and_forget(self) -> tuple[NetworkOutput, torch.Tensor]:
        answer = self._predict(remember=False)
        self._steps.end_frame(remember=False)
        return answer


def _as_bytes(prepared: torch.Tensor) -> torch.Tensor:
    """Return an image (3, H, W) in [0, 1] as (H, W, 3) uint8."""
    return prepared.mul(255.0).round_().to(torch.uint8).permute(1, 2, 0)
