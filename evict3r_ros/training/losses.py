# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What training asks for: depth, how sure of it, and poses, in a scale that the first frame sets."""

from __future__ import annotations

import torch

CONFIDENCE_ALPHA, UNKNOWN_ERROR = 0.2, 1.0
GRADIENT_WEIGHT = 0.5
ROUND_DISCOUNT = 0.7
TRANSLATION_WEIGHT, ROTATION_WEIGHT, FOV_WEIGHT, POSE_WEIGHT = 1.0, 2.0, 0.5, 1.0


def first_frame_scale(depth: torch.Tensor, field_of_view: torch.Tensor) -> torch.Tensor:
    """Return the mean distance (clips,) of the first frames' points, the sky's left out; 1 where all is sky.

    depth (clips, H, W) along z, infinite in the sky; field_of_view (clips, 2).
    """
    height, width = depth.shape[-2:]
    tan = (field_of_view / 2).tan()
    y = (torch.arange(height, device=depth.device) / (height / 2) - 1)[None, :, None] * tan[:, :1, None]
    x = (torch.arange(width, device=depth.device) / (width / 2) - 1)[None, None, :] * tan[:, 1:, None]
    known = is_known(depth)
    total = torch.where(known, depth * (x * x + y * y + 1).sqrt(), 0.0).sum((1, 2))
    return torch.where(known.any(2).any(1), total / known.sum((1, 2)).clamp(min=1), 1.0)


def is_known(depth: torch.Tensor) -> torch.Tensor:
    """Whether depth is to be learned: not in the sky, not before a covered camera."""
    return depth.isfinite() & (depth > 0)


def depth_loss(raw: torch.Tensor, depth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss and, of it, the mean error |log d - log d*|.

    raw (frames, 2, H, W) of the dense head, depth (frames, H, W), infinite where nothing is to be known: in the sky and
    before a covered camera. The error is relative, since the metrics are. Confidence c = 1 + exp(x) follows DUSt3R
    (arXiv 2312.14132, eq. 4), c error - alpha log c, but is told of the error without telling the depth: every pixel
    counts the same there. Where depth is not to be known the error counts as UNKNOWN_ERROR. The gradients of log depth
    are compared over one and over four pixels (arXiv 2503.11651, section 3.3).
    """
    known = is_known(depth)
    difference = torch.where(known, raw[:, 0].float() - torch.where(known, depth, 1.0).log(), 0.0)
    error = difference.abs()
    confidence = 1 + raw[:, 1].float().clamp(max=8).exp()
    told = torch.where(known, error.detach(), UNKNOWN_ERROR)
    sure = (confidence * told - CONFIDENCE_ALPHA * confidence.log()).mean()

    def over_known(values: torch.Tensor, those: torch.Tensor) -> torch.Tensor:
        return (values * those).sum() / those.sum().clamp(min=1)

    gradient = sum(
        over_known(
            (difference[:, step:] - difference[:, :-step]).abs().clamp(max=1), known[:, step:] & known[:, :-step]
        )
        + over_known(
            (difference[:, :, step:] - difference[:, :, :-step]).abs().clamp(max=1),
            known[:, :, step:] & known[:, :, :-step],
        )
        for step in (1, 4)
    )
    mean = over_known(error, known)
    return mean + GRADIENT_WEIGHT * gradient + 0.1 * sure, mean


def pose_loss(
    estimates: list[torch.Tensor], target: torch.Tensor, field_of_view: torch.Tensor, visible: torch.Tensor
) -> torch.Tensor:
    """Return the absolute errors of every round's estimate, the last round's counting most.

    estimates: (..., 9) each; target (..., 7) translation in units of the scale and quaternion xyzw; field_of_view
    (..., 2); visible (...): how much a frame counts. An error of translation counts relative to 1 + the distance: a
    camera that is lost rooms away would drown the rest. A quaternion and its opposite are the same rotation: the nearer
    one is asked for.
    """
    far = 1 + target[..., :3].norm(dim=-1)
    total: torch.Tensor | float = 0.0
    weights = 0.0
    for age, estimate in enumerate(reversed(estimates)):
        translation = (estimate[..., :3] - target[..., :3]).abs().sum(-1) / far
        one = (estimate[..., 3:7] - target[..., 3:]).abs().sum(-1)
        other = (estimate[..., 3:7] + target[..., 3:]).abs().sum(-1)
        view = (estimate[..., 7:] - field_of_view).abs().sum(-1)
        error = TRANSLATION_WEIGHT * translation + ROTATION_WEIGHT * torch.minimum(one, other) + FOV_WEIGHT * view
        loss = (error * visible).sum() / visible.sum().clamp(min=1)
        total, weights = total + ROUND_DISCOUNT**age * loss, weights + ROUND_DISCOUNT**age
    assert isinstance(total, torch.Tensor), 'no rounds'
    return total / weights
