# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The sizes that the network comes in, and what its images must be like."""

from __future__ import annotations

from dataclasses import dataclass

PATCH = 14
"""Side of an image patch in pixels: one token each (DINOv2 ViT/14)."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in 0 … 1: ImageNet's statistics, which inputs are normalised with."""


@dataclass(frozen=True)
class Preset:
    """All that decides the shape of the network's weights, and the image width it was made for."""

    name: str
    image_width: int
    """Width in pixels that images are resized to, a multiple of 14."""
    width: int
    """Channels C of a token."""
    heads: int
    """Attention heads of encoder, frame and global blocks; C / heads is a multiple of 4 for the 2-D RoPE."""
    encoder_blocks: int
    pairs: int
    """Frame + global block pairs: the layers of the key-value cache."""
    taps: tuple[int, int, int, int]
    """The pairs whose outputs the dense heads read."""
    camera_blocks: int
    camera_heads: int
    dense_features: int
    dense_channels: tuple[int, int, int, int]
    camera_rounds: int = 4
    """Refinement rounds of the camera head."""
    registers: int = 4
    position_grid: int = 37
    """Side of the encoder's learned positional table, in patches."""
    camera_rounds_apart: bool = False
    """Whether a refinement round remembers the same round of earlier frames only. The published camera head, streaming,
    lets all rounds share one memory, which a pass over whole clips cannot train; apart, streaming equals that pass."""

    @property
    def head_dim(self) -> int:
        """Channels of one head of the global blocks: of a key, and of a value, in the cache."""
        return self.width // self.heads

    @property
    def camera_head_dim(self) -> int:
        """Channels of one head of the camera trunk, which is 2C wide."""
        return 2 * self.width // self.camera_heads

    @property
    def camera_memory(self) -> tuple[int, int]:
        """Layers of the camera head's memory, and entries that a frame leaves in each."""
        if self.camera_rounds_apart:
            return self.camera_blocks * self.camera_rounds, 1
        return self.camera_blocks, self.camera_rounds

    @property
    def special_tokens(self) -> int:
        """Camera token and registers, ahead of a frame's patches."""
        return 1 + self.registers


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            'official',
            image_width=518,
            width=1024,
            heads=16,
            encoder_blocks=24,
            pairs=24,
            taps=(4, 11, 17, 23),
            camera_blocks=4,
            camera_heads=16,
            dense_features=256,
            dense_channels=(256, 512, 1024, 1024),
        ),
        Preset(
            'small',
            image_width=154,
            width=384,
            heads=6,
            encoder_blocks=12,
            pairs=4,
            taps=(0, 1, 2, 3),
            camera_blocks=4,
            camera_heads=12,
            dense_features=64,
            dense_channels=(48, 96, 192, 192),
        ),
        Preset(
            'tiny',
            image_width=224,
            width=320,
            heads=5,
            encoder_blocks=4,
            pairs=6,
            taps=(0, 2, 4, 5),
            camera_blocks=1,
            camera_heads=10,
            dense_features=64,
            dense_channels=(48, 96, 192, 192),
            position_grid=16,
            camera_rounds_apart=True,
        ),
        Preset(
            'nano',
            image_width=154,
            width=64,
            heads=2,
            encoder_blocks=1,
            pairs=4,
            taps=(0, 1, 2, 3),
            camera_blocks=1,
            camera_heads=2,
            dense_features=16,
            dense_channels=(8, 8, 16, 16),
        ),
    )
}
"""``official``: the published weights' sizes. ``small``: the same network scaled down, for tests and the CPU. ``tiny``:
the sizes of this package's own weights. ``nano``: as narrow as possible, to run the same code for thousands of frames
where the numbers do not matter."""
