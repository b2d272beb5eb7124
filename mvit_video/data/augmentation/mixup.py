"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899) of clips, with soft targets.

Each clip is mixed with its mirror image in the order of its rank's micro-batch: the first with the last, the second
with the last but one. What is mixed and how much is drawn by `Mixup.draw` from the generator of the update, alike on
all ranks, so that a resumed run mixes as the uninterrupted one (with another number of ranks: as much, but with other
partners); `mix_clips` and `mix_labels` only carry it out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mvit_video.errors import InputError

MODES = ("batch", "elem")
Box = tuple[int, int, int, int]  # top, left, height, width; the same in every frame


@dataclass(frozen=True)
class Mix:
    """What happens to a batch, clip by clip. In "batch" mode all entries are equal.

    Attributes:
        share: share (0 ... 1) that each clip and its label keep; 1 for a clip left alone.
        box: where CutMix pastes the partner; None for mixup.
    """

    share: tuple[float, ...]
    box: tuple[Box | None, ...]


@dataclass(frozen=True)
class Mixup:
    """How batches are mixed.

    Attributes:
        alpha: mixup's share comes from Beta(alpha, alpha); 0: no mixup.
        cutmix_alpha: the same for CutMix; 0: no CutMix.
        probability: chance of a batch (or clip) to be mixed at all.
        switch_probability: chance of CutMix rather than mixup, where both are on.
        mode: "batch" draws once for all clips, "elem" for every clip.
    """

    alpha: float = 0.8
    cutmix_alpha: float = 1.0
    probability: float = 1.0
    switch_probability: float = 0.5
    mode: str = "batch"

    def __post_init__(self) -> None:
        if min(self.alpha, self.cutmix_alpha) < 0 or self.alpha == self.cutmix_alpha == 0:
            raise InputError(
                f"MIXUP.ALPHA is {self.alpha} and MIXUP.CUTMIX_ALPHA {self.cutmix_alpha}; "
                "at least one must be above 0, or set MIXUP.ENABLE False"
            )
        for name, value in (("PROB", self.probability), ("SWITCH_PROB", self.switch_probability)):
            if not 0 <= value <= 1:
                raise InputError(f"MIXUP.{name} is {value}; a probability lies in 0 ... 1")

    def draw(self, rng: np.random.Generator, batch: int, height: int, width: int) -> Mix:
        """What happens to a batch of `batch` clips of height x width pixels."""
        if self.mode == "batch":
            share, box = self._draw_one(rng, height, width)
            return Mix((share,) * batch, (box,) * batch)
        pairs = [self._draw_one(rng, height, width) for _ in range(batch)]
        return Mix(tuple(share for share, _ in pairs), tuple(box for _, box in pairs))

    def _draw_one(
        self, rng: np.random.Generator, height: int, width: int
    ) -> tuple[float, Box | None]:
        if rng.random() >= self.probability:
            return 1.0, None
        cut = self.cutmix_alpha > 0 and (self.alpha == 0 or rng.random() < self.switch_probability)
        alpha = self.cutmix_alpha if cut else self.alpha
        share = float(rng.beta(alpha, alpha))
        if not cut:
            return share, None
        box = _draw_box(rng, share, height, width)
        return 1 - box[2] * box[3] / (height * width), box


def _draw_box(rng: np.random.Generator, share: float, height: int, width: int) -> Box:
    """A box of (1 - share) of the frame about a random pixel, cut at the borders (so the real share may be larger)."""
    half_height = int(height * (1 - share) ** 0.5) // 2
    half_width = int(width * (1 - share) ** 0.5) // 2
    row, column = int(rng.integers(height)), int(rng.integers(width))
    top, bottom = max(row - half_height, 0), min(row + half_height, height)
    left, right = max(column - half_width, 0), min(column + half_width, width)
    return top, left, bottom - top, right - left


def mix_clips(clips: Tensor, mix: Mix) -> Tensor:
    """Mixes the batch (B, C, T, H, W) float in place, and returns it."""
    for first in range(len(clips) // 2):  # the middle one of an odd batch is its own partner
        last = len(clips) - 1 - first
        partner = clips[first].clone()
        _mix_into(clips[first], clips[last], mix.share[first], mix.box[first])
        _mix_into(clips[last], partner, mix.share[last], mix.box[last])
    return clips


def _mix_into(clip: Tensor, partner: Tensor, share: float, box: Box | None) -> None:
    if box is not None:
        top, left, height, width = box
        region = (..., slice(top, top + height), slice(left, left + width))
        clip[region] = partner[region]
    elif share < 1:
        clip.lerp_(partner, 1 - share)


def mix_labels(labels: Tensor, num_classes: int, mix: Mix) -> Tensor:
    """Targets (B, num_classes) for `F.cross_entropy`: the share of each class in clips mixed by `mix_clips`.

    Args:
        labels: (B,) int64, of the clips before they were mixed.
    """
    targets = F.one_hot(labels, num_classes).float()
    share = torch.tensor(mix.share, device=labels.device)[:, None]
    return targets * share + targets.flip(0) * (1 - share)
