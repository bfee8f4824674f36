# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The reference engine: plain torch, any device, memory bounded whatever the length of the cache."""

import torch
import torch.nn.functional as F

TILE_BYTES = 32 * 2 ** 20
"""Scores held at one time while the attention mass is collected."""


def attention(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, valid: torch.Tensor | None = None,
              ) -> torch.Tensor:
    """
    Softmax attention: query (heads, N, head_dim), keys and values (heads, M, head_dim) -> (heads, N, head_dim).

    valid: (M,) bool, False for keys that are not there; what lies under them must be finite.
    """
    mask = None if valid is None else valid[None, None, None, :]
    return F.scaled_dot_product_attention(query[None], keys[None], values[None], attn_mask=mask)[0]


def _weights(query: torch.Tensor, keys: torch.Tensor, valid: torch.Tensor | None):
    """
    Softmax weights (heads, tile, M) in float32, a tile of queries at a time.

    A query's weights need its own row of scores alone, so one pass suffices and the matrix (heads, N, M) is never whole.
    """
    heads, _, head_dim = query.shape
    tile = max(16, TILE_BYTES // (4 * heads * keys.shape[1]))
    turned = keys.float().transpose(1, 2)
    for rows in query.split(tile, dim=1):
        scores = (rows.float() * head_dim ** -0.5) @ turned
        if valid is not None:
            scores.masked_fill_(~valid, -torch.inf)
        yield scores.softmax(dim=-1)


def attention_with_mass(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor,
                        valid: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """As ``attention``, and each key's attention mass: (M,) float32, mean over heads of the sum over queries."""
    mass = torch.zeros(keys.shape[1], dtype=torch.float32, device=query.device)
    answers = []
    for weights in _weights(query, keys, valid):
        mass += weights.sum(dim=(0, 1))
        answers.append((weights @ values.float()).to(query.dtype))
    return torch.cat(answers, dim=1), mass / query.shape[0]


def attention_mass(query: torch.Tensor, counts: torch.Tensor, keys: torch.Tensor, valid: torch.Tensor | None = None,
                   ) -> torch.Tensor:
    """The mass (M,) alone, where query i of (heads, N, head_dim) stands for ``counts`` (N,)[i] queries."""
    mass = torch.zeros(keys.shape[1], dtype=torch.float32, device=query.device)
    first = 0
    for weights in _weights(query, keys, valid):
        last = first + weights.shape[1]
        mass += torch.einsum('hnm,n->m', weights, counts[first:last])
        first = last
    return mass / query.shape[0]
