# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A stream: an image in, a prediction out, for hours, in memory that was decided before the first frame."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch

from evict3r_ros import geometry
from evict3r_ros.cache import CacheConfig, CacheShape, CameraCache, KeyValueCache
from evict3r_ros.camera.view import ImageView
from evict3r_ros.network import NetworkOutput, StreamVGGT
from evict3r_ros.network.camera_head import POSE
from evict3r_ros.stream.anchors import AnchorChooser, motion
from evict3r_ros.stream.recorded import FrameGraph, Transfer


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image. Lengths are in the network's unit: its scale is arbitrary, but one a stream."""

    index: int
    """0 for a stream's first frame."""
    depth: torch.Tensor
    """(H, W) float32 on the network's device: along the optical z axis, not along the ray."""
    confidence: torch.Tensor
    """(H, W) float32, at least 1; larger is surer."""
    image: torch.Tensor
    """(H, W, 3) uint8 RGB: the image as the network saw it."""
    world_from_camera: np.ndarray
    """(4, 4) float64: the camera's pose, OpenCV axes (x right, y down, z forward); the world is the first camera."""
    intrinsics: np.ndarray
    """(3, 3) float64: predicted K for images of the network's size (H, W), pixel centres at integers."""
    view: ImageView
    """How the camera's image became the network's, and the way back."""


@dataclass(frozen=True)
class StreamStats:
    """Figures of a stream so far."""

    frames: int
    tokens: list[int]
    """Tokens that each layer keeps."""
    budget: list[int]
    """Tokens that each layer may keep."""
    cache_bytes: int
    """Bytes of keys and values, the camera head's included; constant but for policy ``unbounded``."""
    camera_frames: int
    """Frames that the camera head remembers."""


