# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The dense prediction head (DPT, arXiv 2103.13413): tokens of four layers to maps of the image's size."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import nn

from evict3r_ros import kernels
from evict3r_ros.network.presets import Preset

NORM_EPS = 1e-5
POSITION_WEIGHT = 0.1
POSITION_BASE = 100.0
MOST_POSITIONS = 16
"""Position maps that are kept for nobody in particular: five for an image size."""


def position_map(channels: int, size: tuple[int, int], aspect: float) -> torch.Tensor:
    """Return sines and cosines of a pixel's place: (channels, height, width) float32, computed in float64.

    aspect = W / H of the image; x spans +-(a/d)(w-1)/w and y +-(1/d)(h-1)/h with d = sqrt(a^2 + 1). The first half of
    the channels tells x, the second y; each half is [sin(p f_k), cos(p f_k)], f_k = 100^(-k / (channels / 4)).
    """
    height, width = size
    diagonal = (aspect**2 + 1.0) ** 0.5
    reach_x, reach_y = aspect / diagonal * (width - 1) / width, 1.0 / diagonal * (height - 1) / height
    quarter = channels // 4
    frequency = POSITION_BASE ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    x = frequency[:, None] * torch.linspace(-reach_x, reach_x, width, dtype=torch.float64)
    y = frequency[:, None] * torch.linspace(-reach_y, reach_y, height, dtype=torch.float64)
    x, y = torch.cat((x.sin(), x.cos())), torch.cat((y.sin(), y.cos()))
    return torch.cat((x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width))).float()


class ResidualUnit(nn.Module):
    """conv(relu(conv(relu(x)))) + relu(x): the published ReLU works in place, so the skip is rectified too."""

    def __init__(self, features: int):
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the unit to x (batch, features, h, w); the shape stays."""
        x = x.relu()
        y: torch.Tensor = self.conv2(self.conv1(x).relu())
        return y + x


class Fusion(nn.Module):
    """Joins a coarser map with a layer's own and upsamples the sum."""

    def __init__(self, features: int, deepest: bool):
        super().__init__()
        if not deepest:
            self.resConfUnit1 = ResidualUnit(features)
        self.resConfUnit2 = ResidualUnit(features)
        self.out_conv = nn.Conv2d(features, features, 1)

    def forward(self, coarser: torch.Tensor | None, own: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Join coarser and own, (batch, features, h, w) each, and upsample to (batch, features, *size)."""
        x = own if coarser is None else coarser + self.resConfUnit1(own)
        # A 1x1 convolution and an interpolation whose weights sum to 1 commute; in this order it costs a quarter.
        x = self.out_conv(self.resConfUnit2(x))
        return kernels.bilinear_upsample(x, size)


class Scratch(nn.Module):
    """The convolutional half of the head, named as in the published weights."""

    def __init__(self, preset: Preset, outputs: int):
        super().__init__()
        features = preset.dense_features
        for number, channels in enumerate(preset.dense_channels, start=1):
            self.add_module(f'layer{number}_rn', nn.Conv2d(channels, features, 3, padding=1, bias=False))
            self.add_module(f'refinenet{number}', Fusion(features, deepest=number == len(preset.dense_channels)))
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, outputs, 1)
        )

    def fuse(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Join four maps, finest first, to one (batch, features, 8h, 8w), h and w in patches."""
        own = [self.get_submodule(f'layer{number}_rn')(x) for number, x in enumerate(maps, start=1)]
        finest = own[0].shape[-2:]
        sizes = [(2 * finest[0], 2 * finest[1]), *(tuple(x.shape[-2:]) for x in own[:-1])]
        fused: torch.Tensor = self.get_submodule(f'refinenet{len(own)}')(None, own[-1], sizes[-1])
        for number in range(len(own) - 1, 0, -1):
            fused = self.get_submodule(f'refinenet{number}')(fused, own[number - 1], sizes[number - 1])
        return fused


class DenseHead(nn.Module):
    """Patch tokens to raw maps; what the numbers mean is the caller's: see ``depth_and_confidence``."""

    def __init__(self, preset: Preset, outputs: int):
        super().__init__()
        channels = preset.dense_channels
        self.special_tokens = preset.special_tokens
        self.norm = nn.LayerNorm(2 * preset.width, eps=NORM_EPS)
        self.projects = nn.ModuleList(nn.Conv2d(2 * preset.width, c, 1) for c in channels)
        self.resize_layers = nn.ModuleList(
            (
                nn.ConvTranspose2d(channels[0], channels[0], 4, stride=4),
                nn.ConvTranspose2d(channels[1], channels[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(channels[3], channels[3], 3, stride=2, padding=1),
            )
        )
        self.scratch = Scratch(preset, outputs)
        self._positions: dict[tuple[object, ...], torch.Tensor] = {}
        self._users: WeakKeyDictionary[object, set[tuple[object, ...]]] = WeakKeyDictionary()

    def keep_positions(self, user: object, patches: tuple[int, int], size: tuple[int, int]) -> None:
        """Keep the position maps of images of ``size``, once they are made, for as long as ``user`` lives."""
        aspect = size[1] / size[0]
        self._users.setdefault(user, set()).update(((patches, aspect), (size, aspect)))

    def _position(self, like: torch.Tensor, size: tuple[int, int], aspect: float) -> torch.Tensor:
        """Return the position map (1, C, *size) in the layout of ``like`` (batch, C, h, w)."""
        last = like.is_contiguous(memory_format=torch.channels_last)
        key = (like.shape[1], size, aspect, like.device, like.dtype, last)
        if key not in self._positions:
            if len(self._positions) >= MOST_POSITIONS:
                used = set[tuple[object, ...]]().union(*self._users.values())
                self._positions = {old: table for old, table in self._positions.items() if old[1:3] in used}
            table = (position_map(like.shape[1], size, aspect) * POSITION_WEIGHT).to(like.device, like.dtype)[None]
            self._positions[key] = table.contiguous(
                memory_format=torch.channels_last if last else torch.contiguous_format
            )
        return self._positions[key]

    def forward(self, tapped: list[torch.Tensor], patches: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
        """Return raw maps (batch, outputs, *size) in float32 of the tokens of four layers, (batch, N, 2C) each."""
        aspect = size[1] / size[0]
        maps = []
        for tokens, project, resize in zip(tapped, self.projects, self.resize_layers, strict=True):
            x = self.norm(tokens[:, self.special_tokens :]).transpose(1, 2).unflatten(-1, patches)
            x = project(x)
            maps.append(resize(x + self._position(x, patches, aspect)))
        x = self.scratch.output_conv1(self.scratch.fuse(maps))
        x = kernels.bilinear_upsample(x, size, self._position(x, size, aspect))
        raw: torch.Tensor = self.scratch.output_conv2(x)
        return raw.float()


def depth_and_confidence(raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return depth exp(x) and confidence 1 + exp(x), each (batch, H, W), of raw (batch, 2, H, W)."""
    return raw[:, 0].exp(), 1.0 + raw[:, 1].exp()


def points_and_confidence(raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points sign(x)(exp|x| - 1) (batch, H, W, 3), in the first camera's frame, and confidence (batch, H, W).

    raw: (batch, 4, H, W).
    """
    points = raw[:, :3].sign() * raw[:, :3].abs().expm1()
    return points.permute(0, 2, 3, 1), 1.0 + raw[:, 3].exp()
