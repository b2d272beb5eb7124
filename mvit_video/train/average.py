"""The averaged weights of a training: an exponential moving average that forgets the first weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class AveragedWeights(AveragedModel):
    """A copy of a model whose parameters follow the model's; its buffers are the model's own.

    The decay of update t, counted from 0, is the lesser of `decay` and (1 + t) / (warmup + t): while there are few
    updates the average spans few, so that it is not held back by the weights that training began with (the rule of
    tf.train.ExponentialMovingAverage). A warm-up of 1 is none.

    An update that was left out leaves the average alone and is not counted. Whether it was is known to the device only
    until much later, so t and the decay are computed there.

    Attributes:
        module: the averaged model.
    """

    def __init__(self, model: nn.Module, decay: float, warmup: float, device: torch.device) -> None:
        super().__init__(model, multi_avg_fn=self._move)
        self._decay, self._warmup = decay, warmup
        self._updates = torch.zeros((), dtype=torch.int64, device=device)
        self._pace = torch.zeros((), device=device)
        self.restart(0)

    def restart(self, updates: int) -> None:
        """Goes on after `updates` updates that were not left out."""
        self._updates.fill_(updates)
        self.n_averaged.fill_(
            1
        )  # at 0 AveragedModel would copy the weights, be the update left out or not

    def follow(self, model: nn.Module, left_out: Tensor) -> None:
        """One update.

        Args:
            left_out: () bool, on the device.
        """
        decay = ((1 + self._updates) / (self._warmup + self._updates)).clamp(max=self._decay)
        self._pace = torch.where(left_out, 0.0, 1 - decay)
        self.update_parameters(model)
        self._updates += ~left_out

    def _move(self, averaged: list[Tensor], current: list[Tensor], _: Tensor) -> None:
        step = torch._foreach_sub(current, averaged)
        torch._foreach_mul_(step, self._pace)
        torch._foreach_add_(averaged, step)
