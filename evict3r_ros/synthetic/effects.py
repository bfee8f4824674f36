# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What real cameras do to a picture: noise, blur, exposure, grey, vignetting, a bent lens, rolling brightness."""

from __future__ import annotations

import math

import numpy as np
import torch

from evict3r_ros.synthetic.draws import Draws

(
    GAIN,
    GAIN_SWING,
    GAIN_PERIOD,
    CONTRAST,
    RED,
    BLUE,
    GREY,
    VIGNETTE,
    BEND,
    NOISE,
    BLUR_X,
    BLUR_Y,
    BAND,
    BAND_ROWS,
    BAND_SPEED,
    STEP,
    STEP_PERIOD,
    SHUTTER,
    READOUT,
    BLOCKS,
) = range(20)
COLUMNS = 20
"""Of a camera's faults; all are 0 in a camera without any. The last five only act on scenes with solids: steps of an
automatic exposure and their period, open shutter and readout as shares of the time to the next frame, and how coarsely
blocks of 8 x 8 pixels are compressed."""


def draw_effects(draws: Draws) -> np.ndarray:
    """Draw (W, COLUMNS): each fault in part of the cameras, none in one of five."""

    def sometimes(probability: float, values: np.ndarray) -> np.ndarray:
        return np.where(draws.chance(probability), values, 0.0)

    columns = [
        sometimes(0.6, draws.uniform(-0.6, 0.45)),  # of the logarithm of brightness
        sometimes(0.4, draws.uniform(0.05, 0.3)),
        draws.uniform(40, 200),
        sometimes(0.5, draws.uniform(-0.3, 0.3)),
        sometimes(0.5, draws.uniform(-0.15, 0.15)),
        sometimes(0.5, draws.uniform(-0.15, 0.15)),
        sometimes(0.15, draws.uniform(0.9, 1.0)),
        sometimes(0.4, draws.uniform(0.1, 0.55)),
        sometimes(0.35, draws.uniform(-0.1, 0.06)),
        sometimes(0.55, draws.log_uniform(0.004, 0.05)),
        sometimes(0.4, draws.uniform(0.1, 1.0)),
        sometimes(0.4, draws.uniform(0.1, 1.0)),
        sometimes(0.25, draws.uniform(0.03, 0.15)),
        draws.uniform(0.5, 4.0),
        draws.uniform(-0.9, 0.9),
    ]
    faults = np.where(draws.chance(0.8)[:, None], np.stack(columns, axis=-1), 0.0)
    return np.pad(faults, ((0, 0), (0, COLUMNS - faults.shape[1])))


def draw_motion_effects(draws: Draws, faults: np.ndarray) -> None:
    """Add the faults of a camera that moves and compresses to (W, COLUMNS), in place."""
    for column, probability, values in (
        (STEP, 0.3, draws.uniform(0.05, 0.5)),
        (STEP_PERIOD, 1.0, draws.uniform(8, 80)),
        (SHUTTER, 0.5, draws.uniform(0.1, 0.9)),
        (READOUT, 0.35, draws.uniform(-0.6, 0.6)),
        (BLOCKS, 0.5, draws.log_uniform(0.015, 0.14)),
    ):
        faults[:, column] = np.where(draws.chance(probability), values, 0.0)


def bend(
    faults: torch.Tensor, x: torch.Tensor, y: torch.Tensor, edge: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Say where a bent lens looks: from tangents x, y (N, R) of a straight one to those of the bent one.

    One radial term, r (1 + k (r / edge)^2) with edge (N, 1) the tangent at the image's side. Depth stays exact along z
    for what each pixel shows; the pinhole model no longer is.
    """
    factor = 1 + faults[:, BEND, None] * (x * x + y * y) / (edge * edge)
    return x * factor, y * factor


def _blur(image: torch.Tensor, weight: torch.Tensor, dim: int) -> torch.Tensor:
    """Average by [w, 1, w] / (1 + 2 w) along a dimension, the edge repeated; weight (N, 1, 1, 1)."""
    length = image.shape[dim]
    before = torch.cat((image.narrow(dim, 0, 1), image.narrow(dim, 0, length - 1)), dim)
    after = torch.cat((image.narrow(dim, 1, length - 1), image.narrow(dim, length - 1, 1)), dim)
    return (image + weight * (before + after)) / (1 + 2 * weight)


def _hash(number: torch.Tensor) -> torch.Tensor:
    """Mix int64 numbers into 32 bits, without overflow, so that all devices agree (after Wang, lowbias32)."""
    mask = 0xFFFFFFFF
    number = number & mask
    number = ((number ^ (number >> 16)) * 0x21F0AAAD) & mask
    number = ((number ^ (number >> 15)) * 0x735A2D97) & mask
    return number ^ (number >> 15)


def exposure_steps(faults: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """Return the factor (N,) that an automatic exposure lays on brightness in steps; time (N,) in frames."""
    step = (time / faults[:, STEP_PERIOD].clamp(min=1)).floor()
    return torch.exp(faults[:, STEP] * torch.sin(step * 2.4))


def apply_effects(image: torch.Tensor, faults: torch.Tensor, time: torch.Tensor, seed: torch.Tensor) -> torch.Tensor:
    """Turn light on the sensor (N, 3, H, W), linear, into an image (N, 3, H, W) in 0 … 1 as a camera gives it.

    faults (N, COLUMNS); time (N,) in frames; seed (N,) int64: of the frame's noise. Without faults this is exposure and
    the display's gamma alone.
    """
    height, width = image.shape[-2:]

    def fault(column: int) -> torch.Tensor:
        return faults[:, column, None, None, None]

    t = time[:, None, None, None]
    period = fault(GAIN_PERIOD) + (fault(GAIN_PERIOD) == 0)
    gain = torch.exp(fault(GAIN) + fault(GAIN_SWING) * torch.sin(2 * math.pi * t / period))
    y = (torch.arange(height, device=image.device, dtype=image.dtype) / height - 0.5)[:, None]
    x = (torch.arange(width, device=image.device, dtype=image.dtype) / width - 0.5)[None, :]
    gain = gain * (1 - fault(VIGNETTE) * 2 * (x * x + y * y))
    gain = gain * (1 + fault(BAND) * torch.sin(2 * math.pi * (fault(BAND_ROWS) * y + fault(BAND_SPEED) * t)))
    tint = torch.stack((1 + faults[:, RED], torch.ones_like(faults[:, RED]), 1 + faults[:, BLUE]), dim=1)
    image = (image * gain * tint[:, :, None, None]).clamp(0.0, 1.2).clamp(min=1e-5).pow(1 / 1.8)
    image = torch.lerp(image, image.mean(1, keepdim=True).expand_as(image), fault(GREY))
    image = _blur(_blur(image, fault(BLUR_X), 3), fault(BLUR_Y), 2)
    image = (image - 0.5) * (1 + fault(CONTRAST)) + 0.5
    pixel = torch.arange(height * width, device=image.device).view(height, width)
    random = _hash(_hash(seed)[:, None, None] + pixel)
    parts = torch.stack([((random >> shift) & 1023) for shift in (0, 10, 20)], dim=1).to(image.dtype) / 1023 - 0.5
    # Three uniform numbers of unit variance, partly shared between the channels as in a real sensor's grain.
    grain = (parts + 0.5 * parts.sum(1, keepdim=True)) * 2.2
    return (image + fault(NOISE) * grain).clamp(0, 1)
