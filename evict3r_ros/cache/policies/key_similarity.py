# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How much a key is like the others: InfiniteVGGT's measure of what a token adds (arXiv 2601.02281)."""

from __future__ import annotations

import torch


def similarity_to_mean(keys: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """Return (M,) float32: each normalised key times the mean of the candidates' normalised keys, mean over heads.

    keys: (heads, M, head_dim); candidates: (M,) bool, which keys make the mean. The mean is not normalised again.
    """
    keys = torch.nn.functional.normalize(keys.float(), dim=-1)
    weights = candidates.float() / candidates.sum().clamp(min=1)
    return torch.einsum('hmd,hd->hm', keys, torch.einsum('hmd,m->hd', keys, weights)).mean(0)
