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
from evict3r_ros.stream.anchors import CameraFeedback
from evict3r_ros.stream.default_policy import with_policy
from evict3r_ros.stream.frame_steps import EagerRunner, FrameRunner, FrameSteps, RecordedRunner


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image.

    Lengths are in the network's unit: its scale is arbitrary, but the same throughout a stream.
    """

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


def cache_shape(network: StreamVGGT, view: ImageView, device: torch.device) -> CacheShape:
    """Return what a cache on a device is for: the network's global blocks, and images seen that way."""
    preset = network.preset
    return CacheShape(
        preset.pairs, preset.heads, preset.head_dim, preset.special_tokens, view.patches, network.dtype, device
    )


class Stream:
    """Runs a network over images as they come.

    Memory is allocated here, for the largest frame that the network takes (a square one), or for ``camera_size``
    (height, width) if that is given. Images become ``image_width`` wide, a multiple of 14, the preset's by default:
    less is faster and sees less. On CUDA all frames but a stream's first few are one CUDA graph, unless ``graph`` is
    False or the cache grows. Not thread-safe. Raises UserError for settings that cannot work.
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
        config = with_policy(config, preset.name, network.measured_policy)
        self.cache = KeyValueCache(config, cache_shape(network, view, network.device))
        """Of the global blocks; the stream alone drives it."""
        self.config = self.cache.config
        """As given, with the budget in tokens, and without ``auto``."""
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
        # A plan runs on the meta device, where there are no numbers to look at.
        wants_feedback = network.device.type != 'meta' and CameraFeedback.is_wanted(self.cache)
        self._feedback = CameraFeedback(self.cache) if wants_feedback else None
        self._has_graph = graph and network.device.type == 'cuda' and not self.cache.can_grow
        if self._has_graph:
            self.cache.assume_full()
        self._view: ImageView | None = None
        """Of the eager and the recorded runner; it outlives a reset."""
        self._eager: EagerRunner | None = None
        self._recorded: RecordedRunner | None = None
        self._is_open = False
        self._index = self._remembered = 0

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the cache's memory back; the stream cannot be used any more, the network can."""
        self._eager = self._recorded = self._feedback = None
        del self.cache, self.camera_cache

    def reset(self) -> None:
        """Forget everything; the next image, of any size, is a stream's first. No memory is allocated or freed."""
        self._is_open = False
        self._index = self._remembered = 0

    def forget_graph(self) -> None:
        """Let the next frame record its CUDA graph anew, for those who change what a frame does."""
        if self._recorded is not None:
            self._recorded.forget()

    def _open(self, camera_size: tuple[int, int]) -> tuple[ImageView, EagerRunner]:
        """Begin a stream with images of a size, unless one has begun; return what it runs with."""
        if self._is_open and self._view is not None and self._eager is not None:
            return self._view, self._eager
        view = ImageView.of(camera_size, self.image_width)
        eager = self._eager
        if view != self._view or eager is None:
            # What was recorded for another size is freed before more is allocated.
            self._eager = self._recorded = None
            steps = FrameSteps(self.network, self.cache, self.camera_cache, self._feedback, view)
            eager = EagerRunner(steps)
            self._view, self._eager = view, eager
            self._recorded = RecordedRunner(steps) if self._has_graph else None
        self.cache.reset(view.patches)
        self.camera_cache.reset()
        if self._feedback is not None:
            self._feedback.reset()
        self._is_open = True
        return view, eager

    @torch.inference_mode()
    def step(self, image: np.ndarray | torch.Tensor, remember: bool = True) -> Prediction:
        """Return the prediction for the next image (h, w, 3), uint8 RGB, of any size, but of one size until ``reset``.

        Without ``remember`` it is answered as it would be, and leaves no trace: the stream goes on as if it had not
        come. A stream's first image is remembered in any case, because its camera is the world of all others.
        Raises ValueError for anything else. A frame that fails leaves the stream to be ``reset``.
        """
        # Torch takes no negative strides, and a flipped array or bgr[..., ::-1] has them.
        image = torch.as_tensor(np.ascontiguousarray(image) if isinstance(image, np.ndarray) else image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != torch.uint8:
            raise ValueError(f'an image is (height, width, 3) uint8 RGB, not {tuple(image.shape)} {image.dtype}')
        camera_size = (image.shape[0], image.shape[1])
        view, eager = self._open(camera_size)
        if camera_size != view.camera_size:
            raise ValueError(
                f'the stream runs at {view.camera_size} (height, width) and the image has '
                f'{camera_size}; reset the stream first'
            )
        runner: FrameRunner = eager
        if self._recorded is not None and self.cache.is_steady:
            runner = self._recorded
        remember = remember or not self._remembered
        answer = runner.run(image, self._remembered, remember)
        self._remembered += remember
        self._index += 1
        return Prediction(
            index=self._index - 1,
            depth=answer.depth,
            confidence=answer.confidence,
            image=answer.image,
            world_from_camera=geometry.world_from_camera(answer.pose_encoding),
            intrinsics=geometry.intrinsics(answer.pose_encoding, view.network_size),
            view=view,
        )

    @torch.inference_mode()
    def run(self, prepared: torch.Tensor) -> NetworkOutput:
        """Return all that the heads say of one prepared image (3, H, W), RGB in [0, 1], of the network's size.

        For those who prepare images themselves, or want more than a Prediction holds.
        """
        view, eager = self._open((prepared.shape[-2], prepared.shape[-1]))
        if tuple(prepared.shape) != (3, *view.network_size):
            raise ValueError(f'expected a prepared image {(3, *view.network_size)}, got {tuple(prepared.shape)}')
        output = eager.run_prepared(prepared, self._remembered)
        self._remembered += 1
        self._index += 1
        return output

    def pin(self, frame: int) -> None:
        """Keep what the cache has of a frame (counted from the stream's first, those that left no trace left out).

        It stays until ``unpin``.
        At most ``config.anchors`` frames at a time: the oldest goes when one more comes. The first frame is pinned
        anyway. Raises ValueError for a frame that has not come.
        """
        if not self.config.anchors:
            raise ValueError('no frame but the first can be pinned: the cache was made for 0 anchors')
        if operator.index(frame) != frame or not 0 <= frame <= self._remembered:
            raise ValueError(f'frame {frame} has not come yet: this one is {self._remembered}')
        if frame > 0:
            self.cache.pin(frame)

    def unpin(self, frame: int) -> None:
        """Let a pinned frame compete like any other again."""
        self.cache.unpin(frame)

    def stats(self) -> StreamStats:
        """Return figures for a status line; reads from the device, so not for every frame."""
        usage = self.cache.usage()
        return StreamStats(
            frames=self._index,
            tokens=usage.tokens,
            budget=usage.budget,
            cache_bytes=self.cache.bytes + self.camera_cache.bytes,
            camera_frames=min(self._remembered, self.camera_cache.capacity),
        )
