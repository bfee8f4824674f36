# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Weights that come with the package: ``tiny.safetensors``, described in docs/model_card.md."""
