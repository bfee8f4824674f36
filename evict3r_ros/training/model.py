# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The network as training sees it: weights to begin with, one pass over clips, the loss, and what is compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from types import MethodType

import torch
from torch import nn

from evict3r_ros.network import CausalMemory, StreamVGGT
from evict3r_ros.network.layers import Block
from evict3r_ros.network.presets import PATCH
from evict3r_ros.synthetic.render import render_frames
from evict3r_ros.synthetic.texture import noise_table
from evict3r_ros.synthetic.world import Scene
from evict3r_ros.training import losses
from evict3r_ros.training.batches import Batch, per_frame
from evict3r_ros.training.memory import FlexMemory
from evict3r_ros.training.pieces import PIECES, RECORDING, compiled
from evict3r_ros.training.recording import RecordedStep

_PLAIN_FRAMES = 32


@torch.no_grad()
def initialise(network: StreamVGGT, seed: int) -> None:
    """Weights to begin training with: torch's own for matrices and kernels, those below for what torch leaves at 0 or 1."""
    generator = torch.Generator().manual_seed(seed)

    def normal(parameter: nn.Parameter, deviation: float) -> None:
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)

    aggregator, encoder, camera = network.aggregator, network.aggregator.patch_embed, network.camera_head
    for name, parameter in network.named_parameters():
        if name.endswith('.gamma'):
            parameter.fill_(0.3)
        elif parameter.ndim in (2, 4):
            normal(parameter, (3 * parameter[0].numel()) ** -0.5)
        elif name.endswith('.bias'):
            parameter.zero_()
    for token in (aggregator.camera_token, aggregator.register_token):
        normal(token, 0.5)
    for table in (encoder.cls_token, encoder.pos_embed, encoder.register_tokens):
        normal(table, 0.2)
    # Before anything is learnt, no camera moves or turns and sees an angle of 60 degrees.
    camera.pose_branch.fc2.weight.mul_(0.1)
    camera.pose_branch.fc2.bias.copy_(torch.tensor([0, 0, 0, 0, 0, 0, 1, 0.9, 1.1]) / camera.rounds)


@dataclass(frozen=True)
class Seen:
    """What a step learns from, on the device: always the same tensors where a step is recorded."""

    images: torch.Tensor
    """(clips, frames, H, W, 3) uint8 RGB"""
    depth: torch.Tensor
    """(clips, frames, H, W) float32, metres along optical z."""
    judged: torch.Tensor
    """(n,) int64: the frames of each clip whose depth is predicted."""
    camera_from_first: torch.Tensor
    """(clips, frames, 7) float32: see ``batches.Batch``."""
    field_of_view: torch.Tensor
    """(clips, 2) float32: vertical, horizontal, radians."""

    @classmethod
    def made_up(
        cls, clips: int, frames: int, judged: torch.Tensor, size: tuple[int, int], device: torch.device
    ) -> Seen:
        """Numbers of the right shapes and sizes, which cost nothing to draw."""
        images = torch.randint(0, 256, (clips, frames, *size, 3), dtype=torch.uint8, device=device)
        depth = torch.rand((clips, frames, *size), device=device) + 1
        poses = torch.tensor([0, 0, 0, 0, 0, 0, 1.0], device=device).repeat(clips, frames, 1)
        return cls(images, depth, judged.to(device), poses, torch.ones((clips, 2), device=device))

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All of them, in the order of the fields."""
        return tuple(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Answers:
    """What a pass over clips says, and the truth beside it in units of the scale."""

    raw: torch.Tensor
    """(clips * judged, 2, H, W) of the dense head."""
    depth: torch.Tensor
    """(clips * judged, H, W) true depth."""
    estimates: list[torch.Tensor]
    """(clips, frames, 9) after each round."""
    target: torch.Tensor
    """(clips, frames, 7) true translation and quaternion xyzw of camera-from-first."""
    field_of_view: torch.Tensor
    """(clips, frames, 2)"""

    def flat(self) -> Answers:
        """Clips and frames as one dimension: of one shape whatever a clip's length, so that the loss compiles once."""
        return replace(
            self,
            estimates=[estimate.flatten(0, 1) for estimate in self.estimates],
            target=self.target.flatten(0, 1),
            field_of_view=self.field_of_view.flatten(0, 1),
        )


def judge(answers: Answers) -> dict[str, torch.Tensor]:
    """The loss and its parts."""
    depth_loss, depth_error = losses.depth_loss(answers.raw, answers.depth)
    pose_loss = losses.pose_loss(answers.estimates, answers.target, answers.field_of_view)
    return {
        'loss': depth_loss + losses.POSE_WEIGHT * pose_loss,
        'depth': depth_loss.detach(),
        'log_depth_error': depth_error.detach(),
        'pose': pose_loss.detach(),
    }