class Stream:
    """Runs a network over images as they come.

    Memory is allocated here, for the largest frame that the network takes (a square one), or for ``camera_size``
    (height, width) if that is given. Images become ``image_width`` wide, a multiple of 14, the preset's by default: less
    is faster and sees less. On CUDA all frames but a stream's first few are one CUDA graph, unless ``graph`` is False or
    the cache grows. Not thread-safe. Raises UserError for settings that cannot work.
    """

    def __init__(
        self,
        network: StreamVGGT,
        config: CacheConfig,
        camera_size: tuple[int, int] | None = None,
        image_width: int | None = None,
        graph: bool = True,
    ):
        preset = network.preset
        self.image_width = image_width or preset.image_width
        view = ImageView.of(camera_size or (self.image_width, self.image_width), self.image_width)
        self.network = network
        self.cache = KeyValueCache(
            config,
            CacheShape(
                preset.pairs,
                preset.heads,
                preset.head_dim,
                preset.special_tokens,
                view.patches,
                network.dtype,
                network.device,
            ),
        )
        """Of the global blocks: to look at, for pictures and tests; the stream alone drives it."""
        self.config = self.cache.config
        """As given, with the budget in tokens."""
        camera_layers, camera_entries = preset.camera_memory
        self.camera_cache = CameraCache(
            config.camera_frames,
            config.camera_policy,
            camera_layers,
            preset.camera_heads,
            camera_entries,
            preset.camera_head_dim,
            network.dtype,
            network.device,
        )
        self._anchor_chooser = AnchorChooser()
        self._has_graph = graph and network.device.type == 'cuda' and not self.cache.policy.grows
        if self._has_graph:
            self.cache.ledger.assume_full()
        # A plan runs on the meta device, where there are no numbers to look at.
        self._tells = (config.anchors > 0 or self.cache.adaptive is not None) and network.device.type != 'meta'
        self._transfer: Transfer | None = None
        self._looking = self._settling = None
        self._recorded_view: ImageView | None = None
        self._view: ImageView | None = None
        self._index = 0

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the cache's memory back; the stream cannot be used any more, the network can."""
        self._looking = self._settling = self._transfer = None
        del self.cache, self.camera_cache

    def reset(self) -> None:
        """Forget everything; the next image, of any size, is a stream's first. No memory is allocated or freed."""
        self._view = None
        self._index = 0

    def forget_graph(self) -> None:
        """Let the next frame record its CUDA graph anew, for those who change what a frame does."""
        self._looking = self._settling = None

    def _open(self, camera_size: tuple[int, int]) -> None:
        view = ImageView.of(camera_size, self.image_width)
        if view != self._recorded_view:
            self._looking = self._settling = self._transfer = None
            self._grid = self.network.aggregator.grid(view.patches)
            if self._has_graph:
                self._transfer = Transfer((*camera_size, 3), POSE, self.network.device)
            self._recorded_view = view
        self.cache.reset(view.patches)
        self.camera_cache.reset()
        self._anchor_chooser.reset()
        self._admitted_pose = np.eye(4)
        self._view = view

    @torch.inference_mode()
    def step(self, image: np.ndarray | torch.Tensor) -> Prediction:
        """The next image (h, w, 3), uint8 RGB, of any size, but of one size until ``reset``.

        Raises ValueError for anything else. A frame that fails leaves the stream to be ``reset``.
        """
        # Torch takes no negative strides, and a flipped array or bgr[..., ::-1] has them.
        image = torch.as_tensor(np.ascontiguousarray(image) if isinstance(image, np.ndarray) else image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != torch.uint8:
            raise ValueError(f'an image is (height, width, 3) uint8 RGB, not {tuple(image.shape)} {image.dtype}')
        camera_size = tuple(image.shape[:2])
        if self._view is None:
            self._open(camera_size)
        elif camera_size != self._view.camera_size:
            raise ValueError(
                f'the stream runs at {self._view.camera_size} (height, width) and the image has '
                f'{camera_size}; reset the stream first'
            )
        if self._transfer is not None and self.cache.is_steady:
            return self._step_recorded(image)
        prepared = self._view.prepare(image.to(self.network.device))
        output = self.run(prepared)
        pose_encoding = output.pose_encoding[0, 0].double().cpu().numpy()
        return self._prediction(pose_encoding, output.depth[0, 0], output.confidence[0, 0], _as_bytes(prepared))

    def _prediction(
        self, pose_encoding: np.ndarray, depth: torch.Tensor, confidence: torch.Tensor, image: torch.Tensor
    ) -> Prediction:
        return Prediction(
            index=self._index - 1,
            depth=depth,
            confidence=confidence,
            image=image,
            world_from_camera=geometry.world_from_camera(pose_encoding),
            intrinsics=geometry.intrinsics(pose_encoding, self._view.network_size),
            view=self._view,
        )

    def _step_recorded(self, image: torch.Tensor) -> Prediction:
        """A step by CUDA graph: one launch, nothing allocated but the answer, and one wait, for the pose."""
        transfer = self._transfer
        transfer.send(image)
        first = self._looking is None
        if first:
            self._looking = FrameGraph(self._whole_frame if not self._tells else self._look_at_sent)
        else:
            self.cache.count_frame()
        output, image = self._looking.replay()
        # The graph's own tensors are the next frame's as well.
        depth, confidence, image = output.depth[0, 0].clone(), output.confidence[0, 0].clone(), image.clone()
        if self._tells:
            pose = self._tell_the_cache(output)
            if first:
                self._settling = FrameGraph(self._settle, after=self._looking)
            self._settling.replay()
        pose_encoding = transfer.wait()
        if self._tells:
            self._admit(pose)
        self._index += 1
        return self._prediction(pose_encoding, depth, confidence, image)

    def _whole_frame(self) -> tuple[NetworkOutput, torch.Tensor]:
        answer = self._look_at_sent()
        self._settle()
        return answer

    def _look_at_sent(self) -> tuple[NetworkOutput, torch.Tensor]:
        prepared = self._view.prepare(self._transfer.image)
        output = self._look(prepared)
        self._transfer.numbers.copy_(output.pose_encoding[0, 0], non_blocking=True)
        return output, _as_bytes(prepared)

    @torch.inference_mode()
    def run(self, prepared: torch.Tensor) -> NetworkOutput:
        """All that the heads say of one prepared image (3, H, W), RGB in [0, 1], of the network's size.

        For those who prepare images themselves, or want more than a Prediction holds.
        """
        if self._view is None:
            self._open(tuple(prepared.shape[-2:]))
        if tuple(prepared.shape) != (3, *self._view.network_size):
            raise ValueError(f'expected a prepared image {(3, *self._view.network_size)}, got {tuple(prepared.shape)}')
        output = self._look(prepared)
        if self._tells:
            pose = self._tell_the_cache(output)
        self._settle()
        if self._tells:
            self._admit(pose)
        self._index += 1
        return output

    def _look(self, prepared: torch.Tensor) -> NetworkOutput:
        """The part of a frame that ends with what the heads say."""
        network = self.network
        self.cache.begin_frame()
        self.camera_cache.begin_frame(self.cache.ledger.anchors)
        is_first = (self.cache.ledger.frame == 0).view(1)
        image = network.normalise(prepared[None, None])
        tokens = network.aggregator(image, is_first, self._grid, self.cache)
        if not self._tells:
            # What the heads say has no part in what is remembered.
            with self.cache.aside.beside():
                self.cache.end_frame()
        output = network.read(tokens, self._grid, self._view.network_size, self.camera_cache)
        self.cache.aside.join()
        return output

    def _settle(self) -> None:
        """The part that decides what is remembered."""
        if self._tells:
            self.cache.end_frame()
        self.camera_cache.end_frame()

    def _admit(self, pose: np.ndarray) -> None:
        if self.cache.adaptive is not None and bool(self.cache.adaptive.admitted):
            self._admitted_pose = pose

    def _tell_the_cache(self, output: NetworkOutput) -> np.ndarray:
        """What a cache that knows no camera needs of pose and depth: motion, and whom to pin. Returns the pose (4, 4)."""
        pose_encoding = output.pose_encoding[0, 0].double().cpu().numpy()
        pose, depth = geometry.world_from_camera(pose_encoding), output.depth[0, 0].cpu().numpy()
        if self.cache.adaptive is not None:
            self.cache.adaptive.moved(torch.tensor(motion(self._admitted_pose, pose, float(np.median(depth)))))
        if self.config.anchors:
            camera_matrix = geometry.intrinsics(pose_encoding, self._view.network_size)
            if self._anchor_chooser.is_anchor(depth, camera_matrix, pose):
                self.pin(self._index)
        return pose

    def pin(self, frame: int) -> None:
        """Keep what the cache has of a frame (counted from the stream's first) until ``unpin``.

        At most ``config.anchors`` frames at a time: the oldest goes when one more comes. The first frame is pinned
        anyway. Raises ValueError for a frame that has not come.
        """
        if not self.config.anchors:
            raise ValueError('no frame but the first can be pinned: the cache was made for 0 anchors')
        if operator.index(frame) != frame or not 0 <= frame <= self._index:
            raise ValueError(f'frame {frame} has not come yet: this one is {self._index}')
        if frame > 0:
            self.cache.ledger.pin(frame)

    def unpin(self, frame: int) -> None:
        """Let a pinned frame compete like any other again."""
        self.cache.ledger.unpin(frame)

    def stats(self) -> StreamStats:
        """Figures for a status line; reads from the device, so not for every frame."""
        ledger = self.cache.ledger
        return StreamStats(
            frames=self._index,
            tokens=ledger.lengths.tolist(),
            budget=self.cache.policy.budgets(ledger).tolist(),
            cache_bytes=self.cache.bytes + self.camera_cache.bytes,
            camera_frames=min(self._index, self.camera_cache.capacity),
        )


def _as_bytes(prepared: torch.Tensor) -> torch.Tensor:
    """(3, H, W) in [0, 1] as (H, W, 3) uint8."""
    return prepared.mul(255.0).round_().to(torch.uint8).permute(1, 2, 0)
