# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Several processes that train one network, one a device, as ``torchrun`` starts them.

One process is the simplest case. Weights begin the same everywhere, gradients are averaged, and what depends on a clock
is said by the first process: so all of them take the same steps and end together.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist

_TIMEOUT = timedelta(minutes=5)


def see_one_device() -> None:
    """Of several CUDA devices of a host, this process sees the one of its local rank, as ``cuda:0``.

    So all processes compile for the same name and share what is compiled. To be called before CUDA is looked for.
    """
    local = int(os.environ.get('LOCAL_RANK', 0))
    if int(os.environ.get('WORLD_SIZE', 1)) > 1:
        visible = [name for name in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',') if name]
        os.environ['CUDA_VISIBLE_DEVICES'] = visible[local] if local < len(visible) else str(local)


class Ranks:
    """This process among the others. Without torchrun's variables in the environment it is alone."""

    def __init__(self, device: str):
        self.count, self.rank = int(os.environ.get('WORLD_SIZE', 1)), int(os.environ.get('RANK', 0))
        if self.count == 1:
            return
        os.environ.setdefault('NCCL_NVLS_ENABLE', '0')  # multicast gains nothing for sums this small
        os.environ.setdefault('TORCH_SYMM_MEM_DISABLE_MULTICAST', '1')
        if int(os.environ.get('LOCAL_WORLD_SIZE', self.count)) == self.count:
            os.environ.setdefault('GLOO_SOCKET_IFNAME', 'lo')
        if not dist.is_initialized():
            dist.init_process_group('cpu:gloo,cuda:nccl' if device.startswith('cuda') else 'gloo', timeout=_TIMEOUT)

    @property
    def first(self) -> bool:
        """Whether this process is the one that logs, validates and saves."""
        return self.rank == 0

    def average(self, flat: torch.Tensor) -> None:
        """Average over all processes, in place, the same bits everywhere."""
        if self.count > 1:
            dist.all_reduce(flat)
            flat.div_(self.count)

    def agree(self, values: Sequence[float]) -> list[float]:
        """Return what the first process says."""
        said = torch.tensor(values, dtype=torch.float64)
        if self.count > 1:
            dist.broadcast(said, 0)
        return said.tolist()

    def worst(self, value: int) -> int:
        """Return the highest of all processes' values."""
        highest = torch.tensor(value)
        if self.count > 1:
            dist.all_reduce(highest, dist.ReduceOp.MAX)
        return int(highest)

    @torch.no_grad()
    def make_equal(self, tensors: list[torch.Tensor]) -> None:
        """Copy the first process's tensors everywhere: rounding may differ between devices, and that would grow."""
        if self.count > 1:
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            dist.broadcast(flat, 0)
            torch._foreach_copy_(tensors, views_of(flat, tensors))

    def close(self) -> None:
        """Leave the others."""
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()


def views_of(flat: torch.Tensor, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Parts of a flat tensor in the shapes of others."""
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
