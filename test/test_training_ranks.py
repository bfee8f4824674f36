# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training on several processes: the same as on one with all their clips, and the same weights in each."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest
import torch

from evict3r_ros.errors import UserError
from evict3r_ros.training import schedule, train
from evict3r_ros.training.batches import LOOPS, Batch, BatchSpec, make_batch
from evict3r_ros.training.compiled import PARTS, RECORDING, PartFailed
from evict3r_ros.training.warm_up import warm_up

SMALL = ['--device', 'cpu', '--size', '42', '56', '--lengths', '2', '3', '--workers', '0', '--batch', '2']


def part_of(batch: Batch, clips: slice) -> Batch:
    """Return some clips of a batch."""
    tensors = (getattr(batch, name)[clips] for name in Batch.TENSORS)
    return Batch(batch.frames, batch.scene.map(lambda each: each[clips]), *tensors)


def two_steps(training: train.Training, clips: slice) -> tuple[list[torch.Tensor], list[float]]:
    """Weights after two steps on those clips of two batches, and the gradients' norms."""
    norms = []
    for number in (1, 2):
        norms.append(
            float(training.step(part_of(make_batch(BatchSpec(number, 4, 2, (1, 2)), (42, 56)), clips))['gradient'])
        )
        training.progress.step += 1
    return [parameter.detach().clone() for parameter in training.optimizer.parameters], norms


def one_rank(rank: int, port: int, folder: str) -> None:
    """Do what each of two processes does."""
    import os

    os.environ |= {
        'RANK': str(rank),
        'LOCAL_RANK': str(rank),
        'WORLD_SIZE': '2',
        'LOCAL_WORLD_SIZE': '2',
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': str(port),
    }
    torch.set_num_threads(1)
    out = ['--out', f'{folder}/out', '--shards-to', f'{folder}/copy']
    training = train.Training(train.parse([*out, '--learning-rate', '0.001', *SMALL]))
    weights, norms = two_steps(training, slice(2 * rank, 2 * rank + 2))
    # Clocks that differ: what the first rank says is what all do.
    training = train.Training(train.parse([*out, '--steps', '2' if rank == 0 else '9', '--minutes', '5', *SMALL]))
    training.began -= 100 * rank
    training.run()
    torch.save(
        {
            'half': weights,
            'norms': norms,
            'run': list(training.optimizer.parameters),
            'step': training.progress.step,
            'asked': training.asked,
        },
        f'{folder}/{rank}.pt',
    )
    training.ranks.close()


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    """Return the folder of two processes that trained together."""
    folder = tmp_path_factory.mktemp('ranks')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.spawn(one_rank, (port, str(folder)), nprocs=2, join=False)
    try:
        assert any(context.join(timeout=20) for _ in range(6)), 'two ranks took more than two minutes'
    finally:
        for process in context.processes:
            process.kill()
    return folder


def test_two_ranks_with_half_the_clips_are_one_with_all(ranks):
    first, second = (torch.load(ranks / f'{rank}.pt') for rank in range(2))
    whole, norms = two_steps(
        train.Training(train.parse(['--out', 'unused', '--learning-rate', '0.001', *SMALL])), slice(0, 4)
    )
    begun = train.Training(train.parse(['--out', 'unused', *SMALL])).optimizer.parameters
    assert all(torch.equal(ours, other) for ours, other in zip(first['half'], second['half'], strict=True))
    assert first['norms'] == second['norms'] == pytest.approx(norms, rel=1e-3)

    def distance(these, those) -> torch.Tensor:
        return torch.stack([(a - b).detach().norm() for a, b in zip(these, those, strict=True)]).norm()

    # Newton-Schulz works in bfloat16, and AdamW makes much of gradients of nearly zero: what differs is rounding.
    assert distance(first['half'], whole) < 0.05 * distance(whole, begun)


def test_ranks_take_the_same_steps_and_stay_equal(ranks):
    first, second = (torch.load(ranks / f'{rank}.pt') for rank in range(2))
    assert first['step'] == second['step'] == 2 and first['asked'] == second['asked']
    assert all(torch.equal(ours, other) for ours, other in zip(first['run'], second['run'], strict=True))
    for folder in (ranks / 'out', ranks / 'copy'):
        assert (folder / 'curve.json').stat().st_size and (folder / 'shards' / 'training.json').stat().st_size


def test_ranks_see_different_worlds():
    specs = [[schedule.batch_spec(step, 0.5, 24, (2, 3), rank) for step in range(8)] for rank in range(4)]
    assert all(any(spec.number % LOOPS == 0 for spec in of_rank) for of_rank in specs)
    seeds = [make_batch(spec, (42, 56)).scene.seeds.tolist() for of_rank in specs for spec in of_rank[:3]]
    assert len({seed for those in seeds for seed in those}) == sum(map(len, seeds))


def test_more_ranks_than_have_worlds_are_refused():
    with pytest.raises(UserError, match='at most 63'):
        train.Training(train.parse(['--out', 'unused', *SMALL]), SimpleNamespace(count=schedule.MOST_RANKS + 1))


@pytest.mark.parametrize('part', ['blocks', None])
def test_a_part_that_does_not_compile_runs_as_written(part, capsys, monkeypatch):
    """Named by the part itself, or, in the backward pass, found by leaving out one after the other."""
    monkeypatch.setattr(torch, 'compile', lambda function, **_: function)
    training = train.Training(train.parse(['--out', 'unused', *SMALL]))
    model = training.model
    compiled = set(PARTS) - {'attention', RECORDING}
    model.compiled, loss_terms = set(compiled), model.loss_terms

    def broken(outputs):
        if part in model.compiled:
            raise PartFailed(part) from RuntimeError('no such kernel')
        if part is None and 'dense' in model.compiled:
            raise RuntimeError('no such kernel')
        return loss_terms(outputs)

    monkeypatch.setattr(model, '_compile_parts', lambda: None)
    model.loss_terms = broken
    warm_up(training)
    assert model.compiled == compiled - {part or 'blocks'} - (set() if part else {'dense'})
    assert 'runs as written' in capsys.readouterr().err


def test_out_of_memory_halves_a_step(capsys, monkeypatch):
    training = train.Training(train.parse(['--out', 'unused', *SMALL[:-1], '8']))
    training.model.compiled, loss_terms = {'loss'}, training.model.loss_terms

    def hungry(outputs):
        if len(outputs.target) > 9:
            raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate')
        return loss_terms(outputs)

    training.model.loss_terms = hungry
    warm_up(training)
    assert training.args.frames_a_step == 8 and '8 frames a step' in capsys.readouterr().err

    def insatiable(outputs):
        raise torch.OutOfMemoryError('CUDA out of memory')

    training.model.loss_terms = insatiable
    with pytest.raises(train.UserError, match='do not fit'):
        warm_up(training)