def _render_in_parts(
    scene: Scene, poses: torch.Tensor, times: torch.Tensor, noise: torch.Tensor, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """As ``render_frames``, a few frames at a time: not compiled, it keeps everything that it computes on the way."""
    images, depths = [], []
    for part in torch.arange(len(times), device=times.device).split(_PLAIN_FRAMES):
        image, depth = render_frames(scene.map(lambda each, of=part: each[of]), poses[part], times[part], noise, size)
        images.append(image)
        depths.append(depth)
    return torch.cat(images), torch.cat(depths)


class Trainee:
    """A network with what training needs around it; compiled piece by piece on CUDA, as it is elsewhere.

    Blocks are compiled by their two halves, before and after attention, and all alike blocks share what comes out: to
    compile the whole network took 95 s, and again for each length of clip.
    """

    def __init__(self, network: StreamVGGT, compile_pieces: bool):
        self.network, self.device = network, network.device
        self._noise = noise_table(self.device)
        self.compiled = set(PIECES) if compile_pieces else set()
        """The pieces that are compiled."""
        self._arrange()

    def give_up(self, piece: str) -> None:
        """From now on that piece runs as written, which is slower."""
        self.compiled.discard(piece)
        if piece == RECORDING:
            self.forget_recordings()
            return
        torch._dynamo.reset()
        self._arrange()

    def forget_recordings(self) -> None:
        """Steps run as they are from now on; what recorded ones had allocated is free."""
        self._recorded.clear()

    def _arrange(self) -> None:
        torch._dynamo.config.recompile_limit = 64
        network = self.network

        def piece(name: str, function: Callable, plain: Callable | None = None) -> Callable:
            if name in self.compiled:
                return compiled(name, function)
            return plain or function

        self.render = piece('render', render_frames, _render_in_parts)
        self.judge = piece('judge', judge)
        self._recorded: dict[torch.Size, RecordedStep] = {}
        self._memory: Callable[[int], CausalMemory] = FlexMemory if 'attention' in self.compiled else CausalMemory
        self._memories: dict[int, CausalMemory] = {}
        before, after = (piece('blocks', half) for half in (Block.before, Block.after))
        for module in network.modules():
            if isinstance(module, Block):
                module.before, module.after = MethodType(before, module), MethodType(after, module)
        if 'dense' in self.compiled:
            network.depth_head.to(memory_format=torch.channels_last)
        self._dense = piece('dense', network.depth_head.forward)
        self._has_tables = False

    def look(self, batch: Batch, size: tuple[int, int], judged: torch.Tensor) -> Seen:
        """A batch's images and its truth; judged: (n,) on the CPU. Nothing in it waits for the device."""
        scene = per_frame(batch.scene, batch.frames, self.device)
        with torch.no_grad():
            images, depth = self.render(
                scene,
                self._sent(batch.world_from_camera.flatten(0, 1)),
                self._sent(batch.times.flatten()),
                self._noise,
                size,
            )
        images, depth = (each.unflatten(0, (-1, batch.frames)) for each in (images, depth))
        judged = judged.pin_memory() if self.device.type == 'cuda' else judged
        return Seen(
            images, depth, self._sent(judged), self._sent(batch.camera_from_first), self._sent(batch.field_of_view)
        )

    def _sent(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device, non_blocking=True)

    def answer(self, seen: Seen) -> Answers:
        """One pass over clips.

        Depth is predicted for the judged frames of each clip, poses for all. On CUDA in bfloat16, where that is safe.
        """
        clips, frames, *size = seen.images.shape[:4]
        size, network = tuple(size), self.network
        patches = (size[0] // PATCH, size[1] // PATCH)
        memory = self._memories.setdefault(frames, self._memory(frames))
        is_first = torch.arange(frames, device=self.device) == 0
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == 'cuda'):
            prepared = network.normalise(seen.images.permute(0, 1, 4, 2, 3).float() / 255)
            *tapped, last = network.aggregator(prepared, is_first, network.aggregator.grid(patches), memory)
            estimates = network.camera_head.estimates(last[:, :, 0], memory)
            tapped = [tokens[:, seen.judged].flatten(0, 1) for tokens in tapped]
            if not self._has_tables:
                # Once as it is: it then has the tables that it keeps, and is not compiled again for having them.
                network.depth_head([tokens[:1].detach() for tokens in tapped], patches, size)
                self._has_tables = True
            raw = self._dense(tapped, patches, size)
        target = seen.camera_from_first
        scale = losses.first_frame_scale(seen.depth[:, 0], seen.field_of_view)
        target = torch.cat((target[..., :3] / scale[:, None, None], target[..., 3:]), dim=-1)
        unit = (seen.depth[:, seen.judged] / scale[:, None, None, None]).flatten(0, 1)
        return Answers(raw, unit, estimates, target, seen.field_of_view[:, None].expand(clips, frames, 2))

    def learn(self, seen: Seen) -> dict[str, torch.Tensor]:
        """The loss and its parts; gradients lie in the weights then. As recorded, where a step of that shape has been."""
        recorded = self._recorded.get(seen.images.shape)
        return self._learn(seen) if recorded is None else recorded.repeat(seen)

    def _learn(self, seen: Seen) -> dict[str, torch.Tensor]:
        parts = self.judge(self.answer(seen).flat())
        parts['loss'].backward()
        return {name: value.detach() for name, value in parts.items()}

    def record(self, seen: Seen) -> None:
        """Record a step on clips of that shape; raises PieceFailed where it cannot be, or goes wrong."""
        beside = next(iter(self._recorded.values()), None)
        self._recorded[seen.images.shape] = RecordedStep(self._learn, seen, self.network, beside)
