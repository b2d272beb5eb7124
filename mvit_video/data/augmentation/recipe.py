"""The augmentation of a training run: what is drawn per clip in the loader, and how the device applies it.

A worker draws `ClipChoices` from the sample's own generator, and it travels with the uint8 clip. On the device
`augment` takes the batch through operations -> normalisation -> erasing, clip by clip and frame by frame alike; the
result of a clip depends on nothing but its pixels and its choices: not on the device, the number of workers or
the other clips of the batch. The mirror flip comes earlier, with the crop (spatial.py); the operations do not
care, for each is drawn with either sign alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from mvit_video.data.augmentation.color import draw_color_jitter
from mvit_video.data.augmentation.erasing import Box, RandomErasing, erase
from mvit_video.data.augmentation.mixup import Mixup
from mvit_video.data.augmentation.operations import apply_operations
from mvit_video.data.augmentation.randaugment import Operation, RandAugment
from mvit_video.errors import InputError


@dataclass(frozen=True)
class ClipChoices:
    """All that chance decided about one clip's augmentation: plain numbers and strings.

    Attributes:
        operations: to be applied in order.
        interpolation: of the operations that move pixels.
        boxes: to be erased after normalisation.
        fill: what the boxes are filled with, a mode of `erasing`.
        noise_key: decides the noise in the boxes.
    """

    operations: tuple[Operation, ...] = ()
    interpolation: str = "bicubic"
    boxes: tuple[Box, ...] = ()
    fill: str = "pixel"
    noise_key: int = 0


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training clip. The defaults do nothing.

    Attributes:
        rand_augment: its policy, or None.
        color_jitter: strength of brightness, contrast and saturation jitter, where there is no policy.
        interpolation: "bicubic" or "bilinear".
        erasing: random erasing, or None.
    """

    rand_augment: RandAugment | None = None
    color_jitter: float = 0.0
    interpolation: str = "bicubic"
    erasing: RandomErasing | None = None

    def draw(self, rng: np.random.Generator, height: int, width: int) -> ClipChoices:
        """The choices for one clip of height x width pixels."""
        if self.rand_augment is not None:
            operations = self.rand_augment.draw(rng)
        elif self.color_jitter > 0:
            operations = draw_color_jitter(self.color_jitter, rng)
        else:
            operations = ()
        if self.erasing is None:
            return ClipChoices(operations, self.interpolation)
        boxes = self.erasing.draw(rng, height, width)
        key = int(rng.integers(2**63))
        return ClipChoices(operations, self.interpolation, boxes, self.erasing.mode, key)


def augmentation_from_config(cfg: CfgNode) -> Augmentation:
    """What the section AUG asks for.

    Raises:
        InputError: a value that cannot be, and what it may be.
    """
    aug = cfg.AUG
    if not aug.ENABLE:
        return Augmentation()
    if aug.COLOR_JITTER < 0:
        raise InputError(f"AUG.COLOR_JITTER is {aug.COLOR_JITTER}; it is 0 (off) or above")
    if not 0 <= aug.RE_PROB <= 1:
        raise InputError(f"AUG.RE_PROB is {aug.RE_PROB}; a probability lies in 0 ... 1")
    if aug.RE_COUNT < 1:
        raise InputError(f"AUG.RE_COUNT is {aug.RE_COUNT}; it must be above 0")
    erasing = RandomErasing(aug.RE_PROB, aug.RE_MODE, aug.RE_COUNT) if aug.RE_PROB > 0 else None
    return Augmentation(
        rand_augment=RandAugment.parse(aug.AA_TYPE) if aug.AA_TYPE else None,
        color_jitter=aug.COLOR_JITTER,
        interpolation=aug.INTERPOLATION,
        erasing=erasing,
    )


def mixup_from_config(cfg: CfgNode) -> Mixup | None:
    """What the section MIXUP asks for; None where it is off.

    Raises:
        InputError: a value that cannot be, and what it may be.
    """
    mixup = cfg.MIXUP
    if not mixup.ENABLE or mixup.PROB == 0:
        return None
    return Mixup(mixup.ALPHA, mixup.CUTMIX_ALPHA, mixup.PROB, mixup.SWITCH_PROB, mixup.MODE)


@torch.no_grad()
def augment(
    clips: Tensor, choices: Sequence[ClipChoices], normalise: Callable[[Tensor], Tensor]
) -> Tensor:
    """Augmented, normalised clips (B, 3, T, H, W) float, on the device of `clips`.

    Args:
        clips: (B, 3, T, H, W) uint8; not changed.
        choices: one per clip.
        normalise: from uint8 to normalised float, such as `Preprocessing.normalise`.
    """
    changed = [
        apply_operations(clip, choice.operations, choice.interpolation)
        for clip, choice in zip(clips, choices, strict=True)
    ]
    result = normalise(torch.stack(changed))
    for clip, choice in zip(result, choices, strict=True):
        erase(clip, choice.boxes, choice.fill, choice.noise_key)
    return result
