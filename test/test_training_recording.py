# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A recorded step of training: the same as one that is not, and given up where it goes wrong."""

from __future__ import annotations

import pytest
import torch

from evict3r_ros.network import load_network
from evict3r_ros.training import recording, train
from evict3r_ros.training.batches import BatchSpec, make_batch
from evict3r_ros.training.compiled import RECORDING, PartFailed
from evict3r_ros.training.model import TrainingModel
from evict3r_ros.training.warm_up import warm_up

SIZE, FRAMES = (42, 56), 3


class Replayed:
    """A graph's stand-in where there is no CUDA: it does the work anew, into the tensors of the first time."""

    drift = 1.0

    def __init__(self, work, network):
        """network: its gradients stay where they were first written."""
        self._work, self.answer = work, work()
        self._network = network
        self._gradients = [parameter.grad for parameter in network.parameters()]

    def replay(self):
        """As frame_graph.FrameGraph."""
        self._network.zero_grad()
        for name, value in self._work().items():
            self.answer[name].copy_(value)
        for place, parameter in zip(self._gradients, self._network.parameters(), strict=True):
            if place is not None:
                place.copy_(parameter.grad * self.drift)
        self._network.zero_grad()
        return self.answer


@pytest.fixture
def model(monkeypatch):
    """One whose steps can be recorded, on a CPU by the stand-in."""
    network = load_network('random', 'tiny').requires_grad_(True)
    found = TrainingModel(network.to('cuda' if torch.cuda.is_available() else 'cpu'), compile_parts=False)
    if found.device.type == 'cpu':
        monkeypatch.setattr(recording, 'FrameGraph', lambda work, after=None: Replayed(work, network))
    return found


def learnt(model, rendered) -> tuple[float, list[torch.Tensor]]:
    """Return the loss and all gradients of a step."""
    loss = float(model.forward_backward(rendered)['loss'])
    gradients = [p.grad.clone() for p in model.network.parameters() if p.grad is not None]
    model.network.zero_grad()
    return loss, gradients


def test_a_recorded_step_does_what_the_step_does_on_any_clips(model):
    first, other = (
        model.render(make_batch(BatchSpec(number, 1, FRAMES, (1, 2)), SIZE), SIZE, torch.tensor(supervised))
        for number, supervised in ((1, [0, 2]), (2, [1, 2]))
    )
    expected = [learnt(model, rendered) for rendered in (first, other)]
    model.record(first)
    assert all(parameter.grad is None for parameter in model.network.parameters())
    for rendered, (loss, gradients) in zip((other, first), reversed(expected), strict=True):
        found_loss, found = learnt(model, rendered)
        assert found_loss == pytest.approx(loss, rel=0.02) and len(found) == len(gradients)
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        apart = torch.stack([(a - b).norm() for a, b in zip(found, gradients, strict=True)]).norm()
        assert apart < 0.05 * norm
    assert expected[0][0] != pytest.approx(expected[1][0], rel=0.02)


@pytest.mark.skipif(torch.cuda.is_available(), reason='a real graph does not go wrong on demand')
def test_a_recorded_step_that_goes_wrong_is_refused(model, monkeypatch):
    rendered = model.render(make_batch(BatchSpec(1, 1, FRAMES, (1, 2)), SIZE), SIZE, torch.arange(FRAMES))
    monkeypatch.setattr(Replayed, 'drift', 1.2)
    with pytest.raises(PartFailed) as raised:
        model.record(rendered)
    assert raised.value.part == RECORDING and 'recorded says' in str(raised.value.__cause__)
    monkeypatch.setattr(Replayed, 'drift', float('nan'))
    with pytest.raises(PartFailed):
        model.record(rendered)


@pytest.mark.skipif(torch.cuda.is_available(), reason='a real card does not run out of memory on demand')
def test_a_step_too_large_to_record_is_halved_and_leaves_nothing(model, monkeypatch, capsys):
    graph, asked = recording.FrameGraph, []

    def hungry(work, after=None):
        asked.append(after)
        if len(asked) == 2:
            raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate')
        return graph(work)

    training = train.Training(
        train.parse(
            [
                '--out',
                'unused',
                '--device',
                'cpu',
                '--size',
                '42',
                '56',
                '--lengths',
                '2',
                '3',
                '--workers',
                '0',
                '--batch',
                '4',
            ]
        )
    )
    # The stand-in must know whose gradients to keep.
    training.model, training.network = model, model.network
    training.model.compiled = {RECORDING}
    monkeypatch.setattr(recording, 'FrameGraph', hungry)
    warm_up(training)
    assert training.args.frames_a_step == 4 and '4 frames a step' in capsys.readouterr().err
    assert asked[0] is None and asked[1] is not None and asked[2] is None
    assert sorted(shape[:2] for shape in model._recorded) == [(1, 3), (2, 2)]


def test_where_nothing_can_be_recorded_training_goes_on(capsys, monkeypatch):
    def fails(*_):
        raise RuntimeError('operation not permitted when stream is capturing')

    monkeypatch.setattr(recording, 'FrameGraph', fails)
    training = train.Training(
        train.parse(
            [
                '--out',
                'unused',
                '--device',
                'cpu',
                '--size',
                '42',
                '56',
                '--lengths',
                '2',
                '3',
                '--workers',
                '0',
                '--batch',
                '1',
            ]
        )
    )
    training.model.compiled = {RECORDING}
    warm_up(training)
    assert not training.model.compiled and 'recording does not work here' in capsys.readouterr().err
    batch = make_batch(BatchSpec(1, 1, 2, (1, 2)), SIZE)
    assert torch.isfinite(training.step(batch)['loss'])
