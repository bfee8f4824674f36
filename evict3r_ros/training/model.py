# Copyright 2026 the evict3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The network as training sees it: weights to begin with, one pass over clips, the loss, and what is compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MethodType
from typing import ParamSpec, TypeVar

import torch
from torch import nn

from evict3r_ros.network import CausalMemory, StreamVGGT
from evict3r_ros.network.layers import Block
from evict3r_ros.network.presets import PATCH
from evict3r_ros.synthetic.photos import Photos
from evict3r_ros.synthetic.render import SKY_DEPTH, Frames, Pigments, render_frames
from evict3r_ros.synthetic.scene import Scene
from evict3r_ros.training import losses
from evict3r_ros.training.batches import Batch, per_frame
from evict3r_ros.training.compiled import PARTS, RECORDING, compiled
from evict3r_ros.training.memory import FlexMemory
from evict3r_ros.training.recording import RecordedStep
from evict3r_ros.training.rendered_clips import RenderedClips

P = ParamSpec('P')
R = TypeVar('R')

_PLAIN_FRAMES = 32


@torch.no_grad()
def initialise(network: StreamVGGT, seed: int) -> None:
    """Set weights to begin training with.

    Torch's own for matrices and kernels, those below for what torch leaves at 0 or 1.
    """
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
class Outputs:
    """What a pass over clips says, and the truth beside it in units of the scale."""

    raw: torch.Tensor
    """(clips * supervised, 2, H, W) of the dense head."""
    depth: torch.Tensor
    """(clips * supervised, H, W) true depth."""
    estimates: list[torch.Tensor]
    """(clips, frames, 9) after each round."""
    target: torch.Tensor
    """(clips, frames, 7) true translation and quaternion xyzw of camera-from-first."""
    field_of_view: torch.Tensor
    """(clips, frames, 2)"""
    visible: torch.Tensor
    """(clips, frames)"""

    def flat(self) -> Outputs:
        """Clips and frames as one dimension: of one shape whatever a clip's length, so that the loss compiles once."""
        return replace(
            self,
            estimates=[estimate.flatten(0, 1) for estimate in self.estimates],
            target=self.target.flatten(0, 1),
            field_of_view=self.field_of_view.flatten(0, 1),
            visible=self.visible.flatten(0, 1),
        )


def loss_terms(outputs: Outputs) -> dict[str, torch.Tensor]:
    """Return the loss and its parts."""
    depth_loss, depth_error = losses.depth_loss(outputs.raw, outputs.depth)
    pose_loss = losses.pose_loss(outputs.estimates, outputs.target, outputs.field_of_view, outputs.visible)
    return {
        'loss': depth_loss + losses.POSE_WEIGHT * pose_loss,
        'depth': depth_loss.detach(),
        'log_depth_error': depth_error.detach(),
        'pose': pose_loss.detach(),
    }


