# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The whole network: one call for one frame of a stream, or for many frames at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from evict3r_ros import kernels
from evict3r_ros.network.aggregator import Aggregator, FrameGrid
from evict3r_ros.network.camera_head import CameraHead
from evict3r_ros.network.dense_head import DenseHead, depth_and_confidence, points_and_confidence
from evict3r_ros.network.memory import CausalMemory, Memory
from evict3r_ros.network.presets import MEAN, STD, Preset
from evict3r_ros.stages import stage

HEADS = ('camera', 'depth', 'point')


@dataclass(frozen=True)
class NetworkOutput:
    """What the heads say, float32; a head that was not asked for, or not built, leaves None."""

    pose_encoding: torch.Tensor
    """(batch, frames, 9): see ``geometry.world_from_camera``."""
    depth: torch.Tensor
    """(batch, frames, H, W), along the optical z axis."""
    confidence: torch.Tensor
    """(batch, frames, H, W), at least 1."""
    points: torch.Tensor | None
    """(batch, frames, H, W, 3), in the first camera's frame."""
    points_confidence: torch.Tensor | None
    last_tokens: torch.Tensor
    """(batch, frames, N, 2C): the last layer's tokens."""


class StreamVGGT(nn.Module):
    """StreamVGGT (arXiv 2507.11539).

    ``heads``: which of camera, depth and point to build; the point head says what depth and camera say together, at the
    price of a second dense head. The state dict has the published names, but for the tracking head's.
    """

    def __init__(self, preset: Preset, heads: tuple[str, ...] = HEADS):
        super().__init__()
        self.preset = preset
        self.untrained = False
        """Set where the weights are random numbers, shown to users with the results."""
        self.demonstration = False
        """Set where the weights only show what the package does, by their own account: nobody vouches for lengths."""
        self.source = ''
        """Where the weights came from, in a few words for logs and status."""
        self.weights_file: Path | None = None
        """The file that they were read from."""
        self.measured_policy = ''
        """The eviction policy that the weights' file names as measured for them; '' for none."""
        self.aggregator = Aggregator(preset)
        self.camera_head = CameraHead(preset)
        self.depth_head = DenseHead(preset, outputs=2)
        self.point_head = DenseHead(preset, outputs=4) if 'point' in heads else None
        self._mean_and_std: torch.Tensor | None = None
        self._side_stream: kernels.SideStream | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.aggregator.camera_token.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of weights, tokens, keys and values."""
        return self.aggregator.camera_token.dtype

    def keep_tables(self, user: object, grid: FrameGrid, size: tuple[int, int]) -> None:
        """Keep what is made once for images of ``size`` for as long as ``user`` lives.

        A recorded frame reads it where it lies, and must not find it freed because other sizes came meanwhile.
        """
        for head in (self.depth_head, self.point_head):
            if head is not None:
                head.keep_positions(user, grid.patches, size)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Return images (..., 3, H, W) RGB in [0, 1] as the network's input, in its precision."""
        # Kept, because a copy from the host has no place in a CUDA graph.
        if self._mean_and_std is None or self._mean_and_std.device != images.device:
            self._mean_and_std = torch.tensor((MEAN, STD), device=images.device)[..., None, None]
        mean, std = self._mean_and_std
        normalised: torch.Tensor = (images - mean) / std
        return normalised.to(self.dtype)

    def forward(
        self, images: torch.Tensor, is_first: torch.Tensor, grid: FrameGrid, memory: Memory, camera_memory: Memory
    ) -> NetworkOutput:
        """Run the network on normalised images (batch, frames, 3, H, W).

        is_first: (frames,) bool; grid: from ``aggregator.grid``.
        """
        tokens = self.aggregator(images, is_first, grid, memory)
        return self.run_heads(tokens, grid, (images.shape[-2], images.shape[-1]), camera_memory)

    def run_heads(
        self, tokens: list[torch.Tensor], grid: FrameGrid, size: tuple[int, int], camera_memory: Memory
    ) -> NetworkOutput:
        """Return what the heads say of the aggregator's tokens, for images of ``size`` (height, width)."""
        *tapped, last = tokens
        batch_frames = last.shape[:2]
        # The camera head moves weights, the dense heads compute: side by side they take little more than one of them.
        if self._side_stream is None:
            self._side_stream = kernels.SideStream(last.device)
        with self._side_stream.fork(last), stage('camera head'):
            pose_encoding = self.camera_head(last[:, :, 0], camera_memory)
        tapped = [tokens.flatten(0, 1) for tokens in tapped]
        with stage('depth head'):
            raw = self.depth_head(tapped, grid.patches, size)
        depth, confidence = depth_and_confidence(raw)
        points = points_confidence = None
        if self.point_head is not None:
            points, points_confidence = points_and_confidence(self.point_head(tapped, grid.patches, size))
            points = points.unflatten(0, batch_frames)
            points_confidence = points_confidence.unflatten(0, batch_frames)
        self._side_stream.join()
        return NetworkOutput(
            pose_encoding,
            depth.unflatten(0, batch_frames),
            confidence.unflatten(0, batch_frames),
            points,
            points_confidence,
            last,
        )

    def causal(self, images: torch.Tensor, patches: tuple[int, int]) -> NetworkOutput:
        """Run one frame-causal pass over whole clips (batch, frames, 3, H, W), RGB in [0, 1].

        Frame 0 is a stream's first.

        The same as streaming with everything remembered, but for the camera head where a preset lets its rounds share
        one memory: here a round sees the same round of earlier frames.
        """
        frames = images.shape[1]
        is_first = torch.arange(frames, device=images.device) == 0
        output: NetworkOutput = self(
            self.normalise(images), is_first, self.aggregator.grid(patches), CausalMemory(frames), CausalMemory(frames)
        )
        return output
