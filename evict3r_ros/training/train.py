# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Trains preset ``tiny`` on synthetic worlds: ``--help`` says how, ``docs/model_card.md`` what came of it."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from evict3r_ros import kernels
from evict3r_ros.errors import UserError
from evict3r_ros.network import PRESETS, StreamVGGT
from evict3r_ros.synthetic.photos import load_photos
from evict3r_ros.training import benchmark, schedule, state, validation
from evict3r_ros.training.batches import Batch, BatchSpec, batches, held_out_batch
from evict3r_ros.training.model import TrainingModel, initialise
from evict3r_ros.training.optimizer import AveragedOptimizer
from evict3r_ros.training.options import command_line, learning_rate, parse, record
from evict3r_ros.training.ranks import Ranks, see_one_device
from evict3r_ros.training.warm_up import warm_up

_LOG_S, _VALIDATE_S, _SAVE_S, _RESERVE_S = 10.0, 75.0, 110.0, 20.0
_NEW_MOMENTA_STEPS = 100


class Training:
    """The loop: specs, steps, a line of log now and then, weights now and then, state at the end."""

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

    def _clock(self) -> float:
        """Share of the planned seconds that have gone by, by this process's own clock."""
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

    def _batches(self) -> Iterator[Batch]:
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

    def run(self) -> None:
        """Train until this call's time is over, then save."""
        args, progress = self.args, self.progress
        if self.ranks.first:
            for folder in filter(None, (args.out, args.shards_to)):
                folder.mkdir(parents=True, exist_ok=True)
        specs = self._batches()
        frames_a_step = args.frames_a_step
        warm_up(self)
        if args.frames_a_step != frames_a_step:
            self.asked = progress.step
            specs = self._batches()
        if self.ranks.first:
            self.held_out = {
                name: held_out_batch(
                    schedule.clips(args.frames_a_step, frames), frames, stride, args.size, family, self.photos
                )
                for name, family, frames, stride in (
                    (f'{args.lengths[0]}', 'rooms', args.lengths[0], 4),
                    (f'{args.lengths[1]}', 'rooms', args.lengths[1], 2),
                    (f'places_{args.lengths[0]}', 'places', args.lengths[0], 4),
                )
            }
        self.say(
            f'ready after {self.elapsed:.1f} s: {self.ranks.count} x {args.frames_a_step} frames a step, learning '
            f'rate {self.highest_rate:.2g}'
        )
        self.started = time.monotonic()
        try:
            self._loop(specs)
        except BaseException:
            # Ctrl-C too: what has been learnt in the last minutes is worth keeping.
            if self.ranks.first and progress.step:
                self.save_weights()
            raise
        progress.seconds = self.trained
        progress.finished = self._clock() >= 0.995
        if self.ranks.first:
            self.save()

    def _loop(self, specs: Iterator[Batch]) -> None:
        progress = self.progress
        sums: dict[str, tuple[torch.Tensor, int]] = {}
        counted, frames = 0, 0
        logged = looked = saved = time.monotonic()
        first = progress.step
        while True:
            over = (
                self.elapsed > self.until
                or self._clock() >= 1
                or progress.step - first >= (self.args.steps or math.inf)
            )
            self.done, over = self.ranks.agree((self._clock(), over))
            if (over or time.monotonic() - logged > _LOG_S) and counted and self.ranks.first:
                entry = {name: float(total) / number for name, (total, number) in sums.items()}
                if not math.isfinite(entry['loss']) and not all(p.isfinite().all() for p in self.optimizer.parameters):
                    raise UserError(
                        f'weights are no numbers any more at step {progress.step}: a lower --learning-rate?'
                    )
                seconds = time.monotonic() - logged
                progress.frames += frames * self.ranks.count
                entry |= {
                    'step': progress.step,
                    'done': self.done,
                    'minutes': self.trained / 60,
                    'steps_per_s': counted / seconds,
                    'frames_per_s': frames * self.ranks.count / seconds,
                }
                if over or time.monotonic() - looked > _VALIDATE_S:
                    entry |= self._validate()
                    looked = time.monotonic()
                progress.curve.append(entry)
                self.say(' '.join(f'{name} {value:.4g}' for name, value in entry.items()))
                if not over and time.monotonic() - saved > _SAVE_S:
                    self.save_weights()
                    saved = time.monotonic()
                sums, counted, frames, logged = {}, 0, 0, time.monotonic()
            if over:
                return
            batch = next(specs)
            parts = self.step(batch)
            parts[f'loss_{batch.frames}'] = parts['loss']
            progress.step += 1
            counted += 1
            frames += batch.times.numel()
            for name, value in parts.items():
                total, number = sums.get(name, (0.0, 0))
                sums[name] = total + value, number + 1

    def _validate(self) -> dict[str, float]:
        """Metrics on held-out worlds, of the running mean of the weights."""
        self.optimizer.swap()
        found: dict[str, float] = {}
        for name, batch in self.held_out.items():
            frames = batch.frames
            # With gradients that nobody uses: without them all would be compiled once more.
            supervised = torch.linspace(0, frames - 1, max(1, round(frames * self.args.depth_share))).round().long()
            outputs = self.model.forward(self.model.render(batch, self.args.size, supervised))
            found |= {f'{metric}_{name}': value for metric, value in validation.metrics(outputs).items()}
        self.optimizer.swap()
        return found

    def save_weights(self) -> None:
        """Save the running mean in shards, which is what is shipped, and the curve."""
        optimizer, progress, args = self.optimizer, self.progress, self.args
        progress.seconds = self.trained
        optimizer.swap()
        weights = {name: value.detach().half().cpu().contiguous() for name, value in self.network.state_dict().items()}
        optimizer.swap()
        if not all(value.isfinite().all() for value in weights.values()):
            self.say('warning: weights that are no numbers; what was saved before stays')
            return
        curve = json.dumps({'calls': progress.calls, 'curve': progress.curve}) + '\n'
        for folder in filter(None, (args.out, args.shards_to)):
            paths = state.save_shards(folder / 'shards', weights, progress, args.shard_mb)
            (folder / 'curve.json').write_text(curve, encoding='utf-8')
            self.say(f'{len(paths)} shards in {folder / "shards"}, step {progress.step}')

    def save(self) -> None:
        """Save weights, and the state from which training goes on as if it had never stopped."""
        self.save_weights()
        progress = self.progress
        tensors = {
            'network': self.network.state_dict(),
            'mean': self.optimizer.mean,
            'optimizers': [optimizer.state_dict() for optimizer in self.optimizer.optimizers],
        }
        state.save_file(self.args.out / 'state.pt', tensors, progress)
        self.say(
            f'saved in {self.args.out} at step {progress.step}, {progress.seconds / 60:.1f} minutes of training, '
            f'{self.elapsed / 60:.1f} of this call{": finished" if progress.finished else ""}'
        )


def main(arguments: list[str] | None = None) -> int:
    """Run. Returns the exit code: 2 for an error that the user can mend, 130 after Ctrl-C."""
    training = None
    try:
        see_one_device()
        # Triton kernels have no backward pass, and a compiled half of a block is to be the same one in validation.
        kernels.use_engine('torch')
        args = parse(arguments)
        training = Training(args)
        benchmark.benchmark(training) if args.benchmark else training.run()
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted; what was saved last stays', file=sys.stderr)
        return 130
    finally:
        if training is not None:
            training.ranks.close()
    return 0


if __name__ == '__main__':
    sys.exit(main())