def _render_in_parts(
    scene: Scene, frames: Frames, pigments: Pigments, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """As ``render_frames``, a few frames at a time: not compiled, it keeps everything that it computes on the way."""
    images, depths = [], []
    for part in torch.arange(len(frames.time), device=frames.time.device).split(_PLAIN_FRAMES):
        those = Frames(frames.world_from_camera[part], frames.time[part], frames.turn[part])

        def of_part(each: torch.Tensor, part: torch.Tensor = part) -> torch.Tensor:
            return each[part]

        image, depth = render_frames(scene.map(of_part), those, pigments, size)
        images.append(image)
        depths.append(depth)
    return torch.cat(images), torch.cat(depths)


class TrainingModel:
    """A network with what training needs around it; compiled part by part on CUDA, as it is elsewhere.

    Blocks are compiled by their two halves, before and after attention, and all alike blocks share what comes out: to
    compile the whole network took 95 s, and again for each length of clip.
    """

    def __init__(self, network: StreamVGGT, compile_parts: bool, photos: Photos | None = None):
        self.network, self.device = network, network.device
        self._pigments = Pigments.on(self.device, photos)
        self.compiled = set(PARTS) if compile_parts else set()
        """The parts that are compiled."""
        self._compile_parts()

    def disable(self, part: str) -> None:
        """From now on that part runs as written, which is slower."""
        self.compiled.discard(part)
        if part == RECORDING:
            self.discard_recordings()
            return
        torch._dynamo.reset()
        self._compile_parts()

    def discard_recordings(self) -> None:
        """Run steps as they are from now on; what recorded ones had allocated is free."""
        self._recorded.clear()

    def _compile_parts(self) -> None:
        torch._dynamo.config.recompile_limit = 64
        network = self.network

        def part(name: str, function: Callable[P, R], plain: Callable[P, R] | None = None) -> Callable[P, R]:
            if name in self.compiled:
                return compiled(name, function)
            return plain or function

        self._render_frames = part('render', render_frames, _render_in_parts)
        self.loss_terms = part('loss', loss_terms)
        self._recorded: dict[torch.Size, RecordedStep] = {}
        self._memory: Callable[[int], CausalMemory] = FlexMemory if 'attention' in self.compiled else CausalMemory
        self._memories: dict[int, CausalMemory] = {}
        before, after = part('blocks', Block.before), part('blocks', Block.after)
        for module in network.modules():
            if isinstance(module, Block):
                module.before = MethodType(before, module)  # type: ignore[method-assign]  # compiled, it replaces its own
                module.after = MethodType(after, module)  # type: ignore[method-assign]  # compiled, it replaces its own
        if 'dense' in self.compiled:
            network.depth_head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        self._dense = part('dense', network.depth_head.forward)
        self._has_tables = False

    def render(self, batch: Batch, size: tuple[int, int], supervised: torch.Tensor) -> RenderedClips:
        """Render a batch's images, its truth beside them; supervised: (n,) on the CPU. Nothing waits for the device."""
        scene = per_frame(batch.scene, batch.frames, self.device)
        flat = (batch.world_from_camera.flatten(0, 1), batch.times.flatten(), batch.turns.flatten(0, 1))
        visible = self._sent(batch.visible)
        with torch.no_grad():
            frames = Frames(*(self._sent(each) for each in flat))
            images, depth = self._render_frames(scene, frames, self._pigments, size)
            images, depth = (each.unflatten(0, (-1, batch.frames)) for each in (images, depth))
            images.mul_(visible[..., None, None, None].to(images.dtype))
            depth.masked_fill_(visible[..., None, None] == 0, SKY_DEPTH)
        supervised = supervised.pin_memory() if self.device.type == 'cuda' else supervised
        return RenderedClips(
            images,
            depth,
            self._sent(supervised),
            self._sent(batch.camera_from_first),
            self._sent(batch.field_of_view),
            visible,
        )

    def _sent(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device, non_blocking=True)

    def forward(self, rendered: RenderedClips) -> Outputs:
        """One pass over clips.

        Depth is predicted for the supervised frames of each clip, poses for all. On CUDA in bfloat16, where that is
        safe.
        """
        clips, frames, height, width = rendered.images.shape[:4]
        size, network = (height, width), self.network
        patches = (size[0] // PATCH, size[1] // PATCH)
        memory = self._memories.setdefault(frames, self._memory(frames))
        is_first = torch.arange(frames, device=self.device) == 0
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == 'cuda'):
            prepared = network.normalise(rendered.images.permute(0, 1, 4, 2, 3).float() / 255)
            *tapped, last = network.aggregator(prepared, is_first, network.aggregator.grid(patches), memory)
            estimates = network.camera_head.estimates(last[:, :, 0], memory)
            tapped = [tokens[:, rendered.supervised].flatten(0, 1) for tokens in tapped]
            if not self._has_tables:
                # Once as it is: it then has the tables that it keeps, and is not compiled again for having them.
                network.depth_head([tokens[:1].detach() for tokens in tapped], patches, size)
                self._has_tables = True
            raw = self._dense(tapped, patches, size)
        target = rendered.camera_from_first
        scale = losses.first_frame_scale(rendered.depth[:, 0], rendered.field_of_view)
        target = torch.cat((target[..., :3] / scale[:, None, None], target[..., 3:]), dim=-1)
        unit = (rendered.depth[:, rendered.supervised] / scale[:, None, None, None]).flatten(0, 1)
        field_of_view = rendered.field_of_view[:, None].expand(clips, frames, 2)
        return Outputs(raw, unit, estimates, target, field_of_view, rendered.visible)

    def forward_backward(self, rendered: RenderedClips) -> dict[str, torch.Tensor]:
        """Return the loss and its parts; gradients lie in the weights then.

        As recorded, where a step of that shape has been.
        """
        recorded = self._recorded.get(rendered.images.shape)
        return self._forward_backward(rendered) if recorded is None else recorded.repeat(rendered)

    def _forward_backward(self, rendered: RenderedClips) -> dict[str, torch.Tensor]:
        parts = self.loss_terms(self.forward(rendered).flat())
        parts['loss'].backward()
        return {name: value.detach() for name, value in parts.items()}

    def record(self, rendered: RenderedClips) -> None:
        """Record a step on clips of that shape; raises PartFailed where it cannot be, or goes wrong."""
        height, width = rendered.images.shape[2:4]
        self.network.depth_head.keep_positions(self, (height // PATCH, width // PATCH), (height, width))
        beside = next(iter(self._recorded.values()), None)
        self._recorded[rendered.images.shape] = RecordedStep(self._forward_backward, rendered, self.network, beside)
