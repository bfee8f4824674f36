# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training: some steps on a CPU, going on from what was saved, losses, Muon, the schedule, what is never trained on."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from evict3r_ros import geometry
from evict3r_ros.network import PRESETS, StreamVGGT, load_network
from evict3r_ros.training import export, losses, plot, schedule, state, train, validation
from evict3r_ros.training.batches import FIRST_TRAINING_SEED, BatchSpec, make_batch
from evict3r_ros.training.clip_times import disturb, draw_times
from evict3r_ros.training.model import Outputs, TrainingModel, initialise
from evict3r_ros.training.muon import orthogonal

SMALL = ['--device', 'cpu', '--batch', '1', '--size', '42', '56', '--lengths', '2', '3', '--workers', '0']


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Return the folder of a training of two steps."""
    out = tmp_path_factory.mktemp('training')
    assert train.main(['--out', str(out), '--steps', '2', *SMALL]) == 0
    return out


def test_what_a_training_leaves(trained):
    shards = sorted(path.name for path in (trained / 'shards').iterdir())
    assert len(shards) <= 8 and 'training.json' in shards
    assert all(path.stat().st_size <= 15e6 for path in (trained / 'shards').iterdir())
    assert sum(path.stat().st_size for path in (trained / 'shards').iterdir()) < 64e6
    curve = json.loads((trained / 'curve.json').read_text())['curve']
    assert curve[-1]['step'] == 2 and np.isfinite(curve[-1]['loss']) and 'absrel_2' in curve[-1]


def test_going_on_from_the_file_and_from_shards(trained, tmp_path, capsys):
    tensors, progress = state.load(trained / 'state.pt')
    going_on = train.Training(
        train.parse(
            ['--out', str(tmp_path), '--resume', str(tmp_path / 'not there'), str(trained / 'state.pt'), *SMALL]
        )
    )
    assert progress.step == going_on.progress.step == going_on.asked == 2 and going_on.seconds_before > 0
    for key, value in going_on.network.state_dict().items():
        assert torch.equal(value, tensors['network'][key])
    assert all(torch.equal(a, b) for a, b in zip(going_on.optimizer.mean, tensors['mean'], strict=True))
    name, matrix = next((name, p) for name, p in going_on.network.named_parameters() if name.endswith('qkv.weight'))
    assert going_on.optimizer.optimizers[0].state[matrix]['momentum'].abs().sum() > 0
    assert train.main(['--out', str(tmp_path), '--steps', '1', '--resume', str(trained / 'shards'), *SMALL]) == 0
    assert 'step 3' in capsys.readouterr().out
    names = [name for name, _ in going_on.network.named_parameters()]
    halved, _ = state.load(trained / 'shards')
    assert torch.allclose(halved['network'][name], tensors['mean'][names.index(name)], atol=1e-3)


def test_exported_weights_can_be_trained_on(trained, tmp_path):
    """What the package ships is enough to go on from: the weights, to what int8 leaves of them, and the counters."""
    export.export(trained / 'shards', tmp_path / 'packed.safetensors')
    saved, before = state.load(trained / 'shards')
    tensors, progress = state.load(tmp_path / 'packed.safetensors')
    assert (progress.step, progress.frames) == (before.step, before.frames)
    for key, value in saved['network'].items():
        assert (tensors['network'][key] - value).abs().max() <= 0.01 * value.abs().max() + 1e-6
    assert (
        train.main(['--out', str(tmp_path), '--steps', '1', '--resume', str(tmp_path / 'packed.safetensors'), *SMALL])
        == 0
    )
    after = state.load(tmp_path / 'state.pt')[1]
    assert after.step == before.step + 1 and after.calls[:-1] == before.calls == progress.calls != []
    assert (
        plot.join([plot.read_curve(trained / 'curve.json'), plot.read_curve(tmp_path / 'curve.json')])['calls']
        == after.calls
    )


def test_a_call_without_total_minutes_ends_the_training(trained, tmp_path):
    arguments = ['--out', str(tmp_path), '--resume', str(trained / 'state.pt'), '--minutes', '0.12']
    assert train.main([*arguments, *SMALL]) == 0
    tensors, progress = state.load(tmp_path / 'state.pt')
    assert progress.finished and progress.step > 2
    names = [name for name, _ in StreamVGGT(PRESETS['tiny'], ('camera', 'depth')).named_parameters()]
    shipped = state.read_shards(tmp_path / 'shards')
    for name, mean in zip(names, tensors['mean'], strict=True):
        assert torch.equal(shipped[name], mean.half())


def test_damaged_states_are_refused(trained, tmp_path, capsys):
    (tmp_path / 'state.pt').write_bytes((trained / 'state.pt').read_bytes()[:100_000])
    (tmp_path / 'shards').mkdir()
    (tmp_path / 'shards' / 'weights.safetensors.00').write_bytes(b'12345678')
    for path in (tmp_path / 'state.pt', tmp_path / 'shards', tmp_path / 'nothing'):
        assert train.main(['--out', str(tmp_path / 'out'), '--resume', str(path), *SMALL]) == 2
        assert str(path) in capsys.readouterr().err


def test_a_step_is_a_step_downhill():
    """The same batch again and again: loss falls, and everything that is trained has a gradient."""
    training = train.Training(train.parse(['--out', 'unused', '--learning-rate', '0.003', *SMALL]))
    training.momenta_since = -1000
    batch = make_batch(BatchSpec(1, 1, 3, (1, 2)), (42, 56))
    first = training.step(batch)['loss']
    for _ in range(8):
        last = training.step(batch)['loss']
    assert last < 0.8 * first
    training.model.forward_backward(training.model.render(batch, (42, 56), torch.arange(3)))
    assert [name for name, p in training.network.named_parameters() if p.grad is None] == [
        'aggregator.patch_embed.mask_token'
    ]


def test_targets_are_what_geometry_reads():
    batch = make_batch(BatchSpec(9, 2, 3, (2, 4)), (42, 56))
    encoding = torch.cat((batch.camera_from_first[1, 2], batch.field_of_view[1])).numpy()
    world = batch.world_from_camera[1].double().numpy()
    expected = geometry.invert(world[0]) @ world[2]
    assert np.allclose(geometry.world_from_camera(encoding), expected, atol=1e-5)
    assert np.isclose(geometry.intrinsics(encoding, (42, 56))[0, 0], 28 / float(batch.scene.tan_half_fov[1]), rtol=1e-5)
    assert (batch.scene.seeds >= FIRST_TRAINING_SEED).all()
    again = make_batch(BatchSpec(9, 2, 3, (2, 4)), (42, 56))
    assert torch.equal(batch.world_from_camera, again.world_from_camera)


def test_long_clips_on_loops_turn_their_back_on_the_first_frame():
    """And come back; clips elsewhere keep to their strides."""
    turned = []
    for number in (4, 8, 12):
        batch = make_batch(BatchSpec(number, 6, 64, (1, 4)), (42, 56))
        turned.append(2 * torch.rad2deg(batch.camera_from_first[..., 6].abs().clamp(max=1).acos()).amax(1))
        assert batch.times.diff(dim=1).max() <= 2 * 1200 / 64 + 1
    assert (torch.cat(turned) > 150).float().mean() > 0.4
    assert make_batch(BatchSpec(5, 6, 64, (1, 4)), (42, 56)).times.diff(dim=1).max() <= 8


def test_a_right_answer_has_no_error():
    batch = make_batch(BatchSpec(1, 2, 3, (1, 3)), (42, 56))
    network = StreamVGGT(PRESETS['tiny'], ('camera', 'depth'))
    initialise(network, 0)
    model = TrainingModel(network, compile_parts=False)
    rendered = model.render(batch, (42, 56), torch.arange(3))
    depth = rendered.depth
    with torch.no_grad():
        outputs = model.forward(rendered)
    points = geometry.unproject(depth[0, 0], geometry.intrinsics(np.r_[np.zeros(7), batch.field_of_view[0]], (42, 56)))
    scale = losses.first_frame_scale(depth[:, 0], batch.field_of_view)
    assert torch.isclose(scale[0], points.norm(dim=-1).mean(), rtol=1e-4)
    perfect = torch.cat((-outputs.target, outputs.field_of_view), dim=-1)
    perfect[..., :3] *= -1  # a quaternion's opposite is the same rotation
    raw = torch.stack((outputs.depth.log(), torch.zeros_like(outputs.depth)), dim=1)
    right = Outputs(raw, outputs.depth, [perfect] * 4, outputs.target, outputs.field_of_view, outputs.visible)
    assert losses.pose_loss(right.estimates, right.target, right.field_of_view, right.visible) < 1e-6
    assert losses.depth_loss(raw, outputs.depth)[1] < 1e-6
    found, first = validation.metrics(right), validation.metrics(outputs)
    assert found['absrel'] < 1e-5 and found['delta_1_25'] == 1 and found['rotation_deg'] < 0.1 and found['path'] < 1e-5
    assert first['absrel'] > 0.05 and first['path'] > 0.05


def test_the_pass_of_training_is_the_networks_own():
    network = load_network('random', 'tiny')
    model = TrainingModel(network, compile_parts=False)
    batch = make_batch(BatchSpec(1, 1, 2, (1, 1)), (42, 56))
    rendered = model.render(batch, (42, 56), torch.arange(2))
    outputs = model.forward(rendered)
    whole = network.causal(rendered.images.permute(0, 1, 4, 2, 3).float() / 255, (3, 4))
    assert torch.allclose(outputs.raw[:, 0].exp(), whole.depth[0], rtol=1e-5)
    assert torch.allclose(outputs.estimates[-1][..., :7], whole.pose_encoding[..., :7], rtol=1e-5)


@pytest.mark.parametrize('shape', [(2, 8, 24), (1, 24, 8), (3, 16, 16)])
def test_newton_schulz_makes_matrices_orthogonal(shape):
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0))).float())
    assert values.min() > 0.5 and values.max() < 1.4


def test_the_schedule_ends_well_and_changes_gently():
    rates = [schedule.learning_rate_factor(p) for p in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(1) and rates[-1] < 0.02 and np.abs(np.diff(rates[5:])).max() < 0.05
    shares = [schedule.long_share(p) for p in np.linspace(0, 1, 101)]
    assert shares[0] == 0 and np.abs(np.diff(shares)).max() < 0.05
    later = [schedule.batch_spec(step, 0.9, 576).frames for step in range(200)]
    assert 0.6 < np.mean(np.asarray(later) == schedule.LONG) < 0.8
    assert {schedule.batch_spec(step, 0.1, 576).frames for step in range(50)} == {schedule.SHORT}


@pytest.mark.parametrize('wrong', [['--size', '50', '56'], ['--minutes', '0'], ['--batch', '-1']])
def test_settings_that_cannot_work(wrong, tmp_path, capsys):
    assert train.main(['--out', str(tmp_path), *SMALL, *wrong]) == 2
    assert 'error: ' in capsys.readouterr().err


def test_what_befalls_clips_keeps_the_first_frame_and_the_world():
    plain = draw_times(np.random.default_rng(1), 400, 12, (1, 4))
    times, visible = disturb(plain, np.random.default_rng(2))
    assert visible[:, 0].all() and not visible.all()
    changed = (times != plain).any(1)
    assert 0.15 < changed.mean() < 0.45
    assert (np.diff(times, axis=1) < 0).any(), 'the stream goes back'
    span = plain.max(1) - plain.min(1)
    assert (times.min(1) >= plain.min(1) - 1e-9).all() and (times.max(1) <= plain.max(1) + 2 * span + 1e-9).all()


def test_places_and_covered_frames_have_finite_losses_and_gradients():
    """The sky and a covered camera have no depth to learn; a batch of both kinds of world trains all the same."""
    training = train.Training(train.parse(['--out', 'unused', *SMALL[:-1], '0', '--places', '1']))
    spec = BatchSpec(7, 3, 8, (1, 4), places=0.7, disturbed=True)
    batch = make_batch(spec, (42, 56))
    batch.visible[0, 3:5] = 0
    rendered = training.model.render(batch, (42, 56), torch.arange(8))
    assert rendered.depth[0, 3:5].isinf().all() and not rendered.images[0, 3:5].any()
    assert (rendered.depth > 0).all()
    parts = training.model.forward_backward(rendered)
    assert all(torch.isfinite(value) for value in parts.values())
    assert all(p.grad.isfinite().all() for p in training.network.parameters() if p.grad is not None)


def test_a_schedule_can_begin_anew():
    share = schedule.Share(total=3600.0, since=2400.0, begin=0.3)
    assert share.at(2400) == pytest.approx(0.3) and share.at(3000) == pytest.approx(0.65) and share.at(4000) == 1.0
    assert schedule.Share(100.0).at(25.0) == 0.25
