# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth errors against ground truth, after an alignment.

A prediction that is known up to a scale is aligned first. The caller passes one frame or a whole clip, which then has
one alignment. d is the prediction, t the truth: arrays or tensors of one shape. Only pixels where both are finite and
positive count; a mask may exclude more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

ALIGNMENTS = ('none', 'median', 'scale', 'scale&shift')
"""
none: metric depth. median: s = median(t) / median(d) (Zhou et al., CVPR 2017). scale: the s that minimises
sum |s d - t|. scale&shift: s and o that minimise sum |s d + o - t|, as MonST3R (arXiv 2410.03825) and CUT3R
(arXiv 2501.12387) evaluate video depth: least absolute deviations, robust to outliers.
"""
MOST_FITTED = 2_000_000
"""Scale and shift are fitted to at most this many evenly spaced pixels."""
ROUNDS = 60
"""Iterations of reweighted least squares."""


@dataclass(frozen=True)
class DepthErrors:
    """Means over the pixels that count."""

    absrel: float
    """|d - t| / t."""
    rmse: float
    """sqrt of the mean of (d - t)^2, in the truth's unit."""
    log_rmse: float
    """sqrt of the mean of (ln d - ln t)^2."""
    deltas: tuple[float, float, float]
    """Shares of pixels with max(d / t, t / d) below 1.25, 1.25^2 and 1.25^3."""
    pixels: int
    """Number of pixels that count."""
    scale: float
    """Of the alignment: scale * prediction + shift was compared."""
    shift: float
    """Of the alignment, in the truth's unit."""


def valid_pixels(
    predicted: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return prediction and truth (n,) in float64 where both are finite and positive, and where the mask is true."""
    predicted, truth = torch.as_tensor(predicted), torch.as_tensor(truth)
    if predicted.shape != truth.shape:
        raise ValueError(f'a prediction of {tuple(predicted.shape)} beside a truth of {tuple(truth.shape)}')
    counts = torch.isfinite(predicted) & torch.isfinite(truth) & (predicted > 0) & (truth > 0)
    if mask is not None:
        counts &= torch.as_tensor(mask, device=counts.device)
    return predicted[counts].double(), truth[counts].double()


def alignment(predicted: torch.Tensor, truth: torch.Tensor, how: str) -> tuple[float, float]:
    """Return scale and shift that bring predicted (n,) closest to truth (n,), both from ``valid_pixels``."""
    if how not in ALIGNMENTS:
        raise ValueError(f'alignment {how!r} is not one of {", ".join(ALIGNMENTS)}')
    if how == 'none' or not len(truth):
        return 1.0, 0.0
    if how == 'median':
        return float(_median(truth) / _median(predicted)), 0.0
    if how == 'scale':
        return _least_absolute_scale(predicted, truth), 0.0
    stride = -(-len(truth) // MOST_FITTED)
    return _least_absolute_scale_and_shift(predicted[::stride], truth[::stride])


def _median(values: torch.Tensor) -> torch.Tensor:
    """Return the median; torch.median would return the lower of two middle values, this their mean."""
    lower = values.kthvalue((len(values) + 1) // 2).values
    if len(values) % 2 or int((values <= lower).sum()) > len(values) // 2:
        return lower
    return (lower + values[values > lower].min()) / 2.0


def _least_absolute_scale(predicted: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the s that minimises sum |s d - t|: exactly the median of t / d with weights d."""
    candidates, order = (truth / predicted).sort()
    reached = predicted[order].cumsum(0)
    return float(candidates[torch.searchsorted(reached, reached[-1] / 2.0).clamp(max=len(candidates) - 1)])


def _least_absolute_scale_and_shift(predicted: torch.Tensor, truth: torch.Tensor) -> tuple[float, float]:
    """Return scale and shift that minimise sum |s d + o - t|, by iteratively reweighted least squares."""
    weight = torch.ones_like(truth)
    smallest = 1e-6 * float(truth.mean())
    for _ in range(ROUNDS):
        total = weight.sum()
        mean_d, mean_t = (weight * predicted).sum() / total, (weight * truth).sum() / total
        centred = predicted - mean_d
        spread = (weight * centred.square()).sum()
        # A constant prediction has no scale: it is only shifted.
        flat = bool(spread <= total * (1e-9 * mean_d).square())
        scale = torch.ones_like(mean_d) if flat else (weight * centred * (truth - mean_t)).sum() / spread
        shift = mean_t - scale * mean_d
        weight = 1.0 / (scale * predicted + shift - truth).abs().clamp(min=smallest)
    return float(scale), float(shift)


def depth_errors(
    predicted: torch.Tensor,
    truth: torch.Tensor,
    how: str = 'median',
    mask: torch.Tensor | None = None,
    max_depth: float = math.inf,
) -> DepthErrors:
    """Return the errors after one alignment of all pixels; all are NaN if no pixel counts.

    max_depth: larger true depths do not count, and aligned predictions are clamped to it.
    """
    d, t = valid_pixels(predicted, truth, mask)
    if max_depth < math.inf:
        d, t = d[t < max_depth], t[t < max_depth]
    if not len(t):
        return DepthErrors(math.nan, math.nan, math.nan, (math.nan,) * 3, 0, math.nan, math.nan)
    scale, shift = alignment(d, t, how)
    # A shift can make depths negative; clamping keeps the logarithm defined.
    d = (scale * d + shift).clamp(1e-6, max_depth)
    ratio = torch.maximum(d / t, t / d)
    # One transfer from the device for all of them.
    absrel, rmse, log_rmse, *deltas = torch.stack(
        [
            ((d - t).abs() / t).mean(),
            (d - t).square().mean().sqrt(),
            (d.log() - t.log()).square().mean().sqrt(),
            *((ratio < 1.25**power).double().mean() for power in (1, 2, 3)),
        ]
    ).tolist()
    return DepthErrors(absrel, rmse, log_rmse, (deltas[0], deltas[1], deltas[2]), len(t), scale, shift)
