# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Trains preset ``tiny`` on synthetic worlds, in as many calls as one likes.

Made for a GPU that is lent for minutes: each call ends by the clock, leaves its state on the disk and goes on from there;
the learning rate and the lengths of clips follow the share of the planned time that has gone by, so that a training ends
well whatever the machine's speed.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from evict3r_ros import kernels
from evict3r_ros.errors import UserError
from evict3r_ros.network import PRESETS, StreamVGGT
from evict3r_ros.training import schedule, state, watch
from evict3r_ros.training.batches import Batch, Lesson, batches, held_out_batch
from evict3r_ros.training.model import Trainee, initialise
from evict3r_ros.training.muon import make_optimizers

_EMA = 0.998
_LOG_S, _WATCH_S, _RESERVE_S = 10.0, 75.0, 20.0
_NEW_MOMENTA_STEPS = 50


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog='python -m evict3r_ros.training.train', description=__doc__.strip())
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where state and loss curve go')
    parser.add_argument('--minutes', type=float, default=9.0, help='of this call, by the clock, compiling and saving '
                        'included (default: %(default)s)')
    parser.add_argument('--total-minutes', type=float, default=18.5, help='of the whole training (default: '
                        '%(default)s)')
    parser.add_argument('--last-call', action='store_true', help='the training ends with this call, whatever '
                        '--total-minutes says')
    parser.add_argument('--resume', type=Path, nargs='+', default=[], metavar='PATH', help='go on from the first of '
                        'these that is there: a state.pt, or a folder of pieces')
    parser.add_argument('--piece-mb', type=float, metavar='MB', help='also write weights and counters to DIR/pieces, as '
                        'files of at most so many megabytes')
    parser.add_argument('--device', default='cuda', help='cuda or cpu (default: %(default)s)')
    parser.add_argument('--batch', type=int, metavar='CLIPS', help='short clips a step (default: what --frames-a-step '
                        'holds)')
    parser.add_argument('--frames-a-step', type=int, default=576, help='(default: %(default)s)')
    parser.add_argument('--size', type=int, nargs=2, default=(168, 224), metavar=('H', 'W'), help='of the images, '
                        'multiples of 14 (default: 168 224)')
    parser.add_argument('--lengths', type=int, nargs=2, default=(schedule.SHORT, schedule.LONG),
                        metavar=('SHORT', 'LONG'), help='frames of a clip (default: 12 64)')
    parser.add_argument('--steps', type=int, help='stop after so many steps of this call')
    parser.add_argument('--learning-rate', type=float, default=1e-3)
    parser.add_argument('--depth-share', type=float, default=0.5, help="share of a clip's frames whose depth is predicted "
                        'in a step; poses are for all (default: %(default)s)')
    parser.add_argument('--workers', type=int, default=10, help='processes that draw worlds (default: %(default)s)')
    parser.add_argument('--no-compile', action='store_true', help='run as written; always so on a CPU')
    parser.add_argument('--benchmark', action='store_true', help='say what a step takes and where the time goes, train '
                        'and save nothing')
    parser.add_argument('--seed', type=int, default=0, help='of the first weights (default: %(default)s)')
    args = parser.parse_args(arguments)
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        raise UserError(f'device {args.device!r}: torch finds no CUDA here')
    if any(side % 14 or side < 14 for side in args.size):
        raise UserError(f'--size {args.size[0]} {args.size[1]}: both must be multiples of 14')
    for name in ('minutes', 'total_minutes', 'learning_rate', 'depth_share', 'frames_a_step', 'batch', 'piece_mb'):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise UserError(f'--{name.replace("_", "-")} must be more than 0, not {value}')
    if args.batch is not None:
        args.frames_a_step = args.batch * args.lengths[0]
    args.size = tuple(args.size)
    return args


