# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A quick look at held-out worlds while training; ``evict3r eval synthetic`` is the real evaluation."""

from __future__ import annotations

import torch

from evict3r_ros.training.model import Outputs


def metrics(outputs: Outputs) -> dict[str, float]:
    """Measure depth and poses.

    Depth aligned by the clip's median: absrel and delta_1_25. Rotation (degrees) against the first frame, its mean and
    that of the last eighth of a clip's frames; path: mean error of the camera's place, unaligned, over the path's
    length.
    """
    with torch.no_grad():
        clips = outputs.target.shape[0]
        depth = outputs.depth.reshape(clips, -1)
        said = outputs.raw[:, 0].float().exp().reshape(clips, -1)
        known = depth.isfinite()
        depth = torch.where(known, depth, torch.nan)
        said = said * (depth / said).nanmedian(1, keepdim=True).values
        ratio = torch.maximum(said / depth, depth / said)[known]
        estimate = outputs.estimates[-1].double()
        target = outputs.target.double()
        one, other = (torch.nn.functional.normalize(x, dim=-1) for x in (estimate[..., 3:7], target[..., 3:]))
        turned = 2 * torch.rad2deg(torch.acos((one * other).sum(-1).abs().clamp(max=1)))[:, 1:]
        places = [_centre(x[..., :3], q) for x, q in ((estimate, one), (target, other))]
        length = places[1].diff(dim=1).norm(dim=-1).sum(1)
        off = (places[0] - places[1]).norm(dim=-1).mean(1) / length.clamp(min=1e-6)
        late = max(1, turned.shape[1] // 8)
        values = {
            'absrel': ((said - depth).abs() / depth).nanmean(),
            'delta_1_25': (ratio < 1.25).double().mean(),
            'rotation_deg': turned.mean(),
            'late_rotation_deg': turned[:, -late:].mean(),
            'path': off.median(),
        }
        return {name: float(value) for name, value in values.items()}


def _centre(translation: torch.Tensor, quaternion: torch.Tensor) -> torch.Tensor:
    """Where the camera is, -R^T t, from camera-from-first translation and unit quaternion xyzw (..., 4)."""
    axis, w = -quaternion[..., :3], quaternion[..., 3:]
    across = 2 * torch.linalg.cross(axis, translation)
    centre: torch.Tensor = -(translation + w * across + torch.linalg.cross(axis, across))
    return centre
