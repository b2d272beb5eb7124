"""Training augmentation: drawn per sample in the loader, applied to the batch on the device."""

from mvit_video.data.augmentation.flip import mirrored_labels
from mvit_video.data.augmentation.mixup import Mix, Mixup, mix_clips, mix_labels
from mvit_video.data.augmentation.recipe import (
    Augmentation,
    ClipChoices,
    augment,
    augmentation_from_config,
    mixup_from_config,
)

__all__ = [
    "Augmentation",
    "ClipChoices",
    "Mix",
    "Mixup",
    "augment",
    "augmentation_from_config",
    "mirrored_labels",
    "mix_clips",
    "mix_labels",
    "mixup_from_config",
]
