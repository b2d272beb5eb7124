"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899) of clips, with soft targets.

Videos are paired with their neighbours in the order of the batch: the first with the second, the third with the
fourth; the k-th clip of a video is mixed with the k-th of its partner. What is mixed and how much is drawn by
`Mixup.draw` from the generator of the update, for the whole batch and so alike on all ranks; `mix_clips` and
`mix_labels` only carry it out, each rank on its share. Ranks hold neighbours (sampler.py), so nothing about mixing
depends on the number of ranks or micro-batches as long as each share is even. The last video of an odd share has no
partner and stays as it is.
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

    def part(self, start: int, length: int) -> Mix:
        """What happens to `length` clips of the batch from `start` on."""
        return Mix(self.share[start : start + length], self.box[start : start + length])


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


def partners(num_clips: int, clips_per_video: int = 1) -> list[int]:
    """The partner of each clip, the clips of a video side by side. The last video of an odd number is its own."""
    every = range(num_clips)
    across = [(i // clips_per_video ^ 1) * clips_per_video + i % clips_per_video for i in every]
    return [other if other < num_clips else i for i, other in zip(every, across, strict=True)]


def mix_clips(clips: Tensor, mix: Mix, clips_per_video: int = 1) -> Tensor:
    """Mixes the batch (B, C, T, H, W) float in place, and returns it."""
    for first, second in enumerate(partners(len(clips), clips_per_video)):
        if first < second:
            before = clips[first].clone()
            _mix_into(clips[first], clips[second], mix.share[first], mix.box[first])
            _mix_into(clips[second], before, mix.share[second], mix.box[second])
    return clips


def _mix_into(clip: Tensor, partner: Tensor, share: float, box: Box | None) -> None:
    if box is not None:
        top, left, height, width = box
        region = (..., slice(top, top + height), slice(left, left + width))
        clip[region] = partner[region]
    elif share < 1:
        clip.lerp_(partner, 1 - share)


def mix_labels(labels: Tensor, num_classes: int, mix: Mix, clips_per_video: int = 1) -> Tensor:
    """Targets (B, num_classes) for `F.cross_entropy`: the share of each class in clips mixed by `mix_clips`.

    Args:
        labels: (B,) int64, of the clips before they were mixed.
    """
    targets = F.one_hot(labels, num_classes).float()
    share = torch.tensor(mix.share, device=labels.device)[:, None]
    return targets * share + targets[partners(len(labels), clips_per_video)] * (1 - share)
