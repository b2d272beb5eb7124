"""One update of the weights: forward and backward of every micro-batch, clip, step, average.

Also what makes an update the same whoever computes it: micro-batches and ranks have equal shares, so the mean
of their gradients is that of the whole batch; and dropout is seeded anew for each forward pass.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mvit_video.data.augmentation import augment, mix_clips, mix_labels, mixup_from_config
from mvit_video.data.loader import TrainBatch
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.seeding import mix_rng
from mvit_video.evaluate.scoring import autocast
from mvit_video.train.optimizer import build_optimizer
from mvit_video.train.probe import TrainedParts
from mvit_video.world import World


class Outcome(NamedTuple):
    """Of an update. Tensors on the device, so that nobody waits for them who does not look.

    Attributes:
        loss: mean over this rank's clips.
        grad_norm: L2 norm of the gradient before clipping, the same on every rank.
        finite: whether loss and gradient are.
    """

    loss: Tensor
    grad_norm: Tensor
    finite: Tensor


class Updater:
    """The model and all that changes with it: optimiser, gradient scaler, averaged weights.

    Attributes:
        model: the bare model, not wrapped.
        ema: its averaged copy, None unless SOLVER.EMA_DECAY is set.
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
        self._preprocessing, self._world = preprocessing, world
        self._mixup, self._num_classes = mixup_from_config(cfg), cfg.MODEL.NUM_CLASSES
        self._trained = TrainedParts(model, cfg)
        self.ema = None
        if cfg.SOLVER.EMA_DECAY:
            self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(cfg.SOLVER.EMA_DECAY))
        self.optimizer = build_optimizer(model, cfg)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self._precision == "float16")
        if cfg.MODEL.COMPILE:
            model.compile()
        self._replica = _replicate(model, world)

    def update(self, parts: Sequence[TrainBatch], step: int, learning_rate: float) -> Outcome:
        """Changes the weights once.

        Args:
            parts: this rank's micro-batches, of equal size.
            step: updates done before this one.
        """
        self._trained.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["lr_scale"]
        loss = torch.zeros((), device=self._world.device)
        for number, part in enumerate(parts):
            # Gradients meet across ranks in the backward pass of the last micro-batch only.
            alone = number < len(parts) - 1
            with self._without_sync() if alone else nullcontext():
                loss += self._backward(part, (step, number), 1 / len(parts))
        grad_norm = self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        # An infinite gradient is nothing new to the scaler: it has left this step out.
        finite = loss.isfinite() & (grad_norm.isfinite() | self.scaler.is_enabled())
        return Outcome(loss, grad_norm, finite)

    def _backward(self, part: TrainBatch, place: tuple[int, int], weight: float) -> Tensor:
        """Adds the gradient of a micro-batch times `weight`; returns its loss times `weight`."""
        clips, target = self._inputs(part, place[0])
        torch.manual_seed(forward_seed(self._seed, *place, self._world.rank))
        with autocast(clips.device, self._precision):
            logits = self._replica(clips)
            loss = F.cross_entropy(logits, target, label_smoothing=self._smoothing) * weight
        self.scaler.scale(loss).backward()
        return loss.detach()

    def _inputs(self, part: TrainBatch, step: int) -> tuple[Tensor, Tensor]:
        """Clips of a micro-batch as the model takes them, augmented and mixed, and their labels or shares of labels."""
        device = self._world.device
        clips = augment(
            part["clips"].to(device, non_blocking=True),
            part["choices"],
            self._preprocessing.normalise,
        )
        label = part["label"].to(device, non_blocking=True)
        if self._mixup is None:
            return clips, label
        mix = self._mixup.draw(mix_rng(self._seed, step), len(clips), *clips.shape[-2:])
        return mix_clips(clips, mix), mix_labels(label, self._num_classes, mix)

    def _clip(self) -> Tensor:
        """Scales the gradients down to SOLVER.CLIP_GRAD_L2NORM, if they are above it; returns their norm before."""
        self.scaler.unscale_(self.optimizer)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters])
        if self._max_norm:
            clip_grads_with_norm_(parameters, self._max_norm, norm)
        return norm

    def _without_sync(self) -> AbstractContextManager[None]:
        return self._replica.no_sync() if self._world.size > 1 else nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """The entries model, ema, optimizer and scaler of a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], step: int) -> None:
        """Goes on from `state`, saved after `step` updates."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
            self.ema.n_averaged.fill_(step)


def forward_seed(seed: int, step: int, part: int, rank: int) -> int:
    """Seed of the dropout in one forward pass: another one for every update, micro-batch and rank."""
    words = (seed & 0xFFFF_FFFF_FFFF_FFFF, step, part, rank)
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


def _replicate(model: nn.Module, world: World) -> nn.Module:
    """`model`, made to average its gradients over ranks.

    DDP lays gradients out in buckets, and after the first backward pass lays them out anew in the order in
    which they came. From three ranks on the layout decides in which order a number is summed, so a resumed run,
    whose first update is another one, would part from the run that was not killed. With find_unused_parameters
    DDP keeps the layout it began with.
    """
    if world.size == 1:
        return model
    # A gradient of one token may have odd strides along axes of length 1; it is copied, which costs nothing.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    return DistributedDataParallel(
        model,
        device_ids=[world.device] if world.device.type == "cuda" else None,
        find_unused_parameters=True,
        gradient_as_bucket_view=True,
    )
