# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What takes a step of training, begun anew or gone on with from what was saved."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from evict3r_ros.errors import UserError
from evict3r_ros.network import PRESETS, StreamVGGT
from evict3r_ros.synthetic.photos import load_photos
from evict3r_ros.training import schedule, state
from evict3r_ros.training.batches import Batch, BatchSpec, batches
from evict3r_ros.training.model import TrainingModel, initialise
from evict3r_ros.training.optimizer import AveragedOptimizer
from evict3r_ros.training.options import command_line, learning_rate, record
from evict3r_ros.training.ranks import Ranks

_RESERVE_S = 20.0
_NEW_MOMENTA_STEPS = 100


class Trainer:
    """A network on its device, its optimizer and its clips: one step at a time."""

    def __init__(self, args: argparse.Namespace, ranks: Ranks | None = None):
        self.args, self.began = args, time.monotonic()
        self.ranks = ranks or Ranks(args.device)
        if self.ranks.count > schedule.MOST_RANKS:
            raise UserError(f'{self.ranks.count} processes: at most {schedule.MOST_RANKS} have worlds of their own')
        self.device = torch.device(args.device)
        torch.set_float32_matmul_precision('high')
        torch.backends.cudnn.benchmark = True
        network = StreamVGGT(PRESETS['tiny'], heads=('camera', 'depth'))
        initialise(network, args.seed)
        self.network = network.to(self.device)
        photos = None if args.textures is None else load_photos(args.textures)
        self.photos = None if photos is None else photos.counts
        self.model = TrainingModel(self.network, self.device.type == 'cuda' and not args.no_compile, photos)
        self.highest_rate = learning_rate(args, self.ranks.count)
        self.optimizer = AveragedOptimizer(self.network, self.highest_rate, self.ranks)
        self.progress = state.Progress()
        found = next((path for path in args.resume if path.exists()), None)
        if args.resume and found is None:
            raise UserError(f'nothing to resume from: none of {", ".join(map(str, args.resume))} is there')
        if found is not None:
            self._resume(found)
        self.progress.calls.append(
            record(args)
            | {
                'command': command_line(args, self.ranks.count),
                'learning_rate': str(self.highest_rate),
                'processes': str(self.ranks.count),
                'torch': str(torch.__version__),
                'device_name': torch.cuda.get_device_name(self.device) if self.device.type == 'cuda' else 'cpu',
            }
        )
        self.seconds_before = self.progress.seconds
        self.until = 60 * args.minutes - min(_RESERVE_S, 6 * args.minutes)
        self.momenta_since = self.progress.step if found is None or found.suffix != '.pt' else -_NEW_MOMENTA_STEPS
        self.started: float | None = None
        self.done = 0.0
        """Share of the planned time that has gone by, as the first rank says."""
        self.asked = self.progress.step
        self._supervision = torch.Generator().manual_seed(self.progress.step)

    def _resume(self, path: Path) -> None:
        tensors, self.progress = state.load(path)
        optimizer = self.optimizer
        try:
            self.network.load_state_dict(tensors['network'])
        except RuntimeError as error:
            raise UserError(f'{path}: weights of another network ({str(error).splitlines()[0]})') from error
        with torch.no_grad():
            torch._foreach_copy_(
                optimizer.mean,
                [mean.to(self.device) for mean in tensors['mean']] if 'mean' in tensors else optimizer.parameters,
            )
        for one, saved in zip(optimizer.optimizers, tensors.get('optimizers', ()), strict=False):
            one.load_state_dict(saved)
        self.say(f'going on from {path}: step {self.progress.step}, {self.progress.seconds / 60:.1f} minutes')

    def say(self, line: str) -> None:
        """To the log, once for all ranks."""
        if self.ranks.first:
            print(line, flush=True)

    @property
    def elapsed(self) -> float:
        """Seconds since this call began."""
        return time.monotonic() - self.began

    @property
    def trained(self) -> float:
        """Seconds of training, in this call and before, without those of compiling."""
        return self.seconds_before + (time.monotonic() - self.started if self.started is not None else 0.0)

    def clock(self) -> float:
        """Return the share of the planned seconds that have gone by, by this process's own clock."""
        args = self.args
        if args.total_minutes is not None:
            total = 60 * args.total_minutes
        else:
            assert self.started is not None, 'asked before the first step'
            total = self.seconds_before + self.until - (self.started - self.began)
        return schedule.Share(total, 60 * args.schedule_from, args.schedule_begin).at(self.trained)

    def _next_spec(self) -> BatchSpec:
        # Asked for by all ranks after the same step, with the same share: so all get specs of the same shape.
        args = self.args
        spec = schedule.batch_spec(
            self.asked,
            self.done,
            args.frames_a_step,
            tuple(args.lengths),
            self.ranks.rank,
            args.places,
            not args.no_jumps,
        )
        self.asked += 1
        return spec

    def batches(self) -> Iterator[Batch]:
        """Draw batches from now on, in processes of their own."""
        return batches(self._next_spec, self.args.size, self.args.workers, self.photos)

    def supervised(self, frames: int) -> torch.Tensor:
        """Draw the frames of a clip whose depth counts in a step."""
        count = max(1, round(frames * self.args.depth_share))
        return torch.randperm(frames, generator=self._supervision)[:count].sort().values

    def step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Take one step of training; nothing in it waits for the device."""
        parts = self.model.forward_backward(self.model.render(batch, self.args.size, self.supervised(batch.frames)))
        return parts | {'gradient': self.optimizer_step()}

    def optimizer_step(self) -> torch.Tensor:
        """From gradients to weights. Returns the gradients' norm."""
        rate = self.highest_rate * schedule.learning_rate_factor(self.done)
        # Momenta must first come, or after a start from shards come back.
        rate *= min(1.0, (self.progress.step - self.momenta_since + 1) / _NEW_MOMENTA_STEPS)
        return self.optimizer.step(self.progress.step, rate)