class Training:
    """The loop: lessons, steps, a line of log now and then, state at the end."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.began = args, time.monotonic()
        self.device = torch.device(args.device)
        torch.set_float32_matmul_precision('high')
        torch.backends.cudnn.benchmark = True
        network = StreamVGGT(PRESETS['tiny'], heads=('camera', 'depth'))
        initialise(network, args.seed)
        self.network = network.to(self.device)
        self.trainee = Trainee(self.network, compiled=self.device.type == 'cuda' and not args.no_compile)
        self.optimizers = make_optimizers(self.network, args.learning_rate)
        self.parameters = list(self.network.parameters())
        self.progress = state.Progress()
        self.mean = [parameter.detach().clone() for parameter in self.parameters]
        found = next((path for path in args.resume if path.exists()), None)
        if args.resume and found is None:
            raise UserError(f'nothing to resume from: none of {", ".join(map(str, args.resume))} is there')
        if found is not None:
            self._resume(found)
        self.progress.settings = {key: str(value) for key, value in vars(args).items()}
        self.progress.settings['device_name'] = (torch.cuda.get_device_name(self.device) if self.device.type == 'cuda'
                                                 else 'cpu')
        self.seconds_before = self.progress.seconds
        self.until = 60 * args.minutes - min(_RESERVE_S, 6 * args.minutes)
        self.total = self.seconds_before + self.until if args.last_call else 60 * args.total_minutes
        self.momenta_since = self.progress.step if found is not None and found.is_dir() else 0
        self.asked = self.progress.step
        self._judging = torch.Generator().manual_seed(self.progress.step)

    def _resume(self, path: Path) -> None:
        tensors, self.progress = state.load(path)
        try:
            self.network.load_state_dict(tensors['network'])
        except RuntimeError as error:
            raise UserError(f'{path}: weights of another network ({str(error).splitlines()[0]})') from error
        with torch.no_grad():
            torch._foreach_copy_(self.mean, [tensors['mean'][i].to(self.device) for i in range(len(self.mean))]
                                 if 'mean' in tensors else self.parameters)
        for optimizer, saved in zip(self.optimizers, tensors.get('optimizers', ())):
            optimizer.load_state_dict(saved)
        print(f'going on from {path}: step {self.progress.step}, {self.progress.seconds / 60:.1f} minutes', flush=True)

    @property
    def elapsed(self) -> float:
        """Seconds since this call began."""
        return time.monotonic() - self.began

    @property
    def done(self) -> float:
        """Share of the planned time that has gone by."""
        return min(1.0, (self.seconds_before + self.elapsed) / self.total)

    def _next_lesson(self) -> Lesson:
        lesson = schedule.lesson(self.asked, self.done, self.args.frames_a_step, tuple(self.args.lengths))
        self.asked += 1
        return lesson

    def _judged(self, frames: int) -> torch.Tensor:
        count = max(1, round(frames * self.args.depth_share))
        return torch.randperm(frames, generator=self._judging)[:count].sort().values

    def step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One step of training; nothing in it waits for the device."""
        images, depth = self.trainee.look(batch, self.args.size)
        parts = self.trainee.judge(self.trainee.answer(batch, images, depth, self._judged(batch.frames)))
        parts['loss'].backward()
        self._improve()
        return {name: value.detach() for name, value in parts.items()}

    def _improve(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=True)
        rate = self.args.learning_rate * schedule.learning_rate_factor(self.done)
        # After a start from pieces the momenta must first come back.
        rate *= min(1.0, (self.progress.step - self.momenta_since + 1) / _NEW_MOMENTA_STEPS)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group['lr'] = rate
            optimizer.step()
            optimizer.zero_grad()
        kept = min(_EMA, (self.progress.step + 1) / (self.progress.step + 10))
        torch._foreach_lerp_(self.mean, self.parameters, 1 - kept)

    def run(self) -> None:
        """Train until this call's time is over, then save."""
        args, progress = self.args, self.progress
        args.out.mkdir(parents=True, exist_ok=True)
        self.watched = {frames: held_out_batch(max(1, args.frames_a_step // frames), frames, stride, args.size)
                        for frames, stride in ((args.lengths[0], 4), (args.lengths[1], 2))}
        sums: dict[str, torch.Tensor] = {}
        counted, frames, logged, looked = 0, 0, time.monotonic(), time.monotonic()
        first = progress.step
        for batch in batches(self._next_lesson, args.size, args.workers):
            parts = self.step(batch)
            parts[f'loss_{batch.frames}'] = parts['loss']
            progress.step += 1
            counted += 1
            frames += batch.times.numel()
            for name, value in parts.items():
                total, number = sums.get(name, (0.0, 0))
                sums[name] = total + value, number + 1
            last = self.elapsed > self.until or self.done >= 1 or (args.steps and progress.step - first >= args.steps)
            if last or time.monotonic() - logged > _LOG_S:
                entry = {name: float(total) / number for name, (total, number) in sums.items()}
                seconds = time.monotonic() - logged
                progress.frames += frames
                entry |= {'step': progress.step, 'done': self.done, 'minutes': (self.seconds_before + self.elapsed) / 60,
                          'steps_per_s': counted / seconds, 'frames_per_s': frames / seconds}
                if entry['loss'] != entry['loss']:
                    raise UserError(f'the loss is not a number at step {progress.step}: a lower --learning-rate?')
                if last or time.monotonic() - looked > _WATCH_S:
                    entry |= self._watch()
                    looked = time.monotonic()
                progress.curve.append(entry)
                print(' '.join(f'{name} {value:.4g}' for name, value in entry.items()), flush=True)
                sums, counted, frames, logged = {}, 0, 0, time.monotonic()
            if last:
                break
        progress.seconds = self.seconds_before + self.elapsed
        progress.finished = self.done >= 0.995
        self.save()

    def _watch(self) -> dict[str, float]:
        """Metrics on held-out worlds, of the running mean of the weights."""
        self._swap()
        found = {}
        for frames, batch in self.watched.items():
            # With gradients that nobody uses: without them all would be compiled once more.
            images, depth = self.trainee.look(batch, self.args.size)
            judged = torch.linspace(0, frames - 1, max(1, round(frames * self.args.depth_share))).round().long()
            answers = self.trainee.answer(batch, images, depth, judged)
            found |= {f'{name}_{frames}': value for name, value in watch.metrics(answers).items()}
        self._swap()
        return found

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange the weights and their running mean."""
        weights = [parameter.detach().clone() for parameter in self.parameters]
        torch._foreach_copy_(self.parameters, self.mean)
        torch._foreach_copy_(self.mean, weights)

    def save(self) -> None:
        """State and curve; of a finished training the pieces are the running mean, which is what is shipped."""
        out, progress = self.args.out, self.progress
        tensors = {'network': self.network.state_dict(), 'mean': self.mean,
                   'optimizers': [optimizer.state_dict() for optimizer in self.optimizers]}
        state.save_file(out / 'state.pt', tensors, progress)
        (out / 'curve.json').write_text(json.dumps({'settings': progress.settings, 'curve': progress.curve}) + '\n',
                                        encoding='utf-8')
        if self.args.piece_mb:
            if progress.finished:
                self._swap()
            paths = state.save_pieces(out / 'pieces', self.network.state_dict(), progress, self.args.piece_mb)
            if progress.finished:
                self._swap()
            print(f'{len(paths)} pieces in {out / "pieces"}')
        print(f'saved in {out} at step {progress.step}, {progress.seconds / 60:.1f} of {self.total / 60:.1f} minutes'
              f'{": finished" if progress.finished else ""}', flush=True)

    def benchmark(self, steps: int = 10) -> None:
        """Where a step's time goes, for both lengths of clip."""
        def now() -> float:
            if self.device.type == 'cuda':
                torch.cuda.synchronize()
            return time.monotonic()

        for frames in self.args.lengths:
            start = time.monotonic()
            lesson = Lesson(1, max(1, self.args.frames_a_step // frames), frames, (1, 4))
            batch = next(batches(iter([lesson, None]).__next__, self.args.size, 0))
            drawn = time.monotonic() - start
            self.step(batch)
            cold = now() - start
            self.step(batch)
            parts = dict.fromkeys(('render', 'forward', 'backward', 'optimizers'), 0.0)
            for _ in range(steps):
                times = [now()]
                images, depth = self.trainee.look(batch, self.args.size)
                times.append(now())
                loss = self.trainee.judge(self.trainee.answer(batch, images, depth, self._judged(frames)))['loss']
                times.append(now())
                loss.backward()
                times.append(now())
                self._improve()
                times.append(now())
                parts = {name: total + b - a for (name, total), a, b in zip(parts.items(), times, times[1:])}
            start = now()
            for _ in range(steps):
                self.step(batch)
            whole = (now() - start) / steps
            print(f'{lesson.clips} clips of {frames}: drawn in {drawn:.2f} s, first step {cold:.1f} s, then '
                  f'{1000 * whole:.1f} ms a step ({batch.times.numel() / whole:.0f} frames/s); '
                  + ', '.join(f'{name} {1000 * total / steps:.1f} ms' for name, total in parts.items()), flush=True)
        if self.device.type == 'cuda':
            print(f'peak memory {torch.cuda.max_memory_allocated() / 2 ** 30:.1f} GiB')


def main(arguments: list[str] | None = None) -> int:
    """Run. Returns the exit code: 2 for an error that the user can mend, 130 after Ctrl-C."""
    # Triton kernels have no backward pass, and a compiled half of a block is to be the same one in validation.
    kernels.use('torch')
    try:
        training = Training(parse(arguments))
        training.benchmark() if training.args.benchmark else training.run()
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted; what was saved last stays', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
