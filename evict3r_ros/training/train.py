# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Trains preset ``tiny`` on synthetic worlds: ``--help`` says how, ``docs/model_card.md`` what came of it."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator

import torch

from evict3r_ros import kernels
from evict3r_ros.errors import UserError
from evict3r_ros.training import benchmark, schedule, state, validation
from evict3r_ros.training.batches import Batch, held_out_batch
from evict3r_ros.training.options import parse
from evict3r_ros.training.ranks import see_one_device
from evict3r_ros.training.trainer import Trainer
from evict3r_ros.training.warm_up import warm_up

_LOG_S, _VALIDATE_S, _SAVE_S = 10.0, 75.0, 110.0


class Training(Trainer):
    """The loop: specs, steps, a line of log now and then, weights now and then, state at the end."""

    def run(self) -> None:
        """Train until this call's time is over, then save."""
        args, progress = self.args, self.progress
        if self.ranks.first:
            for folder in filter(None, (args.out, args.shards_to)):
                folder.mkdir(parents=True, exist_ok=True)
        specs = self.batches()
        frames_a_step = args.frames_a_step
        warm_up(self)
        if args.frames_a_step != frames_a_step:
            self.asked = progress.step
            specs = self.batches()
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
        progress.finished = self.clock() >= 0.995
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
                self.elapsed > self.until or self.clock() >= 1 or progress.step - first >= (self.args.steps or math.inf)
            )
            self.done, over = self.ranks.agree((self.clock(), over))
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
