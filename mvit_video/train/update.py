"""One update of the weights: forward and backward of every micro-batch, check, clip, step, average.

What makes an update the same whoever computes it: micro-batches and ranks have equal shares, so the mean of their
gradients is that of the whole batch; and dropout is seeded anew for each forward pass.

What makes it finite: an update whose loss or gradient is not, on any rank, is left out, and nothing remembers it. The
host learns of that much later, so the device decides. The loss is summed over ranks before the step, and the gradient
has been by then, so every rank decides alike. The optimisers are fused ones, whose kernels take a flag `found_inf` and
then write nothing (torch made it for GradScaler): no copy of the weights is needed to take a step back. The average
moves by nothing; BatchNorm's statistics and the gradient scale, which are few numbers, are put back.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from mvit_video.data.loader import TrainBatch
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.evaluate.scoring import autocast
from mvit_video.models.blocks import compile_blocks
from mvit_video.train.average import AveragedWeights
from mvit_video.train.inputs import TrainInputs
from mvit_video.train.memory import fit_to_budget
from mvit_video.train.optimizer import build_optimizer
from mvit_video.train.parallel import replicate, skeleton, whole, whole_state
from mvit_video.train.probe import TrainedParts
from mvit_video.world import World


class Outcome(NamedTuple):
    """Of an update. Tensors on the device, so that nobody waits for them who does not look.

    Attributes:
        loss: mean over the clips of all ranks.
        grad_norm: L2 norm of the gradient before clipping, the same on every rank.
        finite: whether loss and gradient are; if not, the update was left out. The same on every rank.
        part_losses: (micro-batches,) mean over this rank's clips in each.
    """

    loss: Tensor
    grad_norm: Tensor
    finite: Tensor
    part_losses: Tensor


class Updater:
    """The model and all that changes with it: optimiser, gradient scaler, averaged weights.

    Attributes:
        model: the bare model, not wrapped; this rank's shards of it with TRAIN.FSDP.
        inputs: what makes the model's inputs of this rank's batches.
        ema: the averaged weights, None unless SOLVER.EMA_DECAY is set.
        skipped: () int64 on the device, updates left out so far: those that were not finite, and those whose gradient
            was too large for float16 (the gradient scale falls then; that is no fault).
    """

    def __init__(
        self, model: nn.Module, cfg: CfgNode, preprocessing: Preprocessing, world: World
    ) -> None:
        self.model = model
        self._seed, self._precision = cfg.RNG_SEED, cfg.TRAIN.PRECISION
        self._max_norm, self._smoothing = (
            cfg.SOLVER.CLIP_GRAD_L2NORM,
            cfg.MIXUP.LABEL_SMOOTH_VALUE,
        )
        self._world = world
        self.inputs = TrainInputs(cfg, preprocessing, world)
        self._trained = TrainedParts(model, cfg)
        self.ema = None
        if cfg.SOLVER.EMA_DECAY:
            self.ema = AveragedWeights(
                model, cfg.SOLVER.EMA_DECAY, cfg.SOLVER.EMA_WARMUP, world.device
            )
        if cfg.TRAIN.MEMORY_BUDGET:
            fit_to_budget(model, cfg, world)
        self._sharded = cfg.TRAIN.FSDP and world.size > 1
        self._skeleton = skeleton(model) if self._sharded else None
        averaged = {} if self.ema is None else {"ema": self.ema.module}
        modules = {"model": model, **averaged}
        if cfg.MODEL.COMPILE:
            for module in modules.values():
                compile_blocks(module)
        if self._sharded:
            from mvit_video.train.sharded import shard

            for module in modules.values():
                shard(module, world)
        self.optimizer = build_optimizer(model, cfg)
        self._shards = None
        if cfg.TRAIN.FSDP:
            from mvit_video.train.sharded import ShardedState

            self._shards = ShardedState(modules, self.optimizer, world)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self._precision == "float16")
        self.scaler.scale(torch.zeros((), device=world.device))  # its tensors exist from here on
        self.skipped = torch.zeros((), dtype=torch.int64, device=world.device)
        # Unless such updates are to be passed over, nothing follows one until the host has heard of it.
        self._halts = cfg.TRAIN.NONFINITE != "skip"
        self._halted = torch.zeros((), dtype=torch.bool, device=world.device)
        self._replica = model if self._sharded else replicate(model, world)

    def update(self, parts: Sequence[TrainBatch], step: int, learning_rate: float) -> Outcome:
        """Changes the weights once.

        Args:
            parts: this rank's micro-batches, of equal size.
            step: updates done before this one.
        """
        self._trained.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["lr_scale"]
        volatile = [*self.model.buffers(), *self._scaler_tensors()]
        before = [tensor.clone() for tensor in volatile]
        losses = []
        for number, part in enumerate(parts):
            # Copies' gradients meet across ranks in the backward pass of the last micro-batch only. Shards' always do:
            # a rank has no room for gradients of the whole model.
            alone = number < len(parts) - 1
            with self._without_sync() if alone else nullcontext():
                losses.append(self._backward(part, step, number, len(parts)))
        part_losses = torch.stack(losses)
        loss = self._world.all_reduce_sum(part_losses.mean()) / self._world.size
        grad_norm = self._clip()
        finite = loss.isfinite() & (grad_norm.isfinite() | self._scale_can_fall()) & ~self._halted
        self._step(left_out=~(finite & grad_norm.isfinite()))
        for tensor, old in zip(volatile, before, strict=True):
            tensor.copy_(torch.where(finite, tensor, old))
        if self._halts:
            self._halted |= ~finite
        return Outcome(loss, grad_norm, finite, part_losses)

    def _backward(self, part: TrainBatch, step: int, number: int, num_parts: int) -> Tensor:
        """Adds a micro-batch's share to the gradient; returns its loss."""
        clips, target = self.inputs.prepare(part, step, number, num_parts)
        torch.manual_seed(forward_seed(self._seed, step, number, self._world.rank))
        with autocast(clips.device, self._precision):
            logits = self._replica(clips)
            loss = F.cross_entropy(logits, target, label_smoothing=self._smoothing)
        self.scaler.scale(loss / num_parts).backward()
        return loss.detach()

    def _step(self, left_out: Tensor) -> None:
        """Optimiser, scaler and average take the gradient, or nothing where `left_out`."""
        self.optimizer.found_inf = left_out.float()
        self.optimizer.step()
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.follow(self.model, left_out)
        self.skipped += left_out

    def _scaler_tensors(self) -> list[Tensor]:
        """Scale and growth tracker of the gradient scaler, whose public readers would wait for the device."""
        scaler = self.scaler
        return [scaler._scale, scaler._growth_tracker] if scaler.is_enabled() else []

    def _scale_can_fall(self) -> Tensor | bool:
        """Whether an infinite gradient may be the doing of a gradient scale that is still to come down."""
        return self.scaler._scale > 1 if self.scaler.is_enabled() else False

    def _clip(self) -> Tensor:
        """Scales the gradients down to SOLVER.CLIP_GRAD_L2NORM, if they are above it; returns their norm before."""
        self.scaler.unscale_(self.optimizer)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = whole(get_total_norm([p.grad for p in parameters]))
        if self._max_norm:
            clip_grads_with_norm_(parameters, self._max_norm, norm)
        return norm

    def _without_sync(self) -> AbstractContextManager[None]:
        is_copy = self._world.size > 1 and not self._sharded
        return self._replica.no_sync() if is_copy else nullcontext()

    def whole_model(self) -> nn.Module:
        """The model to validate, test and keep: averaged where there is an average, and never in shards.

        To be called on every rank.
        """
        model = self.model if self.ema is None else self.ema.module
        if not self._sharded:
            return model
        plain = copy.deepcopy(self._skeleton)
        plain.load_state_dict(whole_state(model), assign=True)
        return plain

    def state_dict(self, folder: Path = Path(), step: int = 0) -> dict[str, Any]:
        """The entries model, ema, optimizer and scaler of a step's checkpoint; with TRAIN.FSDP what stands for them.

        To be called on every rank.

        Args:
            folder: of the checkpoints, which TRAIN.FSDP leaves the tensors in.
        """
        scaler = {"scaler": self.scaler.state_dict()}
        if self._shards is not None:
            return self._shards.save(folder, step) | scaler
        return {
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **scaler,
        }

    def load_state_dict(
        self, state: dict[str, Any], step: int, skipped: int = 0, shards: Path | None = None
    ) -> None:
        """Goes on from `state`, saved after `step` updates, of which `skipped` were left out.

        Args:
            shards: where its tensors lie, with TRAIN.FSDP.
        """
        if self._shards is not None:
            self._shards.load(state, shards)
        else:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.ema is not None:
                self.ema.module.load_state_dict(state["ema"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.restart(step - skipped)
        self.skipped.fill_(skipped)
        self._halted.fill_(False)


def forward_seed(seed: int, step: int, part: int, rank: int) -> int:
    """Seed of the dropout in one forward pass: another one for every update, micro-batch and rank."""
    words = (seed & 0xFFFF_FFFF_FFFF_FFFF, step, part, rank)
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
